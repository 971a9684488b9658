"""Scores through whole trainings, against trainings with fixed seeds in which examples lose their weight."""

import dataclasses

import numpy as np
import pytest
import torch

from datamodels.baselines import scoring
from datamodels.baselines.context import SEED_OFFSET
from datamodels.baselines.gradients import magic
from datamodels.errors import InputError
from datamodels.run import designs
from datamodels.train.contract import model_seed
from datamodels.train.gradients.metagradients import Metagradients
from datamodels.train.workloads.mlp import MLP
from tests.baselines import networks as made
from tests.baselines.test_neighbours import given

TRAINER = {"class": "tests.baselines.test_magic:Shifted", "options": {"hidden": 5, "epochs": 2}}


class Shifted(MLP):
    """A trainer whose replays are those of other seeds, from the class attribute on."""

    by = 0

    def replay(self, subset, seed):
        return super().replay(subset, seed + self.by)


class Backward(Shifted):
    """A trainer whose gradients have the weights in another order than its replays."""

    def gradients(self, model, layers=()):
        found = super().gradients(model, layers)
        right = found.of_outputs
        found.of_outputs = lambda rows: right(rows)[:, ::-1]
        return found


def context(folder, **fields):
    return dataclasses.replace(given(folder, made.dataset(), **{"trainer": TRAINER} | fields), trainings=2)


def test_it_predicts_what_removing_examples_does_to_one_training():
    trainer = made.trainer("softmax", learning_rate=0.1)
    replay = trainer.replay(np.arange(made.EXAMPLES), 0)
    found = Metagradients(replay)
    slopes = trainer.gradients(replay.model(found.last)).of_outputs
    scores = found.of(slopes, np.ones(made.TARGETS, dtype=bool), made.EXAMPLES)

    def outputs(removed):
        state = replay.start()
        for step in range(replay.steps):
            examples, shares = replay.minibatch(step)
            shares = torch.where(torch.isin(examples, torch.from_numpy(removed)), 0, shares)
            weights = state[0].clone().requires_grad_()
            (gradient,) = torch.autograd.grad((shares * replay.losses(weights, examples)).sum(), weights)
            state = replay.update(step, state, gradient)
        return trainer.outputs_many([replay.model(tuple(t.detach() for t in state))])[0]

    rng = np.random.default_rng(0)
    removed = [rng.permutation(made.EXAMPLES)[:2] for _ in range(20)]
    true = np.array([outputs(some) for some in removed]) - outputs(np.zeros(0, dtype=np.int64))
    predicted = np.array([-scores[:, some].sum(axis=1) for some in removed])
    assert np.corrcoef(predicted.ravel(), true.ravel())[0, 1] > 0.97


def test_it_is_the_mean_over_trainings_that_lack_the_target(tmp_path):
    """Targets of the pool count on subsets without them, if there are any."""
    asked = context(tmp_path, targets="train")
    run, scores, inside = asked.run, [], []
    for number in range(2):
        subset = designs.subset(run.design, number)
        seed = model_seed(run.spec.seed, run.spec.models + SEED_OFFSET + number)
        replay = asked.loaded.replay(subset, seed)
        found = Metagradients(replay, np.arange(made.EXAMPLES), magic.VISITS, seed=number)
        slopes = asked.loaded.gradients(replay.model(found.last)).of_outputs
        scores.append(found.of(slopes, np.ones(run.n, dtype=bool), made.EXAMPLES))
        inside.append(np.isin(run.own, subset))
    weights = np.stack([~inside[0], ~inside[1] | inside[0]]).astype(np.float32)
    weights[1] = np.where(inside[0] | ~inside[1], 1, 0)
    expected = np.einsum("rn,rne->ne", weights / weights.sum(axis=0), np.stack(scores))
    np.testing.assert_allclose(scoring.compute(asked, "magic").scores, expected, rtol=1e-4, atol=1e-6)


def test_it_says_why_it_is_left_out(tmp_path, monkeypatch):
    asked = context(tmp_path)
    work = 2 * made.TARGETS
    assert work < asked.run.spec.m
    assert scoring.compute(dataclasses.replace(asked, costly=False), "magic").models == 2
    with pytest.raises(InputError, match=f"some {10 * work} trainings, one by one, and the run has 100; name it"):
        scoring.compute(dataclasses.replace(asked, trainings=20, costly=False), "magic")
    monkeypatch.setattr(Shifted, "by", 1)
    with pytest.raises(InputError, match="replay leads to another model than its training"):
        scoring.compute(asked, "magic")
    monkeypatch.setattr(Shifted, "by", 0)
    turned = context(tmp_path, trainer=TRAINER | {"class": "tests.baselines.test_magic:Backward"})
    with pytest.raises(InputError, match="both must have the weights in one order"):
        scoring.compute(turned, "magic")
    monkeypatch.setattr(Shifted, "replay", None)
    with pytest.raises(InputError, match="no method `replay`"):
        scoring.compute(asked, "magic")


@pytest.mark.parametrize(("noise", "expected"), [(0.0, 1.0), (1.0, 8 / 9), (64.0, 1 / 9)])
def test_reliability_is_the_share_of_variance_that_other_trainings_would_repeat(noise, expected):
    """Scores of 8 trainings with a common part of variance 1; of one more target there is one training only."""
    rng = np.random.default_rng(0)
    each = rng.normal(size=(20, 4000)) + noise**0.5 * rng.normal(size=(8, 20, 4000))
    each[1:, 0] = 0
    counts = np.where(np.arange(20) == 0, 1, 8)
    found = magic.reliability(each.sum(axis=0), np.square(each).sum(axis=(0, 2)), counts)
    assert found == pytest.approx(expected, abs=0.05)
    assert np.isnan(magic.reliability(each[:1, 0], np.square(each[0, :1]).sum(axis=1), counts[:1]))


def test_derivatives_that_differ_from_training_to_training_are_doubted(tmp_path, monkeypatch):
    assert not scoring.compute(context(tmp_path), "magic").doubt
    right = Metagradients.of

    def apart(self, slopes, wanted, examples):
        found = right(self, slopes, wanted, examples)
        return np.random.default_rng(int(1e6 * abs(found).sum())).normal(size=found.shape)

    monkeypatch.setattr(Metagradients, "of", apart)
    doubt = scoring.compute(context(tmp_path), "magic").doubt
    assert doubt.startswith("derivatives of its trainings do not agree (reliability ") and "max pooling" in doubt
