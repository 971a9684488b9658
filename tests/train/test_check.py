import dataclasses
import itertools

import numpy as np
import pytest

from datamodels.errors import ConfigError, SpecError
from datamodels.outputs import MARGIN
from datamodels.run import runs, specs
from datamodels.train.check import Check
from datamodels.train.contract import OneByOne
from datamodels.train.workloads import digits
from datamodels.train.workloads.mlp import Softmax

DATA = digits.load(train=400, test=50)
RUN = runs.resolve(
    specs.parse({"name": "a", "dataset": {"load": "a:b"}, "trainer": {"class": "mine:Thing"}, "m": 100}), DATA
)


class Nearest:
    """Scores by the sums of each class, from a random start; a correct trainer of single models."""

    def train(self, subset, seed):
        start = np.random.default_rng(seed).standard_normal((10, 64)) * 0.2
        return np.stack([start[c] + DATA.x[subset[DATA.y[subset] == c]].sum(axis=0) for c in range(10)])

    def outputs(self, model):
        scores = DATA.x_test @ model.T
        return scores[np.arange(50), DATA.y_test]


class Forgetful(Nearest):
    counter = itertools.count()

    def train(self, subset, seed):
        return super().train(subset, next(self.counter))


class Deaf(Nearest):
    def train(self, subset, seed):
        return super().train(np.arange(100), seed)


class Diverging(Nearest):
    def outputs(self, model):
        return super().outputs(model) * np.nan


class Flat(Nearest):
    def outputs(self, model):
        return super().outputs(model)[:7]


class Both(Nearest):
    """Trains many at once, too."""

    models_at_once = 8

    def train_many(self, subsets, seeds):
        return [self.train(*pair) for pair in zip(subsets, seeds, strict=True)]

    def outputs_many(self, models):
        return np.stack([self.outputs(model) for model in models])


class Mixing(Both):
    """Models depend on each other, as with batch normalisation over models."""

    def train_many(self, subsets, seeds):
        models = super().train_many(subsets, seeds)
        return [model + np.mean(models) for model in models] if len(models) > 1 else models


class Split(Both):
    """Uses another algorithm if it trains many models at once."""

    def train_many(self, subsets, seeds):
        return [2 * model for model in super().train_many(subsets, seeds)]


class Hopeless(Mixing, Forgetful):
    pass


class Far(Nearest):
    """Its outputs are as far from 0 as float32 cannot resolve."""

    def outputs(self, model):
        return super().outputs(model).astype(np.float64) + 1e12


class Exact(Nearest):
    """Fits examples without noise, so that any subset gives the same model but for rounding."""

    def outputs(self, model):
        return 1e3 + 1e-12 * super().outputs(model).astype(np.float64)


def check(trainer, tolerance=1e-3):
    reported = {}
    made = trainer if hasattr(trainer, "train_many") else OneByOne(trainer)
    return Check(RUN, made, tolerance=tolerance, say=reported.__setitem__), reported


@pytest.mark.parametrize("trainer", [Nearest(), Both(), Softmax(DATA, DATA.targets("test"), epochs=2)])
def test_a_trainer_that_keeps_the_contract_passes(trainer):
    made, reported = check(trainer)
    made.contract()
    assert reported["outputs"].startswith("50 of each model") and "moves outputs" in reported["subset"]
    assert "another one moves outputs" in reported["seed"]
    assert ("together" in reported) == hasattr(trainer, "train_many")
    assert ("one by one" in reported) == isinstance(trainer, Both)


@pytest.mark.parametrize(
    ("trainer", "fault"),
    [
        (Forgetful(), "the same subset and seed give outputs that differ by .*draw all randomness from the seed"),
        (Deaf(), "outputs do not depend on the subset"),
        (Far(), "float32 rounds away all that the subset changes in the outputs; rescale the outputs: subtract"),
        (Exact(), "differ by .*e-1[456] of their size, as rounding does: .* fit all examples exactly"),
        (Diverging(), r"1 of 1 models failed, model 0 on a subset of 64 examples: 50 of 50 outputs are not finite"),
        (
            Mixing(),
            "outputs of models trained alone and together differ by .* may depend only on its own subset and seed",
        ),
        (Split(), "outputs of models of train and of train_many differ by"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_fault_is_one_line(trainer, fault):
    made, _ = check(trainer)
    with pytest.raises(SpecError, match=fault) as caught:
        made.contract()
    assert all(line.startswith("trainer.class = 'mine:Thing': ") for line in caught.value.faults)
    assert len(caught.value.faults) == 1


def test_several_faults_are_told_at_once():
    with pytest.raises(SpecError) as caught:
        check(Hopeless())[0].contract()
    assert len(caught.value.faults) == 3


def test_outputs_of_the_wrong_shape_are_named():
    with pytest.raises(ConfigError, match=r"mine:Thing gave outputs float\d\d\[7\] .* must be float\[50\]"):
        check(Flat())[0].contract()


def test_a_difference_that_is_allowed_passes():
    made, reported = check(Mixing(), tolerance=0.9)
    with pytest.raises(SpecError, match="trained alone and together differ"):
        made.contract()
    made, reported = check(Forgetful(), tolerance=0.9)
    made.contract()
    assert "repeatable" in reported


def test_speed_and_noise_are_measured():
    made, _ = check(Both())
    pace = made.pace(seconds=0.01)
    assert pace.models_at_once == 8 and 0 < pace.each < 10
    noise, adds = made.noise(seconds=0.01, each=pace.each)
    assert 0 <= adds.interval[0] <= adds.share <= adds.interval[1] <= 1
    assert noise.subsets >= 8 and noise.seeds == 4 and noise.interval[0] <= noise.ratio <= noise.interval[1]
    assert noise.ratio > 1  # the start is small beside the sums


@pytest.mark.parametrize(("scale", "mean"), [(1, 1e10), (1e-50, 0)])
def test_noise_is_that_of_outputs_as_they_come_back_from_storage(scale, mean):
    """The outputs themselves are clear; float32 leaves little of them."""

    class Far(Nearest):
        def outputs(self, model):
            return super().outputs(model) * scale + mean

    (clear, _), (made, said) = check(Nearest())[0].noise(seconds=0.01, each=1), check(Far())
    assert made.noise(seconds=0.01, each=1)[0].ratio < clear.ratio / 10
    assert said["storage"].startswith("float32 rounds the outputs of 50 of 50 targets by a tenth of their spread")
    assert "rescale the outputs" in said["storage"]


def test_the_spread_is_that_of_a_target_and_not_of_the_means_of_targets():
    """One of these models is off by ten times its spread, which is nothing beside what tells the targets apart."""

    class Apart(Both):
        def outputs_many(self, models):
            off = 1e3 if len(models) > 1 else 0
            return super().outputs_many(models) + 1e8 * np.arange(50) + off

    with pytest.raises(SpecError, match="trained alone and together differ by"):
        check(Apart())[0].contract()


def test_outputs_beyond_what_is_declared_are_refused():
    declared = dataclasses.replace(RUN, declared=dataclasses.replace(MARGIN, highest=-99.0))
    with pytest.raises(
        ConfigError, match=r"\d+ of \d+ outputs are beyond what is declared, lowest any and highest -99"
    ):
        Check(declared, OneByOne(Nearest()), tolerance=1e-3, say=lambda what, text: None).contract()
