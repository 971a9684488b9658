"""Whole trainings compared with a plain loop, and models trained one after another."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest
import torch

from datamodels.train.images import augment, precision
from datamodels.train.images import networks as resnets
from datamodels.train.images.graph_step import NetworkTrainer, Pool
from datamodels.train.images.recipe import FAST, PAPER, rates, steps
from datamodels.train.images.trainer import ArraySource
from tests.train import plain
from tests.train.tape import RefusedError, TapeStream, Unsynchronised

CPU = torch.device("cpu")
SIZE = (16, 16)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.integers(0, 256, (30, *SIZE, 3), dtype=np.uint8)
Y = GENERATOR.integers(0, 3, 30)
POOL = Pool(torch.from_numpy(X), torch.from_numpy(Y))
SHORT = plain.short(PAPER)
QUICK = dataclasses.replace(FAST, epochs=2, batch_size=6)
SUBSET = torch.arange(3, 24, 2)


def network_trainer(recipe=SHORT, pool=POOL, name="float32", stream=None, network=None):
    network = network or resnets.resnet9(3, 2, fast=recipe.optimiser == "muon")
    return NetworkTrainer(network, recipe, pool, SIZE, precision.BY_NAME[name], CPU, stream)


def trained(trainer, subset=SUBSET, seed=1):
    for _ in range(trainer.begin(subset, seed)):
        trainer.step()
    return trainer.end()


def test_a_training_is_nesterov_on_the_smoothed_cross_entropy_of_augmented_images():
    """Compared with a loop on plain tensors in float64. The network is the same; it has tests of its own."""
    ours = network_trainer(name="float64")
    count = ours.begin(SUBSET, 5)
    assert (count, 6) == steps(SHORT, len(SUBSET)) == (3, 6)
    network = resnets.resnet9(3, 2).double()
    network.load_state_dict(ours.network.state_dict(), strict=False)
    draws = augment.draw(SHORT, len(SUBSET), count, 6, SIZE, torch.Generator().manual_seed(5))
    pixels = X[SUBSET.numpy()[draws.position[0].numpy()]].reshape(-1, 3)
    np.testing.assert_allclose(network.mean.numpy(), pixels.mean(axis=0))
    plain.train(network, SHORT, POOL, SUBSET, draws, SIZE)
    for _ in range(count):
        ours.step()
    found = ours.network.state_dict()
    for name, expected in network.state_dict().items():
        if "batches" not in name:
            torch.testing.assert_close(found[name], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("recipe", [SHORT, QUICK], ids=["paper", "fast"])
def test_nothing_is_left_of_the_model_before(recipe):
    used = network_trainer(recipe)
    trained(used, torch.arange(0, 30), 9)  # longer, and of other images
    trained(used, torch.arange(0, 4), 8)  # shorter than a minibatch
    again = trained(used)
    assert torch.equal(again, trained(network_trainer(recipe))) and torch.isfinite(again).all()
    assert not torch.equal(again, trained(used, seed=2))


@pytest.mark.parametrize("recipe", [SHORT, QUICK], ids=["paper", "fast"])
def test_nothing_is_left_of_a_model_that_diverged(recipe):
    used = network_trainer(recipe)
    used.begin(SUBSET, 3)
    used.flat.state.fill_(float("nan"))
    used.step()
    assert not torch.isfinite(used.end()).any()
    assert torch.equal(trained(used), trained(network_trainer(recipe)))


@pytest.mark.parametrize("recipe", [SHORT, QUICK], ids=["paper", "fast"])
def test_a_model_knows_nothing_but_its_subset(recipe):
    """Other images outside of the subset change no bit, so no statistic of the pool is used."""
    outside = np.setdiff1d(np.arange(30), SUBSET.numpy())
    x = X.copy()
    x[outside] = 255 - x[outside]
    changed = Pool(torch.from_numpy(x), POOL.y)
    assert torch.equal(trained(network_trainer(recipe)), trained(network_trainer(recipe, changed)))


def test_minibatches_from_memory_train_the_same_model():
    fed = network_trainer(pool=ArraySource(X, Y))
    assert torch.equal(trained(fed), trained(network_trainer()))
    trained(fed, torch.arange(0, 4), 8)
    assert torch.equal(trained(fed, torch.arange(0, 20), 3), trained(network_trainer(), torch.arange(0, 20), 3))


@pytest.mark.parametrize("members", [1, 2])
def test_a_subset_of_one_example_can_be_trained_on(members):
    assert torch.isfinite(trained(network_trainer(), SUBSET[:members])).all()


@pytest.mark.parametrize(("name", "least"), [("bf16", 0.7), ("fp16", 0.9)])
def test_half_precision_goes_the_same_way(name, least):
    """The first step of a very small network agrees as far as rounding to 8 or 11 bits allows."""
    whole, half = network_trainer(), network_trainer(name=name)
    moves = []
    for each in (whole, half):
        each.begin(SUBSET, 1)
        start = each.flat.weights.clone()
        each.step()
        moves.append(each.flat.weights - start)
    cosine = torch.nn.functional.cosine_similarity(*moves, dim=0)
    assert cosine > least and half.flat.state.dtype == torch.float32


def test_mirrored_logits_are_the_mean_of_both():
    ours = network_trainer()
    model, x = trained(ours), POOL.x[:5]
    alone, mirror = ours.logits(model, x, mirrored=False), ours.logits(model, x.flip(2), mirrored=False)
    torch.testing.assert_close(ours.logits(model, x, mirrored=True), (alone + mirror) / 2)
    assert not torch.equal(alone, mirror)


@pytest.mark.parametrize("name", ["float32", "bf16", "fp16"])
@pytest.mark.parametrize("recipe", [SHORT, QUICK], ids=["paper", "fast"])
def test_a_step_recorded_once_trains_every_model_as_plain_steps_do(recipe, name):
    """With images that are resident, and with images that are fed."""
    models = ((torch.arange(0, 30), 9), (SUBSET, 1), (torch.arange(4, 29), 2))
    usual = network_trainer(recipe, POOL, name)
    expected = [trained(usual, subset, seed).clone() for subset, seed in models]
    for pool in (POOL, ArraySource(X, Y)):
        stream = TapeStream()
        recorded = network_trainer(recipe, pool, name, stream)
        for (subset, seed), weights in zip(models, expected, strict=True):
            assert torch.equal(trained(recorded, subset, seed), weights)
            recorded.logits(recorded.end(), POOL.x[:3], mirrored=False)  # which leaves the network in another mode
        assert stream.recorded == 1


def test_a_step_is_recorded_again_where_what_it_reads_has_moved():
    stream = TapeStream()
    recorded, usual = network_trainer(stream=stream), network_trainer()
    recordings = []
    for members in (
        20,
        30,
        25,
        4,
        30,
    ):  # more steps than before; no more than before; smaller minibatches; back to the first size
        subset = torch.arange(members)
        assert torch.equal(trained(recorded, subset), trained(usual, subset))
        recordings.append(stream.recorded)
    assert recordings == [1, 2, 2, 3, 4]


def test_a_large_network_is_recorded_too():
    networks = [resnets.resnet18(3, 2) for _ in range(2)]
    recorded, usual = network_trainer(stream=TapeStream(), network=networks[0]), network_trainer(network=networks[1])
    for seed in (1, 2):
        assert torch.equal(trained(recorded, seed=seed), trained(usual, seed=seed))


@pytest.mark.parametrize("recipe", [SHORT, QUICK], ids=["paper", "fast"])
def test_no_step_waits_for_the_device(recipe):
    """No operation asks the device for a value, so the host can queue all epochs."""
    ours = network_trainer(recipe)
    count = ours.begin(SUBSET, 1)
    with Unsynchronised():
        for _ in range(count):
            ours.step()
    assert torch.equal(ours.end(), trained(network_trainer(recipe)))


class Asks(torch.nn.Module):
    def forward(self, x):
        return x / x.detach().abs().max().item()


class Counts(torch.nn.Module):
    def forward(self, x):
        return x - x.detach()[x > 0].mean()


@pytest.mark.parametrize("layer", [Asks(), Counts(), torch.nn.Dropout()], ids=lambda layer: type(layer).__name__)
def test_what_a_gpu_could_not_record_is_noticed(layer):
    """Shows that the tests above can fail."""
    network = resnets.resnet9(3, 2)
    network.body.append(layer)
    with pytest.raises(RefusedError):
        network_trainer(stream=TapeStream(), network=network).begin(SUBSET, 1)


class Frozen(NetworkTrainer):
    """Takes the learning rate from the host."""

    def _step(self):
        self._rates.fill_(float(rates(SHORT, 3)[self.done]))
        self.done += 1
        super()._step()


def test_what_a_step_takes_from_the_host_is_frozen():
    """Shows that the tape replays, and does not run the step's Python code."""
    found = []
    for stream in (TapeStream(), None):
        each = Frozen(resnets.resnet9(3, 2), SHORT, POOL, SIZE, precision.BY_NAME["float32"], CPU, stream)
        each.done = 0
        count = each.begin(SUBSET, 1)
        each.done = 0
        for _ in range(count):
            each.step()
        found.append(each.end())
    assert not torch.equal(*found) and torch.equal(found[1], trained(network_trainer()))


def test_nothing_holds_on_to_a_network_trainer():
    """Its memory is freed as soon as it is dropped, without a search for cycles, because memory may have run out."""
    gc.disable()
    try:
        for stream in (None, TapeStream()):
            used = network_trainer(stream=stream)
            trained(used)
            dead = weakref.ref(used), weakref.ref(used.network)
            del used
            assert [ref() for ref in dead] == [None, None]
    finally:
        gc.enable()
