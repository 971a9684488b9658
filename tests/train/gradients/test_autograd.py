"""Gradients of networks, against plain loops of `torch.autograd.grad` and matrices made of whole Jacobians."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from datamodels.errors import InputError
from datamodels.train import Dataset
from datamodels.train.images.gradients import tensors
from datamodels.train.images.load import load_digits
from datamodels.train.images.trainer import ResNet9
from datamodels.train.torch import TorchTrainer

POOL, TARGETS, WORDS, LENGTH, CLASSES = 12, 4, 7, 5, 3
EVERY = slice(0, None)


def cnn():
    """With batch normalisation, an activation in place, and a dense layer over several positions."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 6, 6)),
        nn.Conv2d(1, 3, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(inplace=True),
        nn.Flatten(2),
        nn.Linear(9, 4),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(12, CLASSES),
    )


class Transformer(nn.Module):
    """One block of attention over words, in the mean over which the classes are told apart."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 10, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, words, mask):
        found = self.block(self.embedding(words), src_key_padding_mask=mask == 0)
        return self.head((found * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True))


class Branches(nn.Module):
    """Cannot be transformed by torch.func: it looks at the values of its input."""

    def __init__(self):
        super().__init__()
        self.layer, self.unused = nn.Linear(36, CLASSES), nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x if x.abs().sum() > 0 else x + 1)


def labels(generator):
    return np.r_[np.arange(CLASSES), generator.integers(0, CLASSES, POOL + TARGETS - CLASSES)]


def pictures():
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((POOL + TARGETS, 36)), labels(generator)
    return Dataset(x[:POOL], y[:POOL], x[POOL:], y[POOL:])


def texts():
    generator = np.random.default_rng(1)
    x = np.zeros(POOL + TARGETS, dtype=[("words", np.int32, (LENGTH,)), ("mask", np.int32, (LENGTH,))])
    x["mask"] = np.arange(LENGTH) < generator.integers(2, LENGTH + 1, len(x))[:, None]
    x["words"] = generator.integers(1, WORDS, x["words"].shape) * x["mask"]
    y = labels(generator)
    return Dataset(x[:POOL], y[:POOL], x[POOL:], y[POOL:])


def trained(build, data, **options):
    """(trainer, a trained model)."""
    options = {"loss": "cross_entropy", "epochs": 2, "batch_size": 4, "learning_rate": 0.02} | options
    trainer = TorchTrainer(data, data.targets("test"), build=build, **options)
    return trainer, trainer.train_many([np.arange(POOL)], [0])[0]


CASES = {"cnn": (cnn, pictures), "transformer": (Transformer, texts), "branches": (Branches, pictures)}


@pytest.fixture(scope="module", params=list(CASES))
def case(request):
    build, data = CASES[request.param]
    return trained(build, data())


def network_of(trainer, model):
    """The network with a model's numbers, and its trained parameters."""
    trainer.network.load_state_dict(model, strict=False)
    return trainer.network, [p for p in trainer.network.parameters() if p.requires_grad]


def gradient(scalar, parameters):
    found = torch.autograd.grad(scalar, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in found]).numpy()


def called(network, x):
    return network(**x) if isinstance(x, dict) else network(x)


def logits(trainer, model, batch):
    """(network parameters, logits of each example computed alone, labels)."""
    network, parameters = network_of(trainer, model)
    x, y = batch(EVERY)
    rows = range(len(y))
    parts = [{k: v[[i]] for k, v in x.items()} if isinstance(x, dict) else x[[i]] for i in rows]
    return parameters, torch.cat([called(network, part) for part in parts]), y


def margin(z, y):
    return z[y] - torch.cat([z[:y], z[y + 1 :]]).max()


def odds(z, y):
    p = torch.softmax(z.double(), 0)[y]
    return torch.log(p / (1 - p))


@pytest.mark.parametrize(
    ("name", "scalar", "of_pool"),
    [
        ("of_losses", functional.cross_entropy, True),
        ("of_target_losses", functional.cross_entropy, False),
        ("of_outputs", margin, False),
        ("of_odds", odds, True),
    ],
)
def test_they_are_those_of_one_example_after_another(case, name, scalar, of_pool):
    trainer, model = case
    parameters, z, y = logits(trainer, model, trainer.pool if of_pool else trainer.targets)
    expected = np.stack([gradient(scalar(row, label), parameters) for row, label in zip(z, y, strict=True)])
    found = getattr(trainer.gradients(model), name)(EVERY)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        getattr(trainer.gradients(model), name)(slice(1, 3)), expected[1:3], rtol=1e-3, atol=1e-5
    )


def test_the_curvature_is_that_of_whole_jacobians(case):
    trainer, model = case
    parameters, z, _ = logits(trainer, model, trainer.pool)
    jacobian = np.stack([[gradient(value, parameters) for value in row] for row in z])
    p = torch.softmax(z, 1).detach().numpy()
    expected = [j.T @ (np.diag(row) - np.outer(row, row)) @ j for j, row in zip(jacobian, p, strict=True)]
    found = trainer.gradients(model).of_curvature(EVERY)
    np.testing.assert_allclose(np.einsum("erp,erq->epq", found, found), expected, rtol=1e-3, atol=1e-4)


def test_inputs_and_signals_of_layers_make_up_the_same_factors(case):
    trainer, model = case
    found = trainer.gradients(model)
    whole, layers = found.of_curvature(EVERY), found.factors(EVERY)
    assert layers
    for layer in layers:
        product = np.einsum("retb,eta->erba", layer.signals, layer.inputs)
        np.testing.assert_allclose(
            product.reshape(*product.shape[:2], -1), whole[:, :, layer.columns], rtol=1e-3, atol=1e-5
        )


def test_slopes_are_the_probability_of_another_class(case):
    trainer, model = case
    _, z, y = logits(trainer, model, trainer.pool)
    right = torch.softmax(z, 1)[torch.arange(len(y)), y].detach().numpy()
    np.testing.assert_allclose(trainer.gradients(model).odds_slopes(), 1 - right, rtol=1e-4)


def test_layers_restrict_them():
    trainer, model = trained(cnn, pictures())
    whole = trainer.gradients(model).of_losses(EVERY)
    for layers, columns in (
        (["8"], slice(-39, None)),
        (["1", "8.*"], [*range(27), *range(-39, 0)]),
        (["8.bias"], slice(-3, None)),
    ):
        found = trainer.gradients(model, layers)
        np.testing.assert_allclose(found.of_losses(EVERY), whole[:, columns], rtol=1e-4, atol=1e-6)
        assert found.parameters == found.of_losses(EVERY).shape[1]
    with pytest.raises(InputError, match=r"layers = 'head': matches none of 1\.weight, 2\.weight"):
        trainer.gradients(model, ["head"])
    last = trainer.gradients(model).last()
    np.testing.assert_allclose(last.of_losses(EVERY), whole[:, -39:], rtol=1e-4, atol=1e-6)


def test_the_last_layer_and_its_inputs_are_found(case):
    trainer, model = case
    pool, targets = trainer.gradients(model).representations()
    last = trainer.gradients(model).last()
    assert (len(pool), len(targets)) == (POOL, TARGETS) and last.parameters == CLASSES * (pool.shape[1] + 1)
    _, z, y = logits(trainer, model, trainer.pool)
    signal = (torch.softmax(z, 1) - functional.one_hot(y, CLASSES)).detach().numpy()
    weights = np.einsum("ec,ef->ecf", signal, pool).reshape(POOL, -1)
    np.testing.assert_allclose(last.of_losses(EVERY)[:, : weights.shape[1]], weights, rtol=1e-3, atol=1e-5)


def test_a_regression_has_predictions_in_place_of_odds():
    data = pictures()
    data = Dataset(data.x, data.x[:, 0], data.x_test, data.x_test[:, 0])
    trainer, model = trained(lambda: nn.Linear(36, 1), data, loss="squared_error")
    found = trainer.gradients(model)
    x, y = trainer.pool(EVERY)
    predicted = trainer.network(x)[:, 0].detach() if trainer.network.load_state_dict(model) else None
    bias = np.ones((POOL, 1))
    np.testing.assert_allclose(found.of_odds(EVERY), np.hstack([x, bias]), rtol=1e-5)
    np.testing.assert_allclose(found.odds_slopes(), 2 * (y - predicted), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        found.of_losses(EVERY), -found.odds_slopes()[:, None] * found.of_odds(EVERY), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(found.of_curvature(EVERY)[:, 0] ** 2, 2 * found.of_odds(EVERY) ** 2, rtol=1e-4)


def test_many_predictions_have_mixed_factors_with_the_same_mean():
    """With 40 outputs, of which the curvature is the identity, mixtures of 32 make up the same in expectation."""
    data = pictures()
    wide = np.tile(data.x, (1, 2))[:, :40]
    data = Dataset(data.x, wide, data.x_test, np.tile(data.x_test, (1, 2))[:, :40])
    trainer, model = trained(lambda: nn.Linear(36, 40, bias=False), data, loss="squared_error")
    found = trainer.gradients(model).of_curvature(slice(0, 1))[0]
    x = trainer.pool(slice(0, 1))[0][0].numpy()
    assert found.shape == (32, 40 * 36)
    assert np.square(found).sum() == pytest.approx(40 * (2 / 40) * np.square(x).sum(), rel=0.15)


def test_what_has_no_curvature_or_odds_says_so():
    trainer, model = trained(
        cnn, pictures(), loss=lambda returned, y: functional.nll_loss(returned.log_softmax(1), y), output="loss"
    )
    with pytest.raises(InputError, match="TRAK needs logits of classes"):
        trainer.gradients(model).of_odds(EVERY)
    assert trainer.gradients(model).of_curvature(EVERY).shape[:2] == (POOL, CLASSES)
    with pytest.raises(InputError, match=r"no torch\.nn\.Linear or Conv2d"):
        trainer.gradients(model, ["2"]).factors(EVERY)


@pytest.mark.parametrize("options", [{"tta": True}, {"recipe": "fast", "resident": False, "output": "loss"}])
def test_residual_networks_have_them_too(options):
    data = load_digits(size=16, train=6, test=3)
    trainer = ResNet9(
        data,
        data.targets("test"),
        width=2,
        epochs=2,
        batch_size=3,
        label_smoothing=0.1,
        device="cpu",
        precision="float64",
        **options,
    )
    *_, (_, model) = trainer.checkpoints(np.arange(6), 3)
    torch.testing.assert_close(model, trainer.train_many([np.arange(6)], [3])[0])
    # Along a random direction of all weights, outputs change as their gradients say.
    found = trainer.gradients(model)
    network = trainer._new_trainer().network
    generator, step, change = np.random.default_rng(0), 1e-4, []
    moved = [model.clone(), model.clone()]
    views = [tensors(network, each) for each in moved]
    for name, parameter in network.named_parameters():
        change.append(generator.standard_normal(parameter.shape).astype(np.float32))
        for sign, view in zip((1, -1), views, strict=True):
            view[name].add_(torch.from_numpy(change[-1]), alpha=sign * step)
    up, down = trainer.outputs_many(moved)
    expected = found.of_outputs(EVERY) @ np.concatenate([part.reshape(-1) for part in change])
    np.testing.assert_allclose((up - down) / (2 * step), expected, rtol=0.05, atol=0.05 * np.abs(expected).max())
    assert found.of_curvature(EVERY).shape == (6, trainer.classes, found.parameters)
    assert {layer.inputs.shape[0] for layer in found.factors(EVERY)} == {6}
    assert found.last().parameters == trainer.classes * (found.representations()[0].shape[1] + 1)
