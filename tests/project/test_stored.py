"""Runs as earlier versions stored them: opened, asked, fitted and continued by this version."""

import contextlib
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from datamodels.services.aggregator.service import service as aggregator
from datamodels.services.fitter.service import service as fitter
from datamodels.services.query.service import service as query
from datamodels.services.sampler.service import service as sampler
from datamodels.services.trainer.service import prepare, train_chunks
from datamodels.services.trainer.shares import Shares

from datamodels.aggregate import manifest
from datamodels.aggregate.committer import Committer
from datamodels.analyze.quality import rank
from datamodels.cli.analyses.evaluate import document
from datamodels.cli.main import main
from datamodels.display.stored import read_record
from datamodels.fit.job import fits
from datamodels.fit.job.fitter import Fitter
from datamodels.fit.job.job import FitJob
from datamodels.outputs import MARGIN
from datamodels.query.weights import WeightStore
from datamodels.rpc.clients.query import QueryClient
from datamodels.rpc.serve import Server
from datamodels.run import designs, runs, specs
from datamodels.runners import pipeline
from datamodels.runners.base import SERVICES, Runner
from datamodels.runners.view import View
from datamodels.settings import ClientSettings, FitterSettings, ServeSettings, TrainerSettings
from datamodels.storage.local import LocalStore
from datamodels.train.contract import model_seed

STORED = Path(__file__).parents[1] / "stored" / "0.1.0"
RUN = "stored-52e6f07e2127"
TRAINED = 1e-2
"""How far outputs may be from those of the same model trained by another build of PyTorch; their spread is 1.2."""


@pytest.fixture
def store(tmp_path):
    shutil.copytree(STORED / "store", tmp_path / "store")
    return LocalStore(tmp_path / "store")


class InProcess(Runner):
    """All services, and the trainer, in this process."""

    def __init__(self, store, scratch):
        self._store = store
        self._settings = FitterSettings(scratch=str(scratch), device="cpu", threads=1)

    @contextlib.contextmanager
    def services(self, names=SERVICES):
        fitting, weights = Fitter(self._store, self._settings), WeightStore(self._store, refresh=0)
        served = [sampler(), aggregator(Committer(self._store)), fitter(fitting), query(weights)]
        with Server(ServeSettings(), served) as server:
            yield ClientSettings(**dict.fromkeys(names, server.address))

    def train(self, run, chunks, services, tick):
        train_chunks(run.name, Shares(list(chunks)), services, TrainerSettings(), threading.Event())
        tick()


def recorded(name):
    return [json.loads(line) for line in (STORED / name).read_text().splitlines()]


def spec_without_until():
    spec = specs.load(STORED / "spec.yaml")
    assert spec.until is not None
    return spec.model_copy(update={"until": None})


def test_its_spec_still_names_it():
    """`until` and `fit` are not part of the name, and old spellings are."""
    assert specs.load(STORED / "spec.yaml").run == spec_without_until().run == RUN


def test_all_its_objects_are_read(store, tmp_path, capsys):
    assert main(["status", RUN, "--verify", "--home", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [RUN, "180 of 260 models committed", "9 parts with 180 models verified"]
    assert lines[3].startswith("fit 0 (lasso) of 160 models, 24 targets, ")
    assert lines[4] == "weights of 24 targets verified"
    run = runs.read(store, RUN)
    assert run.dtype == "float16"
    assert not runs.changes(run.document(), runs.resolve(run.spec, runs.load_dataset(run.spec)).document())
    assert (run.declared, run.output, run.label_names) == (None, MARGIN, ())  # the first version did not say


def test_questions_are_answered_as_before(store):
    with (
        Server(ServeSettings(), [query(WeightStore(store))]) as server,
        QueryClient(server.address) as client,
    ):
        top = client.top(RUN, 3, 3)
        predicted = client.predict_columns(RUN, range(60)).predictions.ravel()
        evaluated = document(client.evaluate(RUN))
    found = {"helpful": top.helpful, "harmful": top.harmful}
    rows = [(effect, row.column, row.label, row.weight) for effect, listed in found.items() for row in listed]
    before = recorded("top.jsonl")
    assert [row[:3] for row in rows] == [(row["effect"], row["column"], row["label"]) for row in before]
    np.testing.assert_allclose([row[3] for row in rows], [row["weight"] for row in before], rtol=1e-6)
    before = [row["prediction"] for row in recorded("predict.jsonl")]
    np.testing.assert_allclose(predicted, before, rtol=1e-5, atol=1e-6)
    (before,) = recorded("evaluate.json")
    assert evaluated.pop("run") == before.pop("run") == RUN and evaluated.pop("output") == "margin"
    assert evaluated.pop("verdict")["word"]  # the first version gave none
    # The first version did not correct the LDS of two models on each subset to that of twenty.
    assert evaluated.pop("per_target") == pytest.approx(corrected(before))
    for name in ("lds", "quantiles", "worst", "per_target"):
        evaluated.pop(name, None), before.pop(name)
    for name in ("r2_of_single_models", "r2_of_means"):  # intervals of few subsets did not lie around their value
        low, high = evaluated[name].pop("interval")
        assert low < before[name]["r2"] < high and before[name].pop("interval")
    assert dict(numbers(evaluated)) == pytest.approx(dict(numbers(before)), rel=1e-6, abs=1e-7)


def corrected(before):
    """The correlations of targets of an evaluation, corrected from two models on each subset to twenty."""
    given = before.get("lds") if isinstance(before.get("lds"), dict) else before
    one = rank.reliability_of_one(given["ceiling"], 1)
    return np.minimum(rank.corrected(np.array(before["per_target"]), one, 2, 20), 1).tolist()


def numbers(value, path=()):
    """Yields all values of a JSON document, each with its place."""
    if isinstance(value, dict | list | tuple):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(below, (*path, key))
    else:
        yield path, value


def test_its_fit_is_known_and_can_be_made_again(store, tmp_path):
    job = FitJob(store, RUN)
    before = fits.load(store, job.finished())
    shutil.rmtree(tmp_path / "store" / "fit")
    settings = FitterSettings(scratch=str(tmp_path / "scratch"), device="cpu", threads=1)
    record = job.solve(settings, progress=lambda *progress: None, stop=threading.Event())
    assert (record.number, record.rows, record.targets) == (0, 160, 24)
    again, run = fits.load(store, record), runs.read(store, RUN)
    members = designs.unpack(designs.subsets(run.design, 0, 240), 120)
    # A fit solves to a duality gap of 1e-3, so that another solver may differ by about as much, but no more.
    spread = before.predict(members).std()
    assert np.sqrt(np.mean((again.predict(members) - before.predict(members)) ** 2)) < 0.03 * spread


def test_its_models_can_be_trained_again(store):
    """From the same spellings of the trainer's options come the same models."""
    run = runs.read(store, RUN)
    (part,) = (part for part in manifest.read_newest(store, RUN).parts if part.first == 240)
    stored = part.read(store, RUN)
    models = stored.model_index.tolist()
    trainer = prepare(run)
    subsets = [designs.subset(run.design, run.spec.subset_index(model)) for model in models]
    outputs = trainer.outputs_many(trainer.train_many(subsets, [model_seed(run.spec.seed, model) for model in models]))
    np.testing.assert_allclose(outputs, stored.outputs, atol=TRAINED)


def test_it_is_topped_up(store, tmp_path):
    spec = runs.continued(store, spec_without_until())
    assert spec.fit.estimator == "lasso", "the default when the run was created"
    result = pipeline.run(spec, runner=InProcess(store, tmp_path / "scratch"), store=store, view=View())
    added = [f"runs/{RUN}/display.json", *sorted(chunk.key for chunk in read_record(store, RUN).chunks)]
    expected = [f"runs/{RUN}.json", *added, f"runs/{RUN}/meaning-000000.json"]
    assert result.run.name == RUN and [*store.list("runs/")] == expected, "examples look now as they did not before"
    assert runs.read(store, RUN).label_names == tuple("0123456789") and runs.read(store, RUN).output == MARGIN
    assert (result.trained, result.committed, result.failed, result.fit) == (80, 260, 0, 1)
    assert fits.read_fit(store, RUN, 0).rows == 160 and fits.read_fit(store, RUN, 1).rows == 240
    (before,) = recorded("topped_up.json")
    assert result.evaluation.lds == pytest.approx(np.mean(corrected(before)), abs=0.02)
    one = rank.reliability_of_one(before["ceiling"], 1)
    assert result.evaluation.ceiling == pytest.approx(rank.agreement(one, 10), abs=0.02)
    assert len(result.influences) == 3
