"""The effects of each call."""

import threading
import urllib.request

import numpy as np
import pytest

from datamodels.aggregate import manifest
from datamodels.errors import DeadlineError, OutputsError, UnavailableError
from datamodels.rpc.client import connect
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.settings import ClientSettings
from datamodels.v1 import aggregator_pb2_grpc
from tests.helpers.waiting import LIMIT

SERVICE = "datamodels.v1.AggregatorService"
N = 6


def test_a_run_is_created_and_read_back(client, run):
    assert client.create_run(run) is False
    assert client.run(run.name).document() == run.document()


def test_every_sub_chunk_is_committed_once(kit, client, run, store):
    for models in kit.sub_chunks(run):
        failed = {models.start: "diverged"} if models.start == 8 else {}
        index = np.array([m for m in models if m not in failed])
        assert client.put(run.name, models, index, kit.values(index, 1), failed) is True
        assert client.put(run.name, models, np.array(models), kit.values(models, 2)) is False
    progress = client.progress(run.name)
    assert (progress.models, progress.committed, progress.failed) == (20, 20, 1)
    assert progress.ranges == [range(0, 20)] and progress.complete
    version = client.publish(run.name)
    snapshot = manifest.read(store, run.name, version)
    assert snapshot.failed == {8: "diverged"}
    for outputs in snapshot.outputs(store):
        np.testing.assert_array_equal(outputs.outputs, kit.values(outputs.model_index, 1).astype(np.float32))


def test_retried_models_are_recorded(kit, client, run, store):
    client.put(run.name, range(0, 4), [0, 1, 3], kit.values([0, 1, 3]), {2: "diverged"}, [1, 3])
    client.publish(run.name)
    (outputs,) = manifest.read_newest(store, run.name).outputs(store)
    assert outputs.retried == (1, 3) and outputs.failed == {2: "diverged"}
    with pytest.raises(OutputsError, match=r"model 4 .* is in retried but has no outputs"):
        client.put(run.name, range(4, 8), range(5, 8), kit.values(range(5, 8)), {4: "diverged"}, [4])


def test_seconds_of_training_are_summed_over_all_manifests(kit, client, run, store):
    assert manifest.read_newest(store, run.name).pace is None
    for first, seconds in ((0, 3.0), (4, 0.0), (8, 1.0)):  # the second trainer does not say
        models = range(first, first + 4)
        client.put(run.name, models, models, kit.values(models), seconds=seconds)
        client.publish(run.name)
    newest = manifest.read_newest(store, run.name)
    assert newest.pace == (3.0 + 1.0) / 8
    assert manifest.create(store, newest.rewritten(newest.parts)) and manifest.read_newest(store, run.name).pace == 0.5
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(OutputsError, match="seconds"):
            client.put(run.name, range(12, 16), range(12, 16), kit.values(range(12, 16)), seconds=seconds)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_is_stored_in_the_type_of_the_run(kit, client, run, store, dtype):
    client.put(run.name, range(0, 4), np.arange(4), kit.values(range(4)).astype(dtype))
    client.publish(run.name)
    (outputs,) = manifest.read_newest(store, run.name).outputs(store)
    assert outputs.outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs.outputs, kit.values(range(4)).astype(dtype).astype(np.float32))


def test_the_response_has_the_number_of_committed_rows(kit, stub, run):
    def put():
        messages = [kit.header(range(0, 4)), kit.rows([0, 2], kit.values([0, 2]), [(1, "x"), (3, "y")])]
        return stub.PutOutputs(iter(messages))

    first, second = put(), put()
    assert (first.committed, first.rows) == (True, 2)
    assert (second.committed, second.rows) == (False, 2)


def test_rows_are_sent_in_messages_of_at_most_1_mb(kit, store, server):
    """With 300,000 targets, a row is 1.2 MB, and a sub-chunk is larger than a message may be."""
    run = kit.make_run("wide", targets=300_000, labels=False, chunk=16, sub_chunk=16)
    outputs = np.arange(16 * run.n, dtype=np.float64).reshape(16, run.n) % 1000
    with AggregatorClient(server.address) as client:
        client.create_run(run)
        assert client.put(run.name, range(0, 16), np.arange(16), outputs)
        client.publish(run.name)
    (found,) = manifest.read_newest(store, run.name).outputs(store)
    np.testing.assert_array_equal(found.outputs, outputs.astype(np.float32))


def test_a_sub_chunk_with_only_failed_models(client, run):
    assert client.put(run.name, range(0, 4), [], np.empty((0, N)), dict.fromkeys(range(4), "no luck"))
    assert client.progress(run.name).failed == 4


def test_long_reasons_are_cut(kit, client, run, store):
    assert client.put(run.name, range(0, 4), [1, 2, 3], kit.values([1, 2, 3]), {0: "x" * 10_000})
    client.publish(run.name)
    assert manifest.read_newest(store, run.name).failed == {0: "x" * 300}


def test_watching_a_run(kit, client, run):
    seen = []

    def watch():
        seen.extend(client.watch(run.name, timeout=LIMIT))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for models in kit.sub_chunks(run):
        client.put(run.name, models, np.array(models), kit.values(models))
    watcher.join()
    assert seen[-1].complete and seen[-1].ranges == [range(0, 20)]
    assert [p.committed for p in seen] == sorted(p.committed for p in seen)


def test_a_watch_ends_at_its_deadline(client, run):
    with pytest.raises(DeadlineError):
        list(client.watch(run.name, timeout=0.3))


def test_watches_leave_threads_for_commits(kit, store, run):
    with kit.serve(store, watches=2, workers=4) as server, AggregatorClient(server.address) as client:
        client.create_run(run)
        watches = [client.watch(run.name, timeout=LIMIT) for _ in range(2)]
        assert [next(watch).committed for watch in watches] == [0, 0]
        with (
            connect(server.address, ClientSettings(attempts=1)) as channel,
            pytest.raises(UnavailableError, match="too many watches"),
        ):
            next(AggregatorClient(channel).watch(run.name))
        client.put(run.name, range(0, 4), np.arange(4), kit.values(range(4)))
        assert [next(watch).committed for watch in watches] == [4, 4]
        for watch in watches:
            watch.close()


def test_a_server_that_stops_ends_watches_and_publishes(kit, store, run):
    server = kit.serve(store, interval=10_000, grace=30.0)
    with server, AggregatorClient(server.address) as client:
        client.create_run(run)
        watch = client.watch(run.name)
        assert next(watch).committed == 0
        for models in kit.sub_chunks(run)[:3]:
            client.put(run.name, models, np.array(models), kit.values(models))
        server.stopping.set()
        server.wait()
        with pytest.raises(UnavailableError):
            list(watch)
    assert manifest.read_newest(store, run.name).ranges == [range(0, 12)]


def test_a_call_past_its_deadline(kit, server, client, run):
    with connect(server.address, ClientSettings(deadline=0.3, attempts=1)) as channel:
        stub = aggregator_pb2_grpc.AggregatorServiceStub(channel)
        released = threading.Event()

        def slow():
            yield kit.header(range(0, 4))
            released.wait()

        with pytest.raises(DeadlineError):
            stub.PutOutputs(slow())
        released.set()


def metrics(server):
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=LIMIT) as response:
        lines = [line for line in response.read().decode().splitlines() if line.startswith("datamodels_aggregate_")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_metrics_count_models_and_do_not_grow_with_them(kit, client, server, run):
    def put(models, failed):
        index = [m for m in models if m not in failed]
        client.put(run.name, models, np.array(index), kit.values(index), dict.fromkeys(failed, "x"))

    put(range(0, 4), [])
    client.put(run.name, range(0, 4), np.arange(4), kit.values(range(4)))
    client.publish(run.name)
    before = metrics(server)
    put(range(4, 8), [5])
    put(range(8, 12), [8, 9])
    client.put(run.name, range(4, 8), np.arange(4, 8), kit.values(range(4, 8)))
    client.publish(run.name)
    after = metrics(server)
    assert before.keys() == after.keys()
    grown = {name: after[name] - before[name] for name in after}
    assert grown['datamodels_aggregate_models_total{result="trained"}'] == 5
    assert grown['datamodels_aggregate_models_total{result="failed"}'] == 3
    assert grown['datamodels_aggregate_parts_total{result="committed"}'] == 2
    assert grown['datamodels_aggregate_parts_total{result="dropped"}'] == 1
    assert grown["datamodels_aggregate_part_bytes_total"] > 0
    assert grown["datamodels_aggregate_put_seconds_count"] == 2
    assert grown["datamodels_aggregate_manifests_total"] >= 1
    assert grown["datamodels_aggregate_publish_seconds_count"] >= 1
