import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodels import keys, spec
from datamodels import run as runs
from datamodels.aggregate import manifest
from datamodels.aggregate.committer import Committer
from datamodels.errors import (
    ConflictError,
    CorruptObjectError,
    DatamodelsError,
    DeadlineError,
    InputError,
    OutputsError,
    RunNotFoundError,
    SpecError,
    StoreFullError,
    StoreUnavailableError,
    UnavailableError,
)
from datamodels.rpc import codec
from datamodels.rpc.client import connect
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.rpc.serve import Server
from datamodels.settings import (
    AggregatorSettings,
    ClientSettings,
    ServeSettings,
    StoreSettings,
    TelemetrySettings,
)
from datamodels.storage.local import LocalStore
from datamodels.train.data import Dataset
from datamodels.v1 import aggregator_pb2, aggregator_pb2_grpc, types_pb2
from services.aggregator.service import service

SERVICE = "datamodels.v1.AggregatorService"
N = 6


def make_run(name="small", targets=N, examples=12, m=20, labels=True, **fields):
    document = {
        "name": name,
        "dataset": {"load": "nothing:load"},
        "trainer": {"class": "nothing:Trainer"},
        "m": m,
        "chunk": 8,
        "sub_chunk": 4,
        "evaluate": {"subsets": 0},
    }
    y = np.arange(examples) % 3 if labels else np.zeros(examples)
    data = Dataset(np.zeros((examples, 1)), y, np.zeros((targets, 1)), np.resize(y, targets))
    return runs.resolve(spec.parse(document | fields), data)


def sub_chunks(run):
    return [models for chunk in range(run.spec.chunks) for models in run.spec.sub_chunks(run.spec.chunk_range(chunk))]


def values(run, models, writer=0):
    """Outputs that only this writer would send."""
    return (np.array(models)[:, None] + np.arange(run.n) / 8 + 64.0 * writer).astype(np.float32)


@pytest.fixture(scope="module")
def run():
    return make_run()


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


def serve(store, interval=0.05, watches=8, **fields):
    committer = Committer(store, AggregatorSettings(publish_interval=interval))
    committer.start()
    return Server(ServeSettings(**{"grace": 5.0} | fields), [service(committer, watches)], "aggregator")


@pytest.fixture
def server(store):
    with serve(store) as server:
        yield server


@pytest.fixture
def client(server, run):
    with AggregatorClient(server.address) as client:
        client.create_run(run)
        yield client


@pytest.fixture
def stub(server, client):
    with connect(server.address, ClientSettings()) as channel:
        yield aggregator_pb2_grpc.AggregatorServiceStub(channel)


def header(run, models):
    return aggregator_pb2.PutOutputsRequest(
        header=aggregator_pb2.PutOutputsRequest.Header(run=run.name, first=models.start, last=models.stop)
    )


def rows(index, outputs, failed=()):
    message = aggregator_pb2.PutOutputsRequest.Rows(
        model_index=codec.to_tensor(np.asarray(index, dtype=np.int32)),
        outputs=codec.to_tensor(np.asarray(outputs)),
        failed=[aggregator_pb2.FailedModel(model_index=m, reason=why) for m, why in failed],
    )
    return aggregator_pb2.PutOutputsRequest(rows=message)


def test_a_run_there_and_back(client, run):
    assert client.create_run(run) is False
    assert client.run(run.name).document() == run.document()


def test_every_sub_chunk_is_committed_once(client, run, store):
    for models in sub_chunks(run):
        failed = {models.start: "diverged"} if models.start == 8 else {}
        index = np.array([m for m in models if m not in failed])
        assert client.put(run.name, models, index, values(run, index, 1), failed) is True
        assert client.put(run.name, models, np.array(models), values(run, models, 2)) is False
    progress = client.progress(run.name)
    assert (progress.models, progress.committed, progress.failed) == (20, 20, 1)
    assert progress.ranges == [range(0, 20)] and progress.complete
    version = client.publish(run.name)
    snapshot = manifest.read(store, run.name, version)
    assert snapshot.failed == {8: "diverged"}
    for outputs in snapshot.outputs(store):
        np.testing.assert_array_equal(outputs.outputs, values(run, outputs.model_index, 1).astype(np.float16))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_is_stored_as_half(client, run, store, dtype):
    client.put(run.name, range(0, 4), np.arange(4), values(run, range(4)).astype(dtype))
    client.publish(run.name)
    (outputs,) = manifest.read_newest(store, run.name).outputs(store)
    np.testing.assert_array_equal(outputs.outputs, values(run, range(4)).astype(np.float16))


def test_the_answer_says_how_many_rows_the_committed_part_has(stub, run):
    def put():
        messages = [header(run, range(0, 4)), rows([0, 2], values(run, [0, 2]), [(1, "x"), (3, "y")])]
        return stub.PutOutputs(iter(messages))

    first, second = put(), put()
    assert (first.committed, first.rows) == (True, 2)
    assert (second.committed, second.rows) == (False, 2)


def test_rows_are_sent_in_messages_of_at_most_1_mb(store, server):
    """300,000 targets: a row is 0.6 MB, and a sub-chunk more than the server takes in one message."""
    run = make_run("wide", targets=300_000, labels=False, chunk=16, sub_chunk=16)
    outputs = np.arange(16 * run.n, dtype=np.float64).reshape(16, run.n) % 1000
    with AggregatorClient(server.address) as client:
        client.create_run(run)
        assert client.put(run.name, range(0, 16), np.arange(16), outputs)
        client.publish(run.name)
    (found,) = manifest.read_newest(store, run.name).outputs(store)
    np.testing.assert_array_equal(found.outputs, outputs.astype(np.float16))


def test_a_sub_chunk_of_failed_models_only(client, run):
    assert client.put(run.name, range(0, 4), [], np.empty((0, N)), dict.fromkeys(range(4), "no luck"))
    assert client.progress(run.name).failed == 4


def test_long_reasons_are_cut(client, run, store):
    assert client.put(run.name, range(0, 4), [1, 2, 3], values(run, [1, 2, 3]), {0: "x" * 10_000})
    client.publish(run.name)
    assert manifest.read_newest(store, run.name).failed == {0: "x" * 300}


def nan_at(run, row, target):
    outputs = values(run, range(4))
    outputs[row, target] = np.nan
    return outputs


@pytest.mark.parametrize(
    ("models", "index", "outputs", "message"),
    [
        (range(0, 8), range(8), lambda r: values(r, range(8)), "models 0 to 8 .* are no sub-chunk"),
        (range(20, 24), range(20, 24), lambda r: values(r, range(4)), "up to model 20"),
        (range(0, 4), range(4), lambda r: nan_at(r, 2, 3), "model 2 on target 3 .*: nan is not finite"),
        (range(0, 4), range(4), lambda r: values(r, range(4)) + 1e6, r"model 0 on target 0 .* 1000000.0 is too large"),
        (range(0, 4), range(4), lambda r: np.zeros((4, N + 1)), r"outputs: has shape \(4, 7\), must be \(4, 6\)"),
        (range(0, 4), range(3), lambda r: np.zeros((4, N)), r"outputs: has shape \(4, 6\), must be \(3, 6\)"),
        (range(0, 4), [0, 1, 2, 4], lambda r: values(r, range(4)), "model 4 .* must be 0 to 3"),
        (range(0, 4), [0, 1, 2, 2], lambda r: values(r, range(4)), "model 2 .* twice"),
        (range(0, 4), [0, 1, 2], lambda r: values(r, range(3)), "1 of the models 0 to 4 .* the first is 3"),
        (range(0, 4), range(4), lambda r: np.zeros((4, N), int), "type int64"),
        (range(0, 4), range(4), lambda r: np.zeros(4), "must be models by targets"),
        (range(0, 4), np.array([0, 1, 2, 2**32 + 3]), lambda r: values(r, range(4)), "must be a list of int32"),
    ],
)
def test_outputs_that_are_refused_and_nothing_is_kept(client, run, store, models, index, outputs, message):
    with pytest.raises(InputError, match=message):
        client.put(run.name, models, np.array(index), outputs(run))
    assert client.progress(run.name).committed == 0
    assert list(store.list(keys.parts(run.name))) == []
    assert client.put(run.name, range(0, 4), np.arange(4), values(run, range(4))) is True


def test_errors_of_outputs_are_of_their_own_kind(client, run):
    with pytest.raises(OutputsError):
        client.put(run.name, range(0, 4), np.arange(4), nan_at(run, 0, 0))


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (lambda r: [], "the first message must be the header"),
        (lambda r: [rows([0], np.zeros((1, N), np.float32))], "the first message must be the header"),
        (lambda r: [aggregator_pb2.PutOutputsRequest()], "the first message must be the header"),
        (lambda r: [header(r, range(0, 4))] * 2, "every message after the first must have rows"),
        (lambda r: [header(r, range(0, 4))], "4 of the models 0 to 4"),
        (
            lambda r: [header(r, range(0, 4)), aggregator_pb2.PutOutputsRequest(rows={})],
            "model_index: has type None, must be int32",
        ),
        (
            lambda r: [header(r, range(0, 4)), rows([0], np.zeros((1, N)))],
            "outputs: has type float64, must be float16 or float32",
        ),
        (
            lambda r: [header(r, range(0, 4)), rows([], np.zeros((0, N), "f2"), [(0, "x"), (0, "y")])],
            "failed: model 0 is there twice",
        ),
        (
            lambda r: [header(r, range(0, 4)), rows([], np.zeros((0, N), "f2"), [(2**62, "x")])],
            f"model {2**62} .* must be 0 to 3",
        ),
        (lambda r: [header(r, range(0, 4)), *[rows([0], np.zeros((1, N), "f2"))] * 2], "model 0 .* twice"),
        (lambda r: [header(r, range(-(2**63), 2**63 - 1))], "are no sub-chunk"),
    ],
)
def test_streams_that_are_refused(stub, run, messages, message):
    with pytest.raises(InputError, match=message):
        stub.PutOutputs(iter(messages(run)))


def test_an_endless_stream_is_refused_as_soon_as_it_repeats(stub, run):
    sent = 0

    def endless():
        nonlocal sent
        yield header(run, range(0, 4))
        while True:
            sent += 1
            yield rows([sent % 4], values(run, [sent % 4]))

    with pytest.raises(InputError, match="twice"):
        stub.PutOutputs(endless())


def test_a_stream_that_the_caller_gives_up_commits_nothing(server, client, run, store):
    def gives_up():
        yield header(run, range(0, 4))
        yield rows([0, 1], values(run, [0, 1]))
        raise KeyError("the trainer died here")

    with connect(server.address, ClientSettings()) as channel, pytest.raises(KeyError):
        aggregator_pb2_grpc.AggregatorServiceStub(channel).PutOutputs(gives_up())
    assert list(store.list(keys.parts(run.name))) == []
    assert client.put(run.name, range(0, 4), np.arange(4), values(run, range(4))) is True


@pytest.mark.parametrize("name", ["nothing-0123456789ab", "", "../../etc/passwd", "a" * 5000, "é"])
def test_runs_that_there_are_not(client, name):
    calls = [
        lambda: client.run(name),
        lambda: client.progress(name),
        lambda: client.publish(name),
        lambda: next(client.watch(name)),
        lambda: client.put(name, range(0, 4), np.arange(4), np.zeros((4, N))),
    ]
    for call in calls:
        with pytest.raises((RunNotFoundError, InputError)) as caught:
            call()
        assert len(str(caught.value)) < 1000
        if name.startswith("nothing"):
            assert isinstance(caught.value, RunNotFoundError)


def test_runs_that_cannot_be_created(client, run, stub):
    with pytest.raises(InputError, match="spec_json: is not JSON"):
        stub.CreateRun(aggregator_pb2.CreateRunRequest())
    record = codec.to_run_record(run)
    record.run = "another"
    with pytest.raises(InputError, match="run = 'another'"):
        stub.CreateRun(aggregator_pb2.CreateRunRequest(record=record))
    record = codec.to_run_record(run)
    record.spec_json = record.spec_json.replace('"m": 20', '"m": 2')
    with pytest.raises(SpecError, match="m = 2"):
        stub.CreateRun(aggregator_pb2.CreateRunRequest(record=record))
    record = codec.to_run_record(run)
    record.labels.CopyFrom(codec.to_tensor(np.zeros(12, dtype=np.int32)))
    with pytest.raises(ConflictError, match="labels is not what the run was created with"):
        stub.CreateRun(aggregator_pb2.CreateRunRequest(record=record))


def test_a_run_too_large_to_be_sent_to_trainers(client):
    large = make_run("large", targets=1, examples=1_200_000)
    with pytest.raises(SpecError, match=r"its record takes 48\d* bytes"):
        client.create_run(large)


def test_a_corrupt_part_found_after_a_crash_is_named(store, tmp_path, run):
    committer = Committer(store)
    committer.create(run)
    with serve(store) as server, AggregatorClient(server.address) as client:
        client.put(run.name, range(0, 4), np.arange(4), values(run, range(4)))
        key = keys.part(run.name, 0, 4)
        for version in range(client.publish(run.name) + 1):
            store.delete(keys.manifest(run.name, version))
    (tmp_path / key).write_bytes(b"PAR1")
    with (
        serve(store) as server,
        AggregatorClient(server.address) as client,
        pytest.raises(CorruptObjectError, match=key),
    ):
        client.progress(run.name)


def test_watching_a_run(client, run):
    seen = []

    def watch():
        seen.extend(client.watch(run.name, timeout=60))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for models in sub_chunks(run):
        client.put(run.name, models, np.array(models), values(run, models))
    watcher.join()
    assert seen[-1].complete and seen[-1].ranges == [range(0, 20)]
    assert [p.committed for p in seen] == sorted(p.committed for p in seen)


def test_a_watch_ends_at_its_deadline(client, run):
    with pytest.raises(DeadlineError):
        list(client.watch(run.name, timeout=0.3))


def test_watches_leave_threads_for_commits(store, run):
    with serve(store, watches=2, workers=4) as server, AggregatorClient(server.address) as client:
        client.create_run(run)
        watches = [client.watch(run.name, timeout=30) for _ in range(2)]
        assert [next(watch).committed for watch in watches] == [0, 0]
        with (
            connect(server.address, ClientSettings(attempts=1)) as channel,
            pytest.raises(UnavailableError, match="too many watches"),
        ):
            next(AggregatorClient(channel).watch(run.name))
        client.put(run.name, range(0, 4), np.arange(4), values(run, range(4)))
        assert [next(watch).committed for watch in watches] == [4, 4]
        for watch in watches:
            watch.close()


def test_a_server_that_stops_ends_watches_and_publishes(store, run):
    server = serve(store, interval=10_000, grace=30.0)
    with server, AggregatorClient(server.address) as client:
        client.create_run(run)
        watch = client.watch(run.name)
        assert next(watch).committed == 0
        for models in sub_chunks(run)[:3]:
            client.put(run.name, models, np.array(models), values(run, models))
        server.stopping.set()
        server.wait()
        with pytest.raises(UnavailableError):
            list(watch)
    assert manifest.read_newest(store, run.name).ranges == [range(0, 12)]


def test_a_call_past_its_deadline(server, client, run):
    with connect(server.address, ClientSettings(deadline=0.3, attempts=1)) as channel:
        stub = aggregator_pb2_grpc.AggregatorServiceStub(channel)
        released = threading.Event()

        def slow():
            yield header(run, range(0, 4))
            released.wait()

        with pytest.raises(DeadlineError):
            stub.PutOutputs(slow())
        released.set()


def test_messages_over_the_limit_are_refused(stub, run):
    big = np.zeros((400_000, N), np.float32)
    with pytest.raises(DatamodelsError) as caught:
        stub.PutOutputs(iter([header(run, range(0, 4)), rows(np.zeros(400_000), big)]))
    assert "larger than max" in str(caught.value)


def test_health(server):
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def metrics(server):
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=10) as response:
        lines = [line for line in response.read().decode().splitlines() if line.startswith("datamodels_aggregate_")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_metrics_count_models_and_do_not_grow_with_them(client, server, run):
    def put(models, failed):
        index = [m for m in models if m not in failed]
        client.put(run.name, models, np.array(index), values(run, index), dict.fromkeys(failed, "x"))

    put(range(0, 4), [])
    client.put(run.name, range(0, 4), np.arange(4), values(run, range(4)))
    client.publish(run.name)
    before = metrics(server)
    put(range(4, 8), [5])
    put(range(8, 12), [8, 9])
    client.put(run.name, range(4, 8), np.arange(4, 8), values(run, range(4, 8)))
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


TENSORS = st.builds(
    types_pb2.Tensor,
    dtype=st.integers(0, 6),
    shape=st.lists(st.integers(-1, 7) | st.sampled_from([2**40, 2**62]), max_size=3),
    data=st.binary(max_size=60),
)
INTEGERS = st.integers(-2, 24) | st.sampled_from([-(2**63), 2**63 - 1])
MESSAGES = st.builds(
    lambda rows: aggregator_pb2.PutOutputsRequest(rows=rows),
    st.builds(
        aggregator_pb2.PutOutputsRequest.Rows,
        model_index=TENSORS | st.lists(st.integers(0, 4)).map(lambda i: codec.to_tensor(np.array(i, np.int32))),
        outputs=TENSORS | st.integers(0, 4).map(lambda r: codec.to_tensor(np.zeros((r, N), np.float16))),
        failed=st.lists(st.builds(aggregator_pb2.FailedModel, model_index=INTEGERS, reason=st.text()), max_size=3),
    ),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=INTEGERS, last=INTEGERS, right=st.booleans(), messages=st.lists(MESSAGES, max_size=3))
def test_any_messages_are_committed_or_refused_with_a_reason(stub, run, first, last, right, messages):
    first, last = (0, 4) if right else (first, last)
    start = aggregator_pb2.PutOutputsRequest(
        header=aggregator_pb2.PutOutputsRequest.Header(run=run.name, first=first, last=last)
    )
    try:
        stub.PutOutputs(iter([start, *messages]))
    except InputError as error:
        assert str(error)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(["CreateRun", "GetRunRecord", "GetProgress", "PublishManifest"]), data=st.binary())
def test_any_bytes_are_refused_with_a_reason(server, method, data):
    with grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{SERVICE}/{method}")(data, timeout=20)
        assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


class FailingStore(LocalStore):
    """A folder that fails as told, as often as told."""

    def __init__(self, folder):
        super().__init__(folder)
        self.failures = []

    def create(self, key, data):
        if key.endswith(".parquet") and self.failures:
            raise self.failures.pop(0)
        return super().create(key, data)


def test_a_put_is_sent_again_while_the_store_is_unavailable(tmp_path, run):
    store = FailingStore(tmp_path)
    with serve(store) as server, AggregatorClient(server.address, ClientSettings(attempts=3)) as client:
        client.create_run(run)
        store.failures = [StoreUnavailableError("by test")] * 2
        assert client.put(run.name, range(0, 4), np.arange(4), values(run, range(4))) is True
        store.failures = [StoreUnavailableError("by test")] * 3
        with pytest.raises(StoreUnavailableError, match="by test"):
            client.put(run.name, range(4, 8), np.arange(4, 8), values(run, range(4, 8)))
        assert client.progress(run.name).committed == 4


def test_a_full_disk_is_told_at_once_and_loses_nothing(tmp_path, run):
    store = FailingStore(tmp_path)
    with serve(store) as server, AggregatorClient(server.address) as client:
        client.create_run(run)
        store.failures = [StoreFullError("disk: no space; free some space")]
        with pytest.raises(StoreFullError, match="free some space"):
            client.put(run.name, range(0, 4), np.arange(4), values(run, range(4)))
        assert client.put(run.name, range(0, 4), np.arange(4), values(run, range(4))) is True


def test_a_put_without_a_server():
    with AggregatorClient("127.0.0.1:1", ClientSettings(attempts=2)) as client, pytest.raises(UnavailableError):
        client.put("run", range(0, 4), np.arange(4), np.zeros((4, N)))


# Real processes.


class Process:
    """`python -m services.aggregator` on one port, again and again."""

    def __init__(self, folder, **groups):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address_file = folder / "address.json"
        serve = ServeSettings(port=self.port, address_file=str(self.address_file), follow_stdin=True)
        environ = StoreSettings(url=f"file://{folder}/store").environ() | serve.environ()
        environ |= AggregatorSettings(publish_interval=0.05).environ() | TelemetrySettings().environ()
        self.environ = os.environ | environ | groups

    def start(self):
        self.address_file.unlink(missing_ok=True)
        self.log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.aggregator"], env=self.environ, stdin=subprocess.PIPE, stderr=self.log
        )

    def wait_until_serving(self):
        while not self.address_file.exists():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.02)
        return json.loads(self.address_file.read_text())["address"]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.log.close()


def write_all(run, address, writer, acknowledged, failures):
    """Puts every sub-chunk of a run, in an order of its own, until each is acknowledged."""
    with AggregatorClient(address, ClientSettings(deadline=20)) as client:
        waiting = random.Random(writer).sample(sub_chunks(run), len(sub_chunks(run)))
        while waiting:
            models = waiting[-1]
            try:
                committed = client.put(run.name, models, np.array(models), values(run, models, writer))
            except UnavailableError:
                time.sleep(0.05)
            except DatamodelsError as error:
                failures.append(error)
                return
            else:
                acknowledged.append((waiting.pop(), writer, committed))


def check_killed(run, store, acknowledged):
    newest = manifest.read_newest(store, run.name)
    assert sorted(m for part in newest.parts for m in part.models) == list(range(run.spec.models))
    kept = {outputs.models: outputs.outputs for outputs in newest.outputs(store)}
    sent = {(models, w): values(run, models, w).astype(np.float16) for models in kept for w in range(3)}
    for models, writer, committed in acknowledged:
        if committed:
            np.testing.assert_array_equal(kept[models], sent[models, writer])
    assert all(any((outputs == sent[models, w]).all() for w in range(3)) for models, outputs in kept.items())
    for version in range(newest.version + 1):
        listed = [m for part in manifest.read(store, run.name, version).parts for m in part.models]
        assert len(set(listed)) == len(listed)


def test_killed_while_writers_put_nothing_acknowledged_is_lost(tmp_path):
    """Three writers race for every sub-chunk, the aggregator is killed again and again; each model is there once."""
    run = make_run("killed", m=640, sub_chunk=8)
    server = Process(tmp_path)
    server.start()
    address = server.wait_until_serving()
    acknowledged, failures = [], []
    with AggregatorClient(address) as client:
        client.create_run(run)
    arguments = (acknowledged, failures)
    writers = [threading.Thread(target=write_all, args=(run, address, writer, *arguments)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for kill in range(3):
        while len(acknowledged) < 20 * (kill + 1):
            time.sleep(0.002)
        server.kill()
        server.start()
    for writer in writers:
        writer.join()
    assert failures == []
    server.wait_until_serving()
    with AggregatorClient(address) as client:
        assert client.progress(run.name).complete
        client.publish(run.name)
    server.kill()
    assert len(acknowledged) == 3 * len(sub_chunks(run))
    check_killed(run, LocalStore(tmp_path / "store"), acknowledged)


def test_a_process_ends_with_its_parent(tmp_path):
    server = Process(tmp_path)
    server.start()
    server.wait_until_serving()
    server.process.stdin.close()
    assert server.process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("environ", "code", "said"),
    [
        ({"DATAMODELS_STORE_URL": "nowhere"}, 2, "must be file://FOLDER or s3://BUCKET/PREFIX"),
        ({"DATAMODELS_AGGREGATOR_PREFLIGHT_WRITERS": "0"}, 2, "PREFLIGHT_WRITERS=0: must be 2 to 1000"),
        ({"DATAMODELS_AGGREGATOR_PUBLISH_INTERVAL": "soon"}, 2, "PUBLISH_INTERVAL='soon': must be float"),
        (
            {
                "DATAMODELS_STORE_URL": "s3://bucket",
                "DATAMODELS_STORE_S3_ENDPOINT": "http://127.0.0.1:1",
                "DATAMODELS_STORE_ATTEMPTS": "1",
                "AWS_ACCESS_KEY_ID": "x",
                "AWS_SECRET_ACCESS_KEY": "x",
            },
            75,
            "is the store running",
        ),
    ],
)
def test_a_process_that_cannot_start_says_why_in_one_line(tmp_path, environ, code, said):
    server = Process(tmp_path, **environ)
    server.start()
    assert server.process.wait(timeout=60) == code
    server.kill()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (error,) = [line["event"] for line in lines if line["level"] == "error"]
    assert said in error
