"""Derivatives through a training, against finite differences of trainings whose weights of examples change a little."""

import numpy as np
import pytest
import torch
from torch import nn

from datamodels.errors import InputError
from datamodels.train import Dataset
from datamodels.train.gradients import kinks, metagradients
from datamodels.train.gradients.metagradients import Metagradients
from datamodels.train.gradients.replay import replayable
from datamodels.train.torch import TorchTrainer
from datamodels.train.workloads.mlp import MLP, Softmax

POOL, FEATURES, CLASSES = 12, 4, 3
SUBSET, GUESTS = np.array([0, 1, 3, 4, 6, 8, 9, 11]), np.array([2, 10, 4])
STEP = 1e-5


def data():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(POOL + 3, FEATURES)), np.arange(POOL + 3) % CLASSES
    return Dataset(x[:POOL], y[:POOL], x[POOL:], y[POOL:])


def cnn():
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)),
        nn.Conv2d(1, 3, 2, padding=1),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(3, 3),
    )


def rectified():
    return nn.Sequential(nn.Linear(FEATURES, 4), nn.ReLU(), nn.Linear(4, 3))


def network(build=cnn, **options):
    given = {"loss": "cross_entropy", "epochs": 3, "batch_size": 3, "learning_rate": 0.1, "precision": "float64"}
    return TorchTrainer(data(), data().targets("test"), build=build, **given | options)


def softmax(dtype=np.float64, kind=Softmax, **options):
    found = kind(data(), data().targets("test"), epochs=3, batch_size=3, learning_rate=0.1, **options)
    found.x = found.x.astype(dtype)
    return found


TRAINERS = {
    "softmax": softmax,
    "sgd": lambda: network(optimiser="sgd", weight_decay=0.1, schedule="cosine"),
    "clipped": lambda: network(optimiser="sgd", clip=0.3),
    "adamw": lambda: network(learning_rate=0.01, weight_decay=0.1, warmup=0.3),
}


def last(replay, example, weight, guests):
    """The last weights of a training in which the weight of an example, or of a guest, is changed."""
    state = replay.start()
    for step in range(replay.steps):
        members, shares = replay.minibatch(step)
        if example in GUESTS:  # each counts half
            rows, shares = torch.cat([members, guests[step]]), torch.cat([shares, torch.zeros(len(guests[step]))])
            shares = shares + (torch.arange(len(rows)) >= len(members)) * (rows == example) * weight / 2 / len(members)
        else:
            rows, shares = members, shares + (members == example) * weight / len(members)
        weights = state[0].clone().requires_grad_()
        (gradient,) = torch.autograd.grad((shares * replay.losses(weights, rows)).sum(), weights)
        state = replay.update(step, state, gradient)
    return state[0].detach().numpy()


@pytest.mark.parametrize("name", TRAINERS)
def test_they_are_finite_differences_of_trainings(name, monkeypatch):
    replay = TRAINERS[name]().replay(SUBSET, 5)
    found = Metagradients(replay, GUESTS, visits=2, seed=1)
    assert found.last[0].dtype == torch.float64
    directions = np.random.default_rng(2).normal(size=(5, len(found.last[0])))
    wanted = np.array([True, True, False, True, True])
    scores = found.of(lambda rows: directions[rows], wanted, POOL)
    expected = np.zeros_like(scores)
    for example in np.union1d(SUBSET, GUESTS):
        up, down = (last(replay, example, sign * STEP, found._places) for sign in (1, -1))
        expected[wanted, example] = directions[wanted] @ (up - down) / (2 * STEP)
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())
    assert (expected[wanted] != 0).all(axis=0).tolist() == np.isin(np.arange(POOL), [*SUBSET, *GUESTS]).tolist()

    monkeypatch.setattr(metagradients, "STATE_BYTES", 0)  # some states are computed again
    monkeypatch.setattr(metagradients, "TARGETS_AT_ONCE", 3)
    few = Metagradients(replay, GUESTS, visits=2, seed=1)
    assert len(few._kept) == 3 < replay.steps - 4
    few._loops = True  # as for a network that torch.func cannot transform
    np.testing.assert_allclose(few.of(lambda rows: directions[rows], wanted, POOL), scores, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "trainer",
    [
        lambda: softmax(np.float32, MLP, hidden=4),
        lambda: softmax(np.float32),
        lambda: network(rectified, precision="float32", optimiser="sgd", clip=0.3, epochs=7),
        lambda: network(rectified, precision="float32", epochs=7),
        *TRAINERS.values(),
    ],
)
def test_a_replay_leads_to_the_model_of_its_trainer(trainer):
    trainer = trainer()
    assert replayable(trainer) is trainer
    subset = np.arange(0, POOL, 1)[:11]  # minibatches of 3 do not divide it
    replay = trainer.replay(subset, 3)
    model = replay.model(Metagradients(replay).last)
    expected = trainer.outputs_many(trainer.train_many([subset, subset[:6]], [3, 4]))[:1]
    np.testing.assert_allclose(trainer.outputs_many([model]), expected, rtol=2e-5, atol=2e-6)


def test_guests_are_there_as_often_as_members():
    places = np.concatenate(Metagradients(network(epochs=6).replay(SUBSET, 0), GUESTS, visits=3)._places)
    assert np.bincount(places, minlength=POOL)[GUESTS].tolist() == [18, 18, 18] and len(places) == 54


def test_the_kink_of_relu_has_its_curvature():
    at = torch.linspace(-3, 3, 601, dtype=torch.float64, requires_grad=True)
    with kinks.SpreadKinks():
        value = nn.functional.relu(at)
    (slope,) = torch.autograd.grad(value.sum(), at, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), at)
    np.testing.assert_array_equal(value.detach(), torch.relu(at).detach())
    np.testing.assert_array_equal(slope.detach(), (at > 0).double().detach())
    at, second = at.detach().numpy(), second.numpy() * 0.01
    assert second.sum() == pytest.approx(1)
    assert (second * at**2).sum() ** 0.5 == pytest.approx(kinks.WIDTH * (at**2).mean() ** 0.5, rel=1e-3)


def normalised():
    return nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


def dropping():
    return nn.Sequential(nn.Linear(FEATURES, 4), nn.Dropout(), nn.Linear(4, 3))


@pytest.mark.parametrize(
    "build, options, why",
    [
        (cnn, {"optimiser": torch.optim.RMSprop}, "only the steps of adamw and sgd"),
        (cnn, {"precision": "bf16"}, "must be float32"),
        (normalised, {}, r"training changes '1\.running_mean' without a derivative"),
        (dropping, {}, "draws random numbers in training"),
    ],
)
def test_what_cannot_be_differentiated_is_refused(build, options, why):
    with pytest.raises(InputError, match=why):
        network(build, **options).replay(SUBSET, 0)
