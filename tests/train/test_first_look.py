"""The first model is trained once more, which must change nothing."""

import threading

import numpy as np
import pytest

from datamodels.errors import ConfigError
from datamodels.run import runs, specs
from datamodels.train import Dataset, job
from datamodels.train.contract import OneByOne
from datamodels.train.failures import Failures
from datamodels.train.observer import Observer
from tests.train.conftest import MemoryAggregator, MemorySampler

Y = np.arange(40) % 2


class Trainer:
    """Outputs the mean label of the subset, less a number of the target, and what a function adds."""

    def __init__(self, change=lambda mean, subset, seed, count: mean):
        self.change, self.trained = change, 0

    def train(self, subset, seed):
        self.trained += 1
        noise = np.random.default_rng(seed).normal() / 10
        return self.change(Y[subset].mean() + subset.mean() / 100 + noise, subset, seed, self.trained)

    def outputs(self, model):
        return model - np.array([0.1, 0.2, 0.3])


class Rounding(Trainer):
    """Trains several models at once, whose outputs depend on how many these are."""

    models_at_once = 6

    def train_many(self, subsets, seeds):
        return [self.train(*each) * (1 + len(subsets) / 5) for each in zip(subsets, seeds, strict=True)]

    def outputs_many(self, models):
        return np.stack([self.outputs(model) for model in models])


class Hits(Trainer):
    """Outputs whether the model knows the class of each target: always, but not if it saw few examples."""

    def __init__(self, least=0, raises_below=0):
        super().__init__(lambda mean, subset, seed, count: len(subset))
        self.least, self.raises_below = least, raises_below

    def train(self, subset, seed):
        if len(subset) < self.raises_below:
            raise ValueError("too few")
        return super().train(subset, seed)

    def outputs(self, model):
        return np.array([1, int(model >= self.least), 1])


def train(trainer, labels=None, observer=None, **given):
    """Train a run of 30 models until it is stopped; return how many models that took, and why it was stopped."""
    y = np.linspace(0, 1, 40) if labels is None else labels
    data = Dataset(x=np.zeros((40, 1)), y=y, x_test=np.zeros((3, 1)), y_test=y[:3], label_names=("no", "yes"))
    document = {"name": "a", "dataset": {"load": "some:load"}, "trainer": {"class": "some:Trainer"}, "m": 30}
    run = runs.resolve(specs.parse(document | {"sub_chunk": 30, "chunk": 30, "evaluate": {"subsets": 0}}), data)
    made, aggregator = trainer if hasattr(trainer, "models_at_once") else OneByOne(trainer), MemoryAggregator(30)
    failures = Failures(run, looks=True, **given)
    try:
        job.run_chunk(
            run, 0, made, MemorySampler(), aggregator, threading.Event(), observer or Observer(), failures=failures
        )
    except ConfigError as error:
        assert not aggregator.parts  # nothing of such a trainer is kept
        return trainer.trained, str(error)
    return trainer.trained, ""


@pytest.mark.parametrize(
    ("trainer", "labels", "models", "why"),
    [
        (Trainer(lambda mean, subset, seed, count: mean + count), None, 6, "trained again on its subset with its seed"),
        (Trainer(), None, 31, ""),
        (Hits(least=10), Y, 32, ""),  # hits that few subsets change: one small model shows it
        (Hits(), Y, 41, "on the first 20 subsets, and 20 on only 8 examples each: the outputs of all 3 targets are"),
        (Hits(raises_below=10), Y, 31, ""),
        (Rounding(), None, 32, ""),
    ],
)
def test_a_run_that_cannot_be_repeated_stops_after_its_first_models(trainer, labels, models, why):
    found, said = train(trainer, labels)
    assert found == models and why in said, said


def test_a_declared_difference_is_allowed_and_all_else_is_still_judged():
    def differs(mean, subset, seed, count):
        return mean + (count == 5) / 5

    found, said = train(Trainer(differs))
    assert found == 6 and "which differ by" in said
    more = float(said.split("DATAMODELS_TRAINER_TOLERATED_DIFFERENCE to more than ")[1].split(",")[0])
    assert 1 < more < 10 and said.endswith(f"more than {more:g}, now 0.1: it is noise")
    assert train(Trainer(differs), difference=1.1 * more) == (31, "")
    assert train(Hits(), Y, difference=1.1 * more)[0] == 41
    assert train(Trainer(lambda mean, subset, seed, count: mean + count), difference=np.inf) == (31, "")


def test_no_failure_of_the_look_ends_a_run():
    def change(mean, subset, seed, count):
        if count == 5:
            raise MemoryError("none left for the model that is trained again")
        return mean

    assert train(Trainer(change)) == (31, "")


def test_the_observer_does_not_count_the_model_that_is_trained_again():
    class Counter(Observer):
        counted, seconds = 0, []

        def trained(self, models, seconds):
            self.counted += models

        def looked(self, seconds):
            self.seconds.append(seconds)

    counter = Counter()
    assert train(Trainer(), observer=counter) == (31, "") and counter.counted == 30 and max(counter.seconds) > 0


def test_whoever_tolerates_all_trains_no_model_twice():
    assert train(Trainer(lambda *given: 0.7), tolerated=1) == (30, "")
