"""Requests that calls refuse. Refusals lose nothing."""

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.aggregate.committer import Committer
from datamodels.errors import (
    ConflictError,
    CorruptObjectError,
    DatamodelsError,
    InputError,
    OutputsError,
    RunNotFoundError,
    SpecError,
    StoreFullError,
    StoreUnavailableError,
    UnavailableError,
)
from datamodels.rpc import codec, run_codec
from datamodels.rpc.client import connect
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.settings import ClientSettings
from datamodels.storage import keys
from datamodels.storage.local import LocalStore
from datamodels.v1 import aggregator_pb2, aggregator_pb2_grpc, types_pb2
from tests.helpers.waiting import LIMIT

SERVICE = "datamodels.v1.AggregatorService"
N = 6


def nan_at(kit, row, target):
    outputs = kit.values(range(4))
    outputs[row, target] = np.nan
    return outputs


@pytest.mark.parametrize(
    ("models", "index", "outputs", "message"),
    [
        (range(0, 8), range(8), lambda k: k.values(range(8)), "models 0 to 8 .* are not a sub-chunk"),
        (range(20, 24), range(20, 24), lambda k: k.values(range(4)), "up to model 20"),
        (range(0, 4), range(4), lambda k: nan_at(k, 2, 3), "model 2 on target 3 .* is nan: .* not finite"),
        (range(0, 4), range(4), lambda k: np.full((4, N), 1e39), r"model 0 on target 0 .* is 1e\+39: .* rescale"),
        (range(0, 4), range(4), lambda k: np.zeros((4, N + 1)), r"outputs: has shape \(4, 7\), must be \(4, 6\)"),
        (range(0, 4), range(3), lambda k: np.zeros((4, N)), r"outputs: has shape \(4, 6\), must be \(3, 6\)"),
        (range(0, 4), [0, 1, 2, 4], lambda k: k.values(range(4)), "model 4 .* must be 0 to 3"),
        (range(0, 4), [0, 1, 2, 2], lambda k: k.values(range(4)), "model 2 .* twice"),
        (range(0, 4), [0, 1, 2], lambda k: k.values(range(3)), "1 of the models 0 to 4 .* the first is 3"),
        (range(0, 4), range(4), lambda k: np.zeros((4, N), int), "type int64"),
        (range(0, 4), range(4), lambda k: np.zeros(4), "must be models by targets"),
        (range(0, 4), np.array([0, 1, 2, 2**32 + 3]), lambda k: k.values(range(4)), "must be a list of int32"),
    ],
)
def test_outputs_that_are_refused_are_not_stored(kit, client, run, store, models, index, outputs, message):
    with pytest.raises(InputError, match=message):
        client.put(run.name, models, np.array(index), outputs(kit))
    assert client.progress(run.name).committed == 0
    assert list(store.list(keys.parts(run.name))) == []
    assert client.put(run.name, range(0, 4), np.arange(4), kit.values(range(4))) is True


def test_wrong_outputs_raise_an_outputs_error(kit, client, run):
    with pytest.raises(OutputsError):
        client.put(run.name, range(0, 4), np.arange(4), nan_at(kit, 0, 0))


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (lambda k: [], "the first message must be the header"),
        (lambda k: [k.rows([0], np.zeros((1, N), np.float32))], "the first message must be the header"),
        (lambda k: [aggregator_pb2.PutOutputsRequest()], "the first message must be the header"),
        (lambda k: [k.header(range(0, 4))] * 2, "every message after the first must have rows"),
        (lambda k: [k.header(range(0, 4))], "4 of the models 0 to 4"),
        (
            lambda k: [k.header(range(0, 4)), aggregator_pb2.PutOutputsRequest(rows={})],
            "model_index: has type None, must be int32",
        ),
        (
            lambda k: [k.header(range(0, 4)), k.rows([0], np.zeros((1, N), "i4"))],
            "outputs: has type int32, must be float16 or float32 or float64",
        ),
        (
            lambda k: [k.header(range(0, 4)), k.rows([], np.zeros((0, N), "f2"), [(0, "x"), (0, "y")])],
            "failed: model 0 occurs twice",
        ),
        (
            lambda k: [k.header(range(0, 4)), k.rows([], np.zeros((0, N), "f2"), [(2**62, "x")])],
            f"model {2**62} .* must be 0 to 3",
        ),
        (lambda k: [k.header(range(0, 4)), *[k.rows([0], np.zeros((1, N), "f2"))] * 2], "model 0 .* twice"),
        (lambda k: [k.header(range(-(2**63), 2**63 - 1))], "are not a sub-chunk"),
    ],
)
def test_streams_that_are_refused(kit, stub, run, messages, message):
    with pytest.raises(InputError, match=message):
        stub.PutOutputs(iter(messages(kit)))


def test_an_endless_stream_is_refused_as_soon_as_it_repeats(kit, stub, run):
    sent = 0

    def endless():
        nonlocal sent
        yield kit.header(range(0, 4))
        while True:
            sent += 1
            yield kit.rows([sent % 4], kit.values([sent % 4]))

    with pytest.raises(InputError, match="twice"):
        stub.PutOutputs(endless())


def test_a_cancelled_stream_commits_nothing(kit, server, client, run, store):
    def gives_up():
        yield kit.header(range(0, 4))
        yield kit.rows([0, 1], kit.values([0, 1]))
        raise KeyError("the trainer died here")

    with connect(server.address, ClientSettings()) as channel, pytest.raises(KeyError):
        aggregator_pb2_grpc.AggregatorServiceStub(channel).PutOutputs(gives_up())
    assert list(store.list(keys.parts(run.name))) == []
    assert client.put(run.name, range(0, 4), np.arange(4), kit.values(range(4))) is True


@pytest.mark.parametrize("name", ["nothing-0123456789ab", "", "../../etc/passwd", "a" * 5000, "é"])
def test_runs_that_do_not_exist(client, name):
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
    record = run_codec.to_run_record(run)
    record.run = "another"
    with pytest.raises(InputError, match="run = 'another'"):
        stub.CreateRun(aggregator_pb2.CreateRunRequest(record=record))
    record = run_codec.to_run_record(run)
    record.spec_json = record.spec_json.replace('"m": 20', '"m": 2')
    with pytest.raises(SpecError, match="m = 2"):
        stub.CreateRun(aggregator_pb2.CreateRunRequest(record=record))
    record = run_codec.to_run_record(run)
    record.labels.CopyFrom(codec.to_tensor(np.zeros(12, dtype=np.int32)))
    with pytest.raises(ConflictError, match="labels is not what the run was created with"):
        stub.CreateRun(aggregator_pb2.CreateRunRequest(record=record))


def test_a_run_too_large_to_be_sent_to_trainers(kit, client):
    large = kit.make_run("large", targets=1, examples=1_200_000)
    with pytest.raises(SpecError, match=r"its record takes 48\d* bytes"):
        client.create_run(large)


def test_a_corrupt_part_found_after_a_crash_is_named(kit, store, tmp_path, run):
    committer = Committer(store)
    committer.create(run)
    with kit.serve(store) as server, AggregatorClient(server.address) as client:
        client.put(run.name, range(0, 4), np.arange(4), kit.values(range(4)))
        key = keys.part(run.name, 0, 4)
        for version in range(client.publish(run.name) + 1):
            store.delete(keys.manifest(run.name, version))
    (tmp_path / key).write_bytes(b"PAR1")
    with (
        kit.serve(store) as server,
        AggregatorClient(server.address) as client,
        pytest.raises(CorruptObjectError, match=key),
    ):
        client.progress(run.name)


def test_messages_over_the_limit_are_refused(kit, stub, run):
    big = np.zeros((400_000, N), np.float32)
    with pytest.raises(DatamodelsError) as caught:
        stub.PutOutputs(iter([kit.header(range(0, 4)), kit.rows(np.zeros(400_000), big)]))
    assert "larger than max" in str(caught.value)


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


@given(method=st.sampled_from(["CreateRun", "GetRunRecord", "GetProgress", "PublishManifest"]), data=st.binary())
def test_any_bytes_are_refused_with_a_reason(server, method, data):
    with grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{SERVICE}/{method}")(data, timeout=LIMIT)
        assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


class FailingStore(LocalStore):
    """A folder store that raises a given error a given number of times."""

    def __init__(self, folder):
        super().__init__(folder)
        self.failures = []

    def create(self, key, data):
        if key.endswith(".parquet") and self.failures:
            raise self.failures.pop(0)
        return super().create(key, data)


def test_a_put_is_retried_while_the_store_is_unavailable(kit, tmp_path, run):
    store = FailingStore(tmp_path)
    with kit.serve(store) as server, AggregatorClient(server.address, ClientSettings(attempts=3)) as client:
        client.create_run(run)
        store.failures = [StoreUnavailableError("by test")] * 2
        assert client.put(run.name, range(0, 4), np.arange(4), kit.values(range(4))) is True
        store.failures = [StoreUnavailableError("by test")] * 3
        with pytest.raises(StoreUnavailableError, match="by test"):
            client.put(run.name, range(4, 8), np.arange(4, 8), kit.values(range(4, 8)))
        assert client.progress(run.name).committed == 4


def test_a_full_disk_is_reported_at_once_and_loses_nothing(kit, tmp_path, run):
    store = FailingStore(tmp_path)
    with kit.serve(store) as server, AggregatorClient(server.address) as client:
        client.create_run(run)
        store.failures = [StoreFullError("disk: no space; free some space")]
        with pytest.raises(StoreFullError, match="free some space"):
            client.put(run.name, range(0, 4), np.arange(4), kit.values(range(4)))
        assert client.put(run.name, range(0, 4), np.arange(4), kit.values(range(4))) is True


def test_a_put_without_a_server():
    with AggregatorClient("127.0.0.1:1", ClientSettings(attempts=2)) as client, pytest.raises(UnavailableError):
        client.put("run", range(0, 4), np.arange(4), np.zeros((4, N)))
