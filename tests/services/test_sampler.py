import urllib.request

import grpc
import numpy as np
import pytest
from datamodels.services.sampler import service as sampler
from hypothesis import given
from hypothesis import strategies as st

from datamodels.errors import DeadlineError, InputError, UnavailableError
from datamodels.rpc import codec, run_codec
from datamodels.rpc.client import connect
from datamodels.rpc.clients.sampler import SamplerClient
from datamodels.rpc.serve import Server
from datamodels.run import designs
from datamodels.run.designs import Design
from datamodels.settings import ClientSettings, ServeSettings
from datamodels.v1 import sampler_pb2, sampler_pb2_grpc, types_pb2
from tests.helpers.properties import examples
from tests.helpers.waiting import LIMIT

SERVICE = "datamodels.v1.SamplerService"
UNIFORM = Design("uniform", 3, 0.5, 1000)
GROUPS = np.arange(40, dtype=np.int32) % 8
DESIGNS = [
    UNIFORM,
    Design("complement", 3, 0.5, 41, pinned_out=(40,)),
    Design("stratified", 3, 0.4, 40, GROUPS),
    Design("grouped", 3, 0.5, 40, GROUPS, pinned_in=(2,)),
]


@pytest.fixture(scope="module")
def server():
    with Server(ServeSettings(grace=5.0), [sampler.service()], "sampler") as server:
        yield server


@pytest.fixture
def client(server):
    with SamplerClient(server.address) as client:
        yield client


@pytest.fixture
def channel(server):
    with connect(server.address, ClientSettings()) as channel:
        yield channel


@pytest.fixture
def stub(channel):
    return sampler_pb2_grpc.SamplerServiceStub(channel)


def request(design=UNIFORM, first=0, last=10):
    return sampler_pb2.GetSubsetsRequest(design=run_codec.to_design(design), first=first, last=last)


def metric(server, line):
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=LIMIT) as response:
        lines = response.read().decode().splitlines()
    return sum(float(found.rpartition(" ")[2]) for found in lines if found.startswith(line))


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: d.kind)
def test_subsets_equal_those_of_the_core(client, design):
    masks = client.subsets(design, 5, 105)
    assert masks.dtype == np.uint8
    assert (masks == designs.subsets(design, 5, 105)).all()


def test_a_range_of_many_messages_is_complete(client):
    design = Design("uniform", 3, 0.5, 9)
    masks = client.subsets(design, 7, 7 + 2 * sampler.MESSAGE_ROWS + 3)
    assert (masks == designs.subsets(design, 7, 7 + 2 * sampler.MESSAGE_ROWS + 3)).all()


def test_large_indices_have_subsets_too(client):
    last = 2**63 - 1
    assert (client.subsets(UNIFORM, last - 3, last) == designs.subsets(UNIFORM, last - 3, last)).all()


@pytest.mark.parametrize("columns", [9, 50_000, 1_000_000])
def test_messages_are_at_most_one_megabyte_and_in_order(stub, columns):
    design = Design("uniform", 3, 0.5, columns)
    last = 2 * min(sampler.MESSAGE_BYTES // design.mask_bytes, sampler.MESSAGE_ROWS) + 1
    last = min(last, 400)
    reached = 0
    for response in stub.GetSubsets(request(design, 0, last)):
        assert response.ByteSize() <= 1_000_000
        assert response.first == reached
        reached += response.masks.shape[0]
    assert reached == last


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: d.kind)
def test_a_design_is_described(client, design):
    description = client.describe(design)
    assert (description.columns, description.size, description.mask_bytes) == (
        design.columns,
        design.size,
        design.mask_bytes,
    )
    assert description.inclusion.dtype == np.float32
    assert (description.inclusion == design.inclusion).all()
    assert description.summary == design.summary()


def test_the_largest_design_can_be_described(client):
    assert client.describe(Design("uniform", 3, 0.5, sampler.MAX_COLUMNS)).columns == sampler.MAX_COLUMNS


@pytest.mark.parametrize(
    ("first", "last", "fault"),
    [
        (0, 0, "first = 0, last = 0: first must be at least 0 and less than last"),
        (5, 4, "first = 5, last = 4: first must be"),
        (-1, 4, "first = -1, last = 4: first must be"),
        (0, sampler.MAX_SUBSETS + 1, "asks for 10000001 subsets, at most 10000000 allowed"),
        (-(2**63), 2**63 - 1, "first must be at least 0"),
    ],
)
def test_a_faulty_range_is_refused(client, first, last, fault):
    with pytest.raises(InputError, match=fault):
        client.subsets(UNIFORM, first, last)


def test_too_many_columns_are_refused(client):
    design = Design("uniform", 3, 0.5, sampler.MAX_COLUMNS + 1)
    for call in (client.describe, lambda d: client.subsets(d, 0, 1)):
        with pytest.raises(InputError, match="has 1000001 columns: this service draws at most 1000000"):
            call(design)


def message(**change):
    fields = {"kind": types_pb2.Design.KIND_UNIFORM, "seed": 1, "alpha": 0.5, "examples": 10}
    return types_pb2.Design(**fields | change)


@pytest.mark.parametrize(
    ("design", "faults"),
    [
        (types_pb2.Design(), ["design.kind = 'unspecified'"]),
        (message(kind=17), ["design.kind = 'unspecified'"]),
        (message(alpha=float("nan"), examples=-1), ["alpha = nan", "examples = -1"]),
        (message(alpha=1.0), ["alpha = 1.0"]),
        (message(kind=types_pb2.Design.KIND_GROUPED), ["needs the group of each example"]),
        (message(groups=codec.to_tensor(np.zeros(10))), ["design.groups: has type float64, must be int32"]),
        (message(pinned_in=codec.to_tensor(np.int32([10]))), ["design pins column 10: must be 0 to 9"]),
        (message(examples=2**62), [f"has {2**62} columns"]),
    ],
)
def test_a_faulty_design_is_refused(stub, design, faults):
    for call in (
        lambda: stub.DescribeDesign(sampler_pb2.DescribeDesignRequest(design=design)),
        lambda: list(stub.GetSubsets(sampler_pb2.GetSubsetsRequest(design=design, first=0, last=1))),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert all(fault in str(caught.value) for fault in faults)


def test_a_deadline_ends_a_stream_in_the_middle(server):
    hasty = ClientSettings(deadline=0.05)
    with SamplerClient(server.address, hasty) as client, pytest.raises(DeadlineError):
        client.subsets(UNIFORM, 0, 5_000_000)


def test_a_cancelled_call_draws_no_more_subsets(server, stub, eventually):
    def ended():
        return metric(server, 'grpc_server_handled_total{grpc_code="CANCELLED",grpc_method="GetSubsets",grpc_ser')

    before = ended()
    stream = stub.GetSubsets(request(last=sampler.MAX_SUBSETS))
    next(stream)
    stream.cancel()
    eventually(lambda: ended() == before + 1)
    drawn = metric(server, "datamodels_sample_subsets_total")
    assert drawn < sampler.MAX_SUBSETS / 10
    assert metric(server, "datamodels_sample_subsets_total") == drawn


def test_drawn_subsets_are_counted(server, client):
    names = [
        'datamodels_sample_subsets_total{kind="stratified"}',
        'datamodels_sample_draw_seconds_count{kind="stratified"}',
        f'grpc_server_handled_total{{grpc_code="OK",grpc_method="GetSubsets",grpc_service="{SERVICE}"',
    ]
    before = [metric(server, name) for name in names]
    client.subsets(DESIGNS[2], 0, 123)
    assert [metric(server, name) - b for name, b in zip(names, before, strict=True)] == [123, 1, 1]


class Scripted(sampler_pb2_grpc.SamplerServiceServicer):
    """A sampler that sends scripted responses."""

    def __init__(self, *responses):
        self._responses = responses

    def GetSubsets(self, request, context):
        yield from self._responses


@pytest.mark.parametrize(
    ("firsts", "error", "fault"),
    [
        ([], UnavailableError, "sent 0 of 4 subsets"),
        ([0], UnavailableError, "sent 2 of 4 subsets"),
        ([0, 3], UnavailableError, "sent subset 3 where 2 was due"),
        ([0, 2, 4], UnavailableError, "sent 6 of 4 subsets"),
    ],
)
def test_a_stream_with_gaps_is_noticed(firsts, error, fault):
    masks = codec.to_tensor(np.zeros((2, UNIFORM.mask_bytes), np.uint8))
    real = sampler.service()
    fake = type(real)(
        real.descriptor,
        real.add,
        Scripted(*(sampler_pb2.GetSubsetsResponse(first=first, masks=masks) for first in firsts)),
    )
    with (
        Server(ServeSettings(), [fake]) as server,
        SamplerClient(server.address, ClientSettings(attempts=1)) as client,
        pytest.raises(error, match=fault),
    ):
        client.subsets(UNIFORM, 0, 4)


def allowed(code):
    return code in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}


@pytest.fixture(scope="module")
def raw(server):
    """raw(method, bytes) sends bytes and returns the status code. It reads at most two messages of a stream."""
    with grpc.insecure_channel(server.address) as channel:
        unary = channel.unary_unary(f"/{SERVICE}/DescribeDesign")
        stream = channel.unary_stream(f"/{SERVICE}/GetSubsets")

        def code(method, data):
            try:
                if method == "DescribeDesign":
                    unary(data, timeout=LIMIT)
                else:
                    answers = stream(data, timeout=LIMIT)
                    next(answers, None)
                    answers.cancel()
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        yield code


METHODS = st.sampled_from(["DescribeDesign", "GetSubsets"])
FUZZ = examples(50)


@FUZZ
@given(METHODS, st.binary(max_size=200))
def test_random_bytes_are_answered_or_refused(raw, method, data):
    assert allowed(raw(method, data))


tensors = st.builds(
    types_pb2.Tensor,
    dtype=st.integers(-1, 8),
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 5), max_size=3),
    data=st.binary(max_size=40),
)
int32s = st.lists(st.integers(-1, 12), max_size=12).map(lambda values: codec.to_tensor(np.array(values, np.int32)))
any_designs = st.builds(
    types_pb2.Design,
    kind=st.integers(-1, 6),
    seed=st.integers(0, 2**64 - 1),
    alpha=st.floats() | st.floats(0, 1),
    examples=st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 12),
    groups=st.none() | tensors | int32s,
    pinned_in=st.none() | tensors | int32s,
    pinned_out=st.none() | tensors | int32s,
)


@FUZZ
@given(METHODS, any_designs, st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 9), st.integers(-1, 2**63 - 1))
def test_random_messages_are_answered_or_refused(raw, method, design, first, last):
    data = sampler_pb2.GetSubsetsRequest(design=design, first=first, last=last).SerializeToString()
    assert allowed(raw(method, data))


@FUZZ
@given(METHODS, st.data())
def test_damaged_messages_are_answered_or_refused(raw, method, data):
    whole = bytearray(request(data.draw(st.sampled_from(DESIGNS))).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert allowed(raw(method, bytes(whole[: data.draw(st.integers(0, len(whole)))])))
