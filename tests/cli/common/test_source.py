"""Analyses that read the store of a run work through a query service, with the same results."""

import json

import numpy as np
import pytest
from datamodels.services.query.service import service

from datamodels.errors import ExitCode
from datamodels.exchange import reports
from datamodels.query.weights import WeightStore
from datamodels.rpc.serve import Server
from datamodels.settings import ServeSettings
from datamodels.storage import keys, records
from datamodels.testing import linear
from tests.cli.test_main import run_main


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Yield (options that name the store, options that name its query service, the store, the run)."""
    store, run = linear.make_store(tmp_path_factory.mktemp("store"))
    with Server(ServeSettings(), [service(WeightStore(store))]) as server:
        yield ("--store", store.url), ("--address", server.address), store, run.name


@pytest.mark.parametrize(
    "words", [("review", "{}"), ("leakage", "{}"), ("curve", "{}"), ("compare", "{}", "--targets", "0", "--quiet")]
)
def test_an_analysis_is_the_same_through_a_service(capsys, places, words):
    direct, service, store, run = places
    command = [word.format(run) for word in words]
    before = list(store.list(""))
    found = run_main(capsys, *command, *service, "--json")
    assert list(store.list("")) == before
    assert found == run_main(capsys, *command, *direct, "--json")


def test_an_export_is_the_same_through_a_service(capsys, places, tmp_path):
    direct, service, _, run = places
    for name, place in (("a", direct), ("b", service)):
        code, _, err = run_main(capsys, "export", run, "--output", str(tmp_path / name), "--format", "npz", *place)
        assert code == 0, err
    one, two = (np.load(tmp_path / f"{name}.npz") for name in "ab")
    assert one.files == two.files and all(one[f].tobytes() == two[f].tobytes() for f in one.files)


def test_a_report_through_a_service_is_the_one_that_is_stored(capsys, places, tmp_path):
    _, service, store, run = places
    path = tmp_path / "r.html"
    code, _, err = run_main(capsys, "report", run, "--output", str(path), *service)
    assert code == 0 and run in path.read_text(encoding="utf-8"), err
    assert reports.kept(store, run, 0) is None
    records.create(store, keys.report(run, 0), {"html": "as stored"})
    code, out, err = run_main(capsys, "report", run, "--output", str(path), *service, "--json")
    assert code == 0 and path.read_text() == "as stored" and json.loads(out)["bytes"] == len("as stored"), err
    run_main(capsys, "report", run, "--output", str(path), *service, "--threshold", "0.5")
    assert path.read_text(encoding="utf-8") != "as stored"


def test_a_service_and_a_cluster_cannot_both_be_asked(capsys, places):
    _, service, _, run = places
    code, _, err = run_main(capsys, "review", run, *service, "--namespace", "ns")
    assert code == ExitCode.CONFIG and "give one of them" in err and err.count("\n") == 1
