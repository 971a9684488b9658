import pytest
import torch
from torch.nn import functional

from datamodels.train.images import networks


def images(count, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def started(network, x, seed=0):
    network.double()
    network.start(x, torch.Generator().manual_seed(seed))
    return network


def by_hand(state, x):
    """Return logits of ResNet-9 in training mode, layer by layer, from its parameters in order."""
    parameters = iter(state)

    def block(x, **options):
        x = functional.conv2d(x, next(parameters), **options)
        mean, variance = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), keepdim=True, correction=0)
        scale, shift = (next(parameters)[:, None, None] for _ in range(2))
        return ((x - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp_min(0)

    x = block(x, padding=1)
    x = block(x, stride=2, padding=2)
    x = x + block(block(x, padding=1), padding=1)
    x = functional.max_pool2d(block(x, padding=1), 2)
    x = x + block(block(x, padding=1), padding=1)
    x = block(x).amax(dim=(2, 3))
    weight, bias = parameters
    return 0.2 * (x @ weight.T + bias)


def test_resnet9_is_the_published_one():
    x = images(6)
    network = started(networks.resnet9(4, 3), x)
    pixels = x.double().permute(0, 3, 1, 2)
    mean, spread = pixels.mean(dim=(0, 2, 3), keepdim=True), pixels.std(dim=(0, 2, 3), keepdim=True, correction=0)
    expected = by_hand(list(network.parameters()), (pixels - mean) / spread)
    torch.testing.assert_close(network(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("network", "parameters"),
    [(networks.resnet9(10), 2_270_912 + 2_688 + 1_290), (networks.resnet18(1000), 11_689_512)],
    ids=["resnet9", "resnet18"],
)
def test_sizes_are_the_published_ones(network, parameters):
    """The number for ResNet-18 is torchvision's. For ResNet-9: filters, head, scale and shift of each normalisation."""
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("size", [32, 45, 64])
def test_resnet18_takes_images_of_any_size(size):
    x = images(2, size)
    assert started(networks.resnet18(5, 4), x)(x).shape == (2, 5)


@pytest.mark.parametrize("size", [16, 17, 32])
@pytest.mark.parametrize("fast", [False, True])
def test_resnet9_takes_images_of_16_pixels_and_more(size, fast):
    x = images(2, size)
    assert started(networks.resnet9(5, 2, fast=fast), x)(x).shape == (2, 5)


def test_whitened_patches_are_uncorrelated_with_variance_1():
    x = images(40) // 4 + torch.arange(40, dtype=torch.uint8)[:, None, None, None]  # correlated within an image
    network = started(networks.resnet9(3, 2, fast=True), x)
    layer = next(module for module in network.modules() if isinstance(module, networks.Whitening))
    found = layer(network.normalised(x).permute(0, 3, 1, 2)).permute(1, 0, 2, 3).reshape(networks.WHITENED, -1)
    assert torch.equal(found[:12], -found[12:])
    covariance = torch.cov(found[:12])
    torch.testing.assert_close(covariance, torch.eye(12, dtype=torch.float64), rtol=0, atol=0.02)


def test_grey_images_are_whitened_without_blowing_up():
    x = images(20)[..., :1].repeat(1, 1, 1, 3)
    network = started(networks.resnet9(3, 2, fast=True), x)
    assert torch.isfinite(network(x)).all() and network.body[0][0].filters.abs().max() < 100


def test_a_start_does_not_depend_on_what_was_before():
    x = images(8)
    fresh, used = (started(networks.resnet9(3, 2, fast=True), x, seed=4) for _ in range(2))
    used.start(images(8, seed=9), torch.Generator().manual_seed(77))
    used(images(8, seed=9))
    used.start(x, torch.Generator().manual_seed(4))
    theirs = fresh.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in used.state_dict().items() if "batches" not in name)
    assert not torch.equal(
        started(networks.resnet9(3, 2), x, 5).head.weight, started(networks.resnet9(3, 2), x).head.weight
    )


def test_blanked_pixels_do_not_matter():
    x, keep = images(4), torch.ones(4, 16, 16, 1, dtype=torch.bool)
    network = started(networks.resnet9(3, 2), x)
    keep[:, 3:7, 5:9] = False
    other = torch.where(keep, x, 255 - x)
    assert torch.equal(network(x, keep), network(other, keep))
    assert not torch.equal(network(x), network(other))
