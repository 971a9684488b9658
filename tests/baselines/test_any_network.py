"""Baselines on networks of `TorchTrainer`: against direct formulas, and against those of `MLP` for the same weights."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from datamodels.baselines import neighbours, scoring
from datamodels.baselines.context import Context, Trained
from datamodels.baselines.gradients import curvature, influence, tracin, trak
from datamodels.errors import InputError
from datamodels.run import runs, specs
from datamodels.storage.local import LocalStore
from datamodels.train.torch import TorchTrainer
from tests.baselines import networks as made
from tests.train.gradients import test_autograd as nets

DAMPING = 0.05
EVERY = slice(0, None)


@pytest.fixture(scope="module", params=["cnn", "transformer"])
def trained(request):
    """Two networks of a kind, with two checkpoints each."""
    build, data = nets.CASES[request.param]
    trainer, _ = nets.trained(build, data(), weight_decay=DAMPING)
    epochs = [list(trainer.checkpoints(np.arange(nets.POOL), seed)) for seed in range(2)]
    checkpoints = [(one[0], [one[1], other[1]]) for one, other in zip(*epochs, strict=True)]
    return Trained(trainer, checkpoints, 0.0)


def gradients(trained, model, scalar, batch):
    """float64[rows, parameters] of a scalar of the logits and the label, by one backward pass after another."""
    parameters, z, y = nets.logits(trained.trainer, model, batch)
    rows = [nets.gradient(scalar(row, label), parameters) for row, label in zip(z, y, strict=True)]
    return np.stack(rows).astype(np.float64)


def assert_scores(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_tracin_is_the_sum_over_checkpoints_of_products_of_gradients(trained):
    trainer, expected = trained.trainer, 0
    for rate, models in trained.checkpoints:
        for model in models:
            pool, targets = (
                gradients(trained, model, nets.functional.cross_entropy, batch)
                for batch in (trainer.pool, trainer.targets)
            )
            expected = expected + rate * targets @ pool.T / len(models)
    assert_scores(tracin.attribution(trained), expected)
    assert trained.checkpoints[0][0] > trained.checkpoints[1][0] > 0


def test_trak_is_a_linear_model_of_projected_gradients(trained):
    trainer, kernel, doubt = trained.trainer, 0, 0
    for seed, model in enumerate(trained.models):
        pool = gradients(trained, model, nets.odds, trainer.pool)
        targets = gradients(trained, model, nets.margin, trainer.targets)
        draw = np.random.default_rng(seed).standard_normal((pool.shape[1], 4), dtype=np.float32)
        phi = pool @ draw
        square = phi.T @ phi
        square += 1e-6 * np.trace(square) / 4 * np.eye(4)
        kernel = kernel + targets @ draw @ np.linalg.inv(square) @ phi.T / 2
        _, z, y = nets.logits(trainer, model, trainer.pool)
        doubt = doubt + 1 - torch.softmax(z, 1)[torch.arange(len(y)), y].detach().numpy() / 1
    assert_scores(trak.attribution(trained, examples_per_dimension=nets.POOL // 4), kernel * doubt / 2)


def test_a_projection_is_the_same_in_parts(monkeypatch):
    found = trak._Projection(3, 50, 4).all(lambda rows: np.eye(50, dtype=np.float32)[rows], 50)
    monkeypatch.setattr(trak, "DRAWN_BYTES", 7 * 4 * 4)
    parts = trak._Projection(3, 50, 4).all(lambda rows: np.eye(50, dtype=np.float32)[rows], 50)
    np.testing.assert_array_equal(found, parts)


@pytest.mark.parametrize("method", [influence.whole, influence.last_layer])
def test_influence_is_that_of_the_explicit_inverse(trained, method):
    trainer, expected = trained.trainer, 0
    for model in trained.models:
        parameters, z, _ = nets.logits(trainer, model, trainer.pool)
        jacobian = np.stack([[nets.gradient(value, parameters) for value in row] for row in z]).astype(np.float64)
        p = torch.softmax(z, 1).detach().numpy().astype(np.float64)
        inner = np.einsum("ec,cd->ecd", p, np.eye(nets.CLASSES)) - p[:, :, None] * p[:, None]
        matrix = np.einsum("ecp,ecd,edq->pq", jacobian, inner, jacobian) / nets.POOL
        pool = gradients(trained, model, nets.functional.cross_entropy, trainer.pool)
        targets = gradients(trained, model, nets.margin, trainer.targets)
        first = 0 if method is influence.whole else -trainer.gradients(model).last().parameters
        block = matrix[first:, first:] + DAMPING * np.eye(len(matrix[first:]))
        expected = expected - targets[:, first:] @ np.linalg.solve(block, pool[:, first:].T) / 2
    assert_scores(method(trained), expected)


def test_ekfac_has_the_diagonal_of_the_gradients_in_the_eigenvectors_of_the_moments(trained):
    found = trained.trainer.gradients(trained.models[0])
    vectors = np.random.default_rng(0).standard_normal((3, found.parameters)).astype(np.float32)
    solved, expected = curvature.ekfac_of_layers(found, DAMPING)(vectors), np.zeros_like(vectors)
    roots = found.of_curvature(EVERY).astype(np.float64).reshape(-1, found.parameters)
    for layer in found.factors(EVERY):
        flat = [part.reshape(-1, part.shape[-1]).astype(np.float64) for part in (layer.signals, layer.inputs)]
        moments = [part.T @ part for part in flat]
        basis = np.kron(*(np.linalg.eigh(moment)[1] for moment in moments))
        values = np.square(roots[:, layer.columns] @ basis).sum(axis=0) / nets.POOL
        expected[:, layer.columns] = (vectors[:, layer.columns] @ basis / (values + DAMPING)) @ basis.T
    np.testing.assert_allclose(solved, expected, rtol=2e-3, atol=2e-3)


class SameWeights(TorchTrainer):
    """The network of `MLP`, with the weights of its models."""

    def checkpoints(self, subset, seed):
        raise AssertionError("this trainer is given its models")

    def copied(self, mlp, model):
        first, second = (torch.from_numpy(matrix[0].copy()) for matrix in mlp.matrices(model[None]))
        return {"0.weight": first[:-1].T, "0.bias": first[-1], "2.weight": second[:, :-1], "2.bias": second[:, -1]}


def test_they_are_those_of_the_built_in_network():
    mlp = made.trainer("mlp", weight_decay=DAMPING)
    data = made.dataset()
    trainer = SameWeights(
        data,
        data.targets("test"),
        build=lambda: nn.Sequential(nn.Linear(made.FEATURES, 5), nn.ReLU(), nn.Linear(5, made.CLASSES)),
        loss="cross_entropy",
        weight_decay=DAMPING,
    )
    of_mlp = made.trained(mlp)
    copies = [(rate, [trainer.copied(mlp, model) for model in models]) for rate, models in of_mlp.checkpoints]
    copied = Trained(trainer, copies, 0.0)
    for method in (tracin.attribution, influence.last_layer, influence.ekfac):
        assert_scores(method(copied), method(of_mlp))
    whole = influence.whole(of_mlp)  # by conjugate gradients, which stop early
    np.testing.assert_allclose(influence.whole(copied), whole, atol=0.1 * np.abs(whole).max())
    for ours, theirs in zip(
        trainer.gradients(copies[0][1][0]).representations(),
        mlp.gradients(of_mlp.checkpoints[0][1][0]).representations(),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs[:, :-1], rtol=1e-5)  # without the column of ones


def cnn():
    return nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4, 3))


DOCUMENT = {
    "name": "network",
    "dataset": {"load": "tests.baselines.networks:dataset"},
    "trainer": {
        "class": "datamodels.train.torch:TorchTrainer",
        "options": {"build": "tests.baselines.test_any_network:cnn", "loss": "cross_entropy", "epochs": 2},
    },
    "m": 100,
}


def test_a_run_of_a_network_has_all_of_them(tmp_path):
    data = made.dataset()
    context = Context(runs.resolve(specs.parse(DOCUMENT), data), data, LocalStore(tmp_path), 2)
    needing = [name for name, method in scoring.METHODS.items() if method.needs == scoring.NETWORKS]
    for name in needing:
        entry = scoring.compute(context, name)
        assert entry.scores.shape == (made.TARGETS, made.EXAMPLES) and entry.models == 2, name
        assert np.isfinite(entry.scores).all() and (entry.scores != 0).any(axis=1).all(), name
    chosen = dataclasses.replace(context, layers=("4",))
    np.testing.assert_allclose(
        scoring.compute(chosen, "influence").scores, scoring.compute(context, "last_layer").scores, rtol=1e-3, atol=1e-5
    )
    with pytest.raises(InputError, match=r"layers = 'head': matches none of 1\.weight"):
        scoring.compute(dataclasses.replace(context, layers=("head",)), "tracin")


def test_what_is_too_large_to_invert_is_left_out(monkeypatch, trained):
    monkeypatch.setattr(curvature, "MOST_PARAMETERS", 50)
    with pytest.raises(InputError, match="weights, and at most 50 are inverted exactly; choose fewer"):
        influence.whole(trained)
    assert np.isfinite(influence.last_layer(trained)).all()
    assert np.isfinite(
        neighbours.similarity(*trained.trainer.gradients(trained.models[0]).representations()[::-1])
    ).all()
