import re
import threading
import time

import numpy as np
import pytest

from datamodels.errors import (
    BusyError,
    ConfigError,
    DeadlineError,
    ExitCode,
    OutputsError,
    SpecError,
    StageError,
    UnavailableError,
)
from datamodels.run import designs, runs
from datamodels.train import job
from datamodels.train.contract import OneByOne, model_seed
from tests.helpers.waiting import LIMIT
from tests.train.conftest import MemoryAggregator

NEVER = threading.Event()


def expected_outputs(run, dataset, model):
    """Return outputs by the definition of SumTrainer, from the pure function that draws subsets."""
    members = run.design.members(designs.subset(run.design, run.spec.subset_index(model)))
    return dataset.x[members, 0].sum() + dataset.x_test[:, 0]


def run_all(run, trainer, sampler, aggregator):
    return [job.run_chunk(run, chunk, trainer, sampler, aggregator, NEVER) for chunk in range(run.spec.chunks)]


class Stop(job.Observer):
    """Sets `stop` once a number of models has been trained."""

    def __init__(self, stop, after):
        self.stop, self.left = stop, after

    def trained(self, models, seconds):
        self.left -= models
        if self.left <= 0:
            self.stop.set()


def test_each_model_is_trained_on_its_subset_and_committed_once(run, dataset, trainer, sampler, aggregator):
    began = time.perf_counter()
    assert run_all(run, trainer, sampler, aggregator) == [True] * 3
    assert min(aggregator.seconds) > 0 and sum(aggregator.seconds) <= time.perf_counter() - began
    assert aggregator.committed() == list(range(24))
    assert sorted(map(len, aggregator.parts)) == [4, 5, 5, 5, 5]
    for index, outputs, failed in aggregator.parts.values():
        assert not failed and outputs.dtype == np.float32 and index.dtype == np.int32
        for model, row in zip(index.tolist(), outputs, strict=True):
            np.testing.assert_array_equal(row, expected_outputs(run, dataset, model))


def test_each_model_gets_the_seed_of_its_index_whatever_the_batch(run, dataset, sampler, aggregator, trainer):
    run_all(run, trainer, sampler, aggregator)
    assert [seed for _, seed in trainer.trained] == [model_seed(run.spec.seed, i) for i in range(24)]
    subsets = [members for members, _ in trainer.trained]
    assert subsets[10] == subsets[11] != subsets[12]  # two models evaluate each unseen subset


def test_a_grouped_design_hands_out_examples_not_columns(make_run, dataset, trainer, sampler, aggregator):
    run = make_run(design={"kind": "grouped"})
    run_all(run, trainer, sampler, aggregator)
    for members, _ in trainer.trained:
        assert len(members) == 6 and all(member ^ 1 in members for member in members)


def test_the_sampler_is_asked_for_one_contiguous_range_for_each_sub_chunk(run, trainer, sampler, aggregator):
    run_all(run, trainer, sampler, aggregator)
    assert sampler.asked == [range(0, 5), range(5, 10), range(10, 13), range(12, 15), range(15, 17)]


def test_what_is_committed_is_not_trained_again(run, trainer, sampler, aggregator):
    job.run_chunk(run, 0, trainer, sampler, aggregator, NEVER)
    trainer.trained.clear()
    del aggregator.parts[range(5, 10)]
    assert job.run_chunk(run, 0, trainer, sampler, aggregator, NEVER)
    assert [seed for _, seed in trainer.trained] == [model_seed(run.spec.seed, i) for i in range(5, 10)]
    assert aggregator.committed() == list(range(10))


def test_a_stopped_job_commits_what_is_whole_and_goes_on_later(run, trainer, sampler, aggregator):
    stop = threading.Event()
    assert not job.run_chunk(run, 0, trainer, sampler, aggregator, stop, Stop(stop, after=7))
    assert aggregator.committed() == list(range(5))
    assert job.run_chunk(run, 0, trainer, sampler, aggregator, NEVER)
    assert aggregator.committed() == list(range(10))


def test_a_job_that_is_stopped_before_it_starts_trains_nothing(run, trainer, sampler, aggregator):
    stop = threading.Event()
    stop.set()
    assert not job.run_chunk(run, 0, trainer, sampler, aggregator, stop)
    assert not trainer.trained and not aggregator.parts


def test_the_next_sub_chunk_trains_while_one_is_committed_but_no_more_than_a_batch_of_it(
    run, trainer, sampler, aggregator
):
    aggregator.gate.clear()
    reached, ahead = threading.Event(), []

    class Look(job.Observer):
        def trained(self, models, seconds):
            ahead.append(len(trainer.trained))
            if len(trainer.trained) > 5:
                reached.set()

    thread = threading.Thread(target=job.run_chunk, args=(run, 0, trainer, sampler, aggregator, NEVER, Look()))
    thread.start()
    assert reached.wait(LIMIT)
    assert not aggregator.parts and len(trainer.trained) == ahead[-1] == 7  # 5, and the next batch of 2
    aggregator.gate.set()
    thread.join(LIMIT)
    assert aggregator.committed() == list(range(10))


class Overflowing:
    """Gives chosen outputs for some models, with any seed or with the first seed only, and 3 for all others."""

    models_at_once = 3

    def __init__(self, run, always=None, once=None):
        self.bad = {}
        for model, value in (always or {}).items():
            self.bad |= {model_seed(run.spec.seed, model, attempt): value for attempt in (0, 1)}
        self.bad |= {model_seed(run.spec.seed, model): value for model, value in (once or {}).items()}
        self.subsets = {}

    def train_many(self, subsets, seeds):
        self.subsets |= {seed: subset.tolist() for subset, seed in zip(subsets, seeds, strict=True)}
        return seeds

    def outputs_many(self, models):
        return np.array([[1.0, 2.0, self.bad.get(seed, 3.0)] for seed in models])


class Note(job.Observer):
    def __init__(self):
        self.again, self.lost = {}, {}

    def retried(self, reasons):
        self.again |= reasons

    def failed(self, reasons):
        self.lost |= reasons


def test_models_without_usable_outputs_are_reported_with_index_and_both_seeds(run, sampler, aggregator):
    note = Note()
    trainer = Overflowing(run, {2: np.nan, 4: -np.inf, 7: 4e38, 8: 3e38})
    assert job.run_chunk(run, 0, trainer, sampler, aggregator, NEVER, note)
    failed = {model: reason for _, _, part in aggregator.parts.values() for model, reason in part.items()}
    assert failed == note.lost and sorted(failed) == [2, 4, 7] and aggregator.retried == []
    assert failed[2] == (
        f"model 2 (seed {model_seed(0, 2)}): 1 of 3 outputs are not finite; "
        f"again with seed {model_seed(0, 2, 1)}: the same"
    )
    assert failed[7].count("1 of 3 outputs are beyond float32, which holds up to 3.403e+38, the largest is 4e+38") == 1
    assert "rescale the outputs; again with" in failed[7]
    assert aggregator.committed() == list(range(10))
    assert sorted(i for index, _, _ in aggregator.parts.values() for i in index) == [0, 1, 3, 5, 6, 8, 9]


def test_a_model_that_fails_once_is_trained_again_on_its_subset_with_another_seed(run, sampler, aggregator):
    note = Note()
    trainer = Overflowing(run, always={4: np.nan}, once={2: np.nan, 8: np.inf})
    assert job.run_chunk(run, 0, trainer, sampler, aggregator, NEVER, note)
    assert sorted(note.again) == [2, 4, 8] and sorted(note.lost) == [4]
    assert aggregator.retried == [2, 8] and aggregator.committed() == list(range(10))
    assert sorted(i for index, _, _ in aggregator.parts.values() for i in index) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert all(np.isfinite(outputs).all() for _, outputs, _ in aggregator.parts.values())
    for model in note.again:
        assert trainer.subsets[model_seed(0, model)] == trainer.subsets[model_seed(0, model, 1)]
    assert len(trainer.subsets) == 10 + 3


def test_a_job_stopped_before_a_second_attempt_leaves_the_sub_chunk_to_the_next(run, sampler, aggregator):
    stop = threading.Event()
    trainer = Overflowing(run, once={2: np.nan})
    assert not job.run_chunk(run, 0, trainer, sampler, aggregator, stop, Stop(stop, after=5))
    assert not aggregator.parts
    assert job.run_chunk(run, 0, trainer, sampler, aggregator, NEVER)
    assert aggregator.retried == [2] and aggregator.committed() == list(range(10))


def test_a_sub_chunk_of_failed_models_only_is_committed_too(run, sampler, aggregator):
    trainer = Overflowing(run, dict.fromkeys(range(5), np.nan))
    assert job.run_chunk(run, 0, trainer, sampler, aggregator, NEVER)
    index, outputs, failed = aggregator.parts[range(5)]
    assert index.shape == (0,) and outputs.shape == (0, 3) and len(failed) == 5


class Raising:
    """Raises on some models, with either seed."""

    def __init__(self, run, models, error):
        self.seeds = {model_seed(run.spec.seed, model, attempt) for model in models for attempt in (0, 1)}
        self.error, self.trained = error, 0

    def train(self, subset, seed):
        self.trained += 1
        if seed in self.seeds:
            raise self.error
        return float(subset.sum())

    def outputs(self, model):
        return [model] * 3


def test_a_model_on_which_the_users_class_raises_is_lost_and_no_other(run, sampler, aggregator):
    trainer = Raising(run, [7], ZeroDivisionError("no examples left"))
    assert run_all(run, OneByOne(trainer), sampler, aggregator) == [True] * 3
    assert aggregator.committed() == list(range(24)) and trainer.trained == 25
    (failed,) = (failed for _, _, failed in aggregator.parts.values() if failed)
    assert re.fullmatch(
        rf"model 7 \(seed {model_seed(0, 7)}\): raised ZeroDivisionError: no examples left "
        rf"\(.*test_job.py:\d+ in train\); again with seed {model_seed(0, 7, 1)}: the same",
        failed[7],
    )


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_hopeless_run_stops_after_a_few_models_with_the_reason_and_commits_none(
    make_run, sampler, aggregator, at_once
):
    run = make_run(m=1000, chunk=1000, sub_chunk=100)
    trainer = Raising(run, range(2000), ValueError("no such column"))

    class Many(OneByOne):
        models_at_once = at_once

    with pytest.raises(ConfigError) as caught:
        job.run_chunk(run, 0, Many(trainer), sampler, aggregator, NEVER)
    message = str(caught.value)
    assert message.startswith(
        "somewhere:Sum: models on 6 of the 6 subsets so far failed, too many to be chance; model 0 "
    )
    assert re.search(
        r"raised ValueError: no such column \(.*test_job.py:\d+ in train\); again with .*: the same\.", message
    )
    assert "DATAMODELS_TRAINER_TOLERATED_FAILURES" in message and "\n" not in message
    assert caught.value.exit_code == ExitCode.CONFIG
    assert trainer.trained <= 40 and not aggregator.parts


def test_outputs_that_are_never_finite_stop_the_run_too(make_run, sampler, aggregator):
    run = make_run(m=1000, chunk=1000, sub_chunk=100)
    trainer = Overflowing(run, dict.fromkeys(range(1000), np.nan))
    with pytest.raises(ConfigError, match=r"7 of the 7 subsets so far failed.*1 of 3 outputs are not finite"):
        job.run_chunk(run, 0, trainer, sampler, aggregator, NEVER)
    assert len(trainer.subsets) <= 16


def test_too_many_failures_stop_a_run_that_began_well_and_a_few_do_not(make_run, sampler, aggregator):
    run = make_run(m=500, chunk=500, sub_chunk=100)
    few = Raising(run, range(0, 500, 12), ValueError("rare"))
    assert job.run_chunk(run, 0, OneByOne(few), sampler, aggregator, NEVER)
    many = Raising(run, range(100, 500, 2), ValueError("often"))
    with pytest.raises(ConfigError, match=r"models on \d\d of the \d\d\d subsets so far failed"):
        job.run_chunk(run, 0, OneByOne(many), sampler, MemoryAggregator(run.spec.models), NEVER)
    assert many.trained < 260


def test_models_of_one_bad_subset_do_not_count_as_many(make_run, sampler, aggregator):
    """Twenty models are trained on each unseen subset, and fail together if the subset is to blame."""
    run = make_run(evaluate={"subsets": 7, "models": 20}, chunk=200, sub_chunk=10, m=10)
    bad = Raising(run, range(30, 50), ValueError("class 3 has no members"))
    assert job.run_chunk(run, 0, OneByOne(bad), sampler, aggregator, NEVER)
    assert sum(len(failed) for _, _, failed in aggregator.parts.values()) == 20


def test_running_out_of_memory_may_pass(run, sampler, aggregator):
    with pytest.raises(StageError, match=r"one model at a time, MemoryError \(.*test_job.py:") as caught:
        job.run_chunk(run, 0, OneByOne(Raising(run, [0], MemoryError())), sampler, aggregator, NEVER)
    assert caught.value.exit_code == ExitCode.TRANSIENT


@pytest.mark.parametrize(
    "outputs", [np.zeros((4, 2)), np.zeros(4), np.zeros((1, 3)), np.full((4, 3), "a")], ids=["n", "flat", "r", "text"]
)
def test_outputs_of_the_wrong_shape_or_type_are_the_trainers_fault(run, sampler, aggregator, outputs):
    class Wrong:
        models_at_once = 4

        def train_many(self, subsets, seeds):
            return None

        def outputs_many(self, models):
            return outputs

    with pytest.raises(ConfigError, match=r"somewhere:Sum gave outputs .* must be float\[2, 3\]"):
        job.run_chunk(run, 0, Wrong(), sampler, aggregator, NEVER)
    assert not aggregator.parts


@pytest.mark.parametrize("fault", [UnavailableError("away"), BusyError("no memory for it")])
def test_a_commit_is_tried_again_when_the_service_is_away_or_busy(run, trainer, sampler, aggregator, fault):
    aggregator.faults = [fault]
    assert job.run_chunk(run, 0, trainer, sampler, aggregator, NEVER)
    assert aggregator.committed() == list(range(10))


def test_a_stopped_job_does_not_wait_for_a_service_that_is_away(run, trainer, sampler, aggregator):
    aggregator.faults = [UnavailableError("away")] * 50
    stop = threading.Event()
    assert not job.run_chunk(run, 0, trainer, sampler, aggregator, stop, Stop(stop, after=5))
    assert not aggregator.parts


def test_patience_with_a_service_ends(run, trainer, sampler, aggregator):
    aggregator.faults = [UnavailableError("away")] * 50
    with pytest.raises(UnavailableError, match="away"):
        job.run_chunk(run, 0, trainer, sampler, aggregator, NEVER, patience=0.1)


def test_progress_is_asked_for_until_it_is_told(run, trainer, sampler, aggregator):
    class Away(type(aggregator)):
        asked = 0

        def progress(self, name):
            self.asked += 1
            if self.asked < 3:
                raise DeadlineError("slow")
            return super().progress(name)

    aggregator.__class__ = Away
    assert job.run_chunk(run, 0, trainer, sampler, aggregator, NEVER)
    assert aggregator.asked == 3 and aggregator.committed() == list(range(10))


def test_without_a_sampler_the_same_subsets_are_drawn_here(run, trainer, sampler, aggregator):
    class Away:
        def subsets(self, design, first, last):
            raise UnavailableError("no sampler answers")

    told = []

    class Told(job.Observer):
        def drawn_here(self, reason):
            told.append(reason)

    assert job.run_chunk(run, 0, trainer, Away(), aggregator, NEVER, Told())
    assert told and set(told) == {"no sampler answers"}
    again = MemoryAggregator(run.spec.models)
    assert job.run_chunk(run, 0, trainer, sampler, again, NEVER)
    for models, (_, outputs, _) in aggregator.parts.items():
        assert np.array_equal(outputs, again.parts[models][1])


def test_a_refused_commit_ends_the_job(run, trainer, sampler, aggregator):
    aggregator.faults = [OutputsError("refused")]
    with pytest.raises(OutputsError, match="refused"):
        job.run_chunk(run, 0, trainer, sampler, aggregator, NEVER)


def test_a_lost_commit_is_told_beside_the_error_that_came_after(run, sampler, aggregator):
    aggregator.faults = [OutputsError("refused")]
    aggregator.gate.clear()

    class Late(Raising):
        def train(self, subset, seed):
            if seed in self.seeds:
                aggregator.gate.set()
            return super().train(subset, seed)

    with pytest.raises(ConfigError, match=r"on model 5 \(seed \d+\) raised SpecError") as caught:
        job.run_chunk(run, 0, OneByOne(Late(run, [5], SpecError("no"))), sampler, aggregator, NEVER)
    assert caught.value.__notes__ == ["and the sub-chunk before it was not committed: refused"]


def test_a_chunk_that_does_not_exist_is_refused(run, trainer, sampler, aggregator):
    with pytest.raises(SpecError, match="chunk = 3: must be 0 to 2"):
        job.run_chunk(run, 3, trainer, sampler, aggregator, NEVER)


def test_resolving_again_gives_the_same_design(run, dataset):
    assert runs.resolve(run.spec, dataset).document() == run.document()
