"""Scores by gradients of a run's first models, with real trainers."""

import dataclasses
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from datamodels.analyze.quality import curve
from datamodels.baselines import compare
from datamodels.baselines.context import Context
from datamodels.cli.main import _terminate as terminate
from datamodels.cli.main import main
from datamodels.errors import ExitCode, SpecError, Terminated
from datamodels.fit.data.problem import FOLDS
from datamodels.fit.job import gradients as stored
from datamodels.fit.job.finished import read_fit
from datamodels.fit.residual import scores
from datamodels.run import designs, runs, specs
from datamodels.run.dataset import Dataset
from datamodels.runners import gradients, pipeline
from datamodels.runners.view import Bar, View
from datamodels.storage.local import LocalStore
from datamodels.testing import committed
from datamodels.train.contract import load_trainer, model_seed, resolve
from datamodels.train.gradients import influence
from datamodels.train.workloads import digits
from datamodels.train.workloads.mlp import MLP

SMALL = {
    "name": "small",
    "dataset": {"load": "datamodels.train.workloads.digits:load", "options": {"train": 60, "test": 4}},
    "trainer": {"class": "datamodels.train.workloads.mlp:MLP", "options": {"hidden": 4, "epochs": 2}},
    "m": 20,
    "chunk": 10,
    "sub_chunk": 10,
    "evaluate": {"subsets": 3, "models": 2},
    "fit": {"estimator": "prior"},
}
TREES = {
    "class": "datamodels.train.workloads.tabular:Tabular",
    "options": {"estimator": "sklearn.tree:ExtraTreeClassifier"},
}


def in_groups(train, test):
    """Some digits, in 12 groups."""
    return dataclasses.replace(digits.load(train, test), groups=np.arange(train) % 12)


def parity(train, test):
    """Some digits, as even ones and odd ones: simple models of two classes take less time."""
    found = digits.load(train, test)
    return Dataset(found.x, found.y % 2, found.x_test, found.y_test % 2)


class Odd(MLP):
    """Its gradients do not say what they should."""

    def gradients(self, model, layers=()):
        raise KeyError("weights")


def made(**changes):
    """(spec's run, its data set)."""
    spec = specs.parse(SMALL | changes)
    dataset = runs.load_dataset(spec)
    return resolve(spec, dataset), dataset


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "store"))


@pytest.mark.parametrize("targets", ["test", "both"])
@pytest.mark.parametrize("group", [False, True], ids=["examples", "groups"])
def test_they_are_means_over_the_models_of_each_fold_that_count(targets, group):
    load = {"load": "tests.runners.test_gradients:in_groups"} if group else {}
    kind = {"design": {"kind": "grouped"}} if group else {}
    run, dataset = made(targets=targets, dataset=SMALL["dataset"] | load, **kind)
    found = gradients.compute(run, dataset, 6)
    trainer = load_trainer(run.spec, dataset, dataset.targets(targets))
    groups = np.arange(run.design.examples) if run.design.column_of_each is None else run.design.column_of_each
    parts = {fold: [[] for _ in range(run.n)] for fold in range(FOLDS)}
    for number in range(6):
        columns = designs.subset(run.design, number)
        members = run.design.members(columns)
        model = trainer.train_many([members], [model_seed(run.spec.seed, number)])[0]
        scores = influence.scores(trainer.gradients(model), members, number)
        for target, example in enumerate(run.own.tolist()):
            if example < 0 or groups[example] not in columns:
                sums = np.bincount(groups, weights=scores[target], minlength=run.design.columns)
                parts[number // 2 % FOLDS][target].append(sums)
    for fold, rows in parts.items():
        for target, kept in enumerate(rows):
            if kept:
                np.testing.assert_allclose(found[fold, target], np.mean(kept, axis=0), rtol=1e-3, atol=1e-6)
            else:
                assert np.isnan(found[fold, target]).all()
    assert (targets == "test") == (not np.isnan(found[:3]).any()) and np.isnan(found[3:]).all()


def test_they_are_computed_once(store, monkeypatch):
    run, dataset = made()
    told = []
    first = gradients.ensure(run, lambda: dataset, store, lambda done, of: told.append((done, of)))
    assert first.models == 20 and (told[0], told[-1]) == ((0, 20), (20, 20))
    monkeypatch.setattr(gradients, "compute", None)
    assert gradients.ensure(run, lambda: dataset, store) == first == stored.find(store, run)
    for fit in ({"estimator": "lasso"}, {"estimator": "prior", "gradients": 0}):
        assert gradients.ensure(run.with_fit(fit), lambda: dataset, store) is None


def test_a_driver_that_trains_no_models_refuses_before_it_starts(store):
    run, dataset = made()
    asked = run.with_fit({"estimator": "prior", "gradients": 3})
    gradients.require_stored(run, store)
    gradients.require_stored(run.with_fit({"estimator": "prior", "gradients": 0}), store)
    with pytest.raises(SpecError, match=rf"`datamodels fit {run.name} --fit estimator=prior` computes them"):
        gradients.require_stored(asked, store)
    gradients.ensure(asked, lambda: dataset, store)
    gradients.require_stored(asked, store)


@pytest.mark.parametrize("here", [True, False])
def test_the_pipeline_computes_them_if_trainers_use_its_machine(store, here):
    run, dataset = made(fit={"estimator": "prior", "gradients": 2})
    runner = SimpleNamespace(trains_here=here)
    stages = pipeline._Stages(pipeline.Result(run, dataset), runner, None, None, store, View())
    told = []
    bar = Bar()
    bar.reach = lambda done, note: told.append((done, note))
    stages._take_gradients(bar, 7)
    assert (stored.read(store, run, 2) is not None) == here
    assert told == ([(7, f"gradients of {done} of 2 models") for done in (0, 1, 2)] if here else [])


def test_a_stored_run_is_fitted_with_them_and_they_are_verified(store, tmp_path, capsys, monkeypatch):
    two = SMALL["dataset"] | {"load": "tests.runners.test_gradients:parity"}
    run, dataset = made(m=60, dataset=two)
    runs.create(store, run)
    committed.commit(store, run)
    monkeypatch.setenv("DATAMODELS_FITTER_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("DATAMODELS_FITTER_THREADS", "1")
    fit = ["fit", run.name, "--store", store.url, "--quiet"]
    for settings in (["--fit", "gradients=0"], ["--fit", "gradients=6"]):
        assert main([*fit, *settings]) == ExitCode.DONE
    records = [read_fit(store, run.name, number) for number in range(2)]
    assert [scores.INPUTS in record.choice["errors"] for record in records] == [False, True]
    used = []
    monkeypatch.setattr(curve, "measure", lambda *_, prior, **__: used.append(prior.gradients.models) or [])
    curve.of_newest_fit(store, run)
    assert used == [6], "the points of a curve are fits of the same kind"
    reference, _ = compare.of_datamodels(Context(run, dataset, store, 2))
    computed = stored.read(store, run, 6)
    assert reference.seconds == records[1].seconds + computed.seconds > computed.seconds > 0
    capsys.readouterr()
    assert main(["status", run.name, "--store", store.url, "--verify"]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines.count(f"weights and scores by gradients of {run.n} targets verified") == 1
    block = next((tmp_path / "store" / "runs" / run.name).rglob("*.npy"))
    block.write_bytes(block.read_bytes()[:-1])
    assert main(["status", run.name, "--store", store.url, "--verify"]) == ExitCode.FAILED
    assert block.name in capsys.readouterr().err


class Stopped(MLP):
    """Somebody stops the command while this one computes."""

    def gradients(self, model, layers=()):
        signal.raise_signal(signal.SIGTERM)


def test_sigterm_is_no_fault_of_a_trainer(store):
    """A fit went on without the gradients, and committed weights that nobody had asked for."""
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        run, dataset = made(trainer=SMALL["trainer"] | {"class": "tests.runners.test_gradients:Stopped"})
        with pytest.raises(Terminated):
            gradients.ensure(run, lambda: dataset, store)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("trainer", "match"),
    [
        (TREES, "offers no gradients; or leave it out"),
        (SMALL["trainer"] | {"class": "tests.runners.test_gradients:Odd"}, "KeyError"),
    ],
)
def test_trainers_that_cannot_give_them(store, trainer, match):
    run, dataset = made(trainer=trainer)
    assert gradients.ensure(run, lambda: dataset, store) is None and stored.find(store, run) is None
    with pytest.raises(SpecError, match=match):
        gradients.ensure(run.with_fit({"estimator": "prior", "gradients": 4}), lambda: dataset, store)
