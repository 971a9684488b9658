"""The long calls of the query service, on a real socket."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from datamodels.services.query.service import service

from datamodels.aggregate import manifest
from datamodels.analyze.quality.unseen import Unseen
from datamodels.errors import CorruptObjectError, NotReadyError, RunNotFoundError
from datamodels.lifecycle import compaction, objects, removal
from datamodels.query.weights import WeightStore
from datamodels.rpc.client import connect
from datamodels.rpc.clients.query import QueryClient
from datamodels.rpc.serve import Server
from datamodels.run import runs
from datamodels.settings import ClientSettings, ServeSettings
from datamodels.storage import keys, records
from datamodels.storage.local import LocalStore
from datamodels.testing import committed, fitted
from datamodels.v1 import query_pb2, query_pb2_grpc
from tests.helpers.waiting import LIMIT


class SlowStore(LocalStore):
    """Blocks reads of committed outputs until the test releases them, so that it can watch an analysis."""

    def __init__(self, folder):
        super().__init__(folder)
        self.go, self.waits = threading.Event(), threading.Event()
        self.go.set()

    def read(self, key):
        if key.endswith(".parquet") and key.startswith("aggregate/"):
            self.waits.set()
            assert self.go.wait(LIMIT)
        return super().read(key)


def make_store(folder, *, stop=None, **fields):
    """Return (store, run) with committed outputs, and their true weights as the newest fit."""
    store, run = SlowStore(folder), committed.make_run(**{"m": 40, "evaluate": {"subsets": 8, "models": 2}} | fields)
    runs.create(store, run)
    snapshot = committed.commit(store, run, stop=stop)
    fitted.commit_fit(store, run, committed.truth(run).T, rows=min(40, stop or 40), manifest_version=snapshot.version)
    return store, run


@pytest.fixture
def serve():
    """serve(store) starts a query service and returns a client of it, and its address."""
    entered: list[Callable] = []

    def enter(store):
        server = Server(ServeSettings(), [service(WeightStore(store, refresh=0))]).__enter__()
        client = QueryClient(server.address, ClientSettings())
        entered.extend([lambda: server.__exit__(None, None, None), client.close])
        return client, server.address

    yield enter
    for leave in reversed(entered):
        leave()


def kept(store, run):
    return [key for key in store.list(f"query/{run.name}/") if "/quality-" in key]


def test_an_evaluation_equals_that_of_the_core_and_is_stored(tmp_path, serve):
    store, run = make_store(tmp_path)
    client, _ = serve(store)
    reports = []
    answer = client.evaluate(run.name, tell=lambda *progress: reports.append(progress))
    newest = WeightStore(store).fitted(run.name)
    unseen = Unseen.read(run, manifest.read_newest(store, run.name), store)
    expected = unseen.predicted_by(newest.solution).quality()
    assert answer.found.evaluation.lds == expected.evaluation.lds
    assert answer.found.mean.interval == expected.mean.interval
    np.testing.assert_array_equal(answer.found.single.per_target, expected.single.per_target)
    np.testing.assert_array_equal(answer.found.points.predicted, expected.points.predicted)
    assert reports[0] == ("waiting", 0.0) and (answer.provenance.fit, answer.provenance.partial) == (0, False)
    assert len(kept(store, run)) == 1
    reports.clear()
    assert client.evaluate(run.name, tell=lambda *progress: reports.append(progress)).found.mean.r2 == expected.mean.r2
    assert not reports


def test_a_stored_answer_that_is_no_message_is_a_damaged_object(tmp_path, serve):
    store, run = make_store(tmp_path)
    serve(store)[0].evaluate(run.name)
    (key,) = kept(store, run)
    store.delete(key)
    records.create(store, key, {"answer": "////"})
    with pytest.raises(CorruptObjectError, match=f"{key}: is not the result of an analysis"):
        serve(store)[0].evaluate(run.name)


def test_an_answer_about_a_run_that_still_trains_is_partial_and_not_stored(tmp_path, serve):
    store, run = make_store(tmp_path, stop=50)
    answer = serve(store)[0].evaluate(run.name)
    assert answer.found.evaluation.subsets < 8 and answer.provenance.partial and not kept(store, run)


def test_a_fit_older_than_the_newest_manifest_is_not_final(tmp_path, serve):
    store, run = make_store(tmp_path, stop=50)
    committed.commit(store, run)
    serve(store)[0].evaluate(run.name)
    assert not kept(store, run)


def test_a_run_that_was_compacted_and_pruned_has_the_same_answers(tmp_path, serve):
    """Its newest manifest is not that of the fit, but lists the same models."""
    store, run = make_store(tmp_path)
    before = serve(store)[0].evaluate(run.name).found.evaluation.lds
    (key,) = kept(store, run)
    compaction.compact(store, run.name)
    for _ in range(2):
        store.delete(key)
        answer = serve(store)[0].evaluate(run.name)
        assert answer.found.evaluation.lds == before and not answer.provenance.partial and kept(store, run) == [key]
        found = objects.of_run(store, run.name)
        gone = removal.pruning(found, objects.references(store, found), keep=1, ended=time.time() + 1)
        assert removal.remove(store, gone) in (0, 1)


def test_training_that_was_stopped_is_final(tmp_path, serve):
    store, run = make_store(tmp_path, stop=50)
    records.create(store, keys.stop(run.name, 0), STOP)
    serve(store)[0].evaluate(run.name)
    assert len(kept(store, run)) == 1


STOP = {"rule": {"lds": 0.9}, "fit": 0, "models": 40, "lds": 0.95, "interval": [0.94, 0.96], "gain": None}


def test_a_client_that_cancels_stops_the_computation(tmp_path, serve):
    store, run = make_store(tmp_path)
    client, address = serve(store)
    store.go.clear()
    with connect(address, ClientSettings()) as channel:
        call = query_pb2_grpc.QueryServiceStub(channel).Evaluate(query_pb2.EvaluateRequest(run=run.name))
        assert next(call).progress.stage == "waiting"
        assert store.waits.wait(LIMIT)
        call.cancel()
    store.go.set()
    # Only one answer is computed at a time, so this answer shows that the other computation has ended.
    assert client.evaluate(run.name).found.evaluation.subsets == 8


def test_two_callers_get_the_answer_of_one_computation(tmp_path, serve):
    store, run = make_store(tmp_path)
    client, _ = serve(store)
    store.go.clear()
    found, reports = [], [threading.Event(), threading.Event()]
    threads = [
        threading.Thread(
            target=lambda event=event: found.append(client.evaluate(run.name, tell=lambda *_: event.set())),
            daemon=True,
        )
        for event in reports
    ]
    for thread in threads:
        thread.start()
    assert all(event.wait(LIMIT) for event in reports)
    store.go.set()
    for thread in threads:
        thread.join(LIMIT)
    assert len(found) == 2 and found[0].found.mean.r2 == found[1].found.mean.r2


def test_bad_arguments_raise_the_errors_of_the_service(tmp_path, serve):
    store = LocalStore(tmp_path)
    raw, unseen = committed.make_run(name="raw"), committed.make_run(name="blind", evaluate={"subsets": 0})
    runs.create(store, raw)
    runs.create(store, unseen)
    fitted.commit_fit(store, unseen, committed.truth(unseen).T)
    client, _ = serve(store)
    for name, error, fault in (
        ("nope", RunNotFoundError, "no such run"),
        (raw.name, NotReadyError, "no weights yet"),
        (unseen.name, NotReadyError, "evaluate.subsets is 0"),
    ):
        with pytest.raises(error, match=fault):
            client.evaluate(name)
