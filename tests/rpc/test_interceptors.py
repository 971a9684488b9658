import collections
import contextlib
import logging
import threading

import grpc
import pytest
from google.protobuf import wrappers_pb2

from datamodels import errors
from tests.helpers.waiting import LIMIT

SHAPES = ("Unary", "Many", "Collect", "Chat")
TYPES = {"Unary": "unary", "Many": "server_stream", "Collect": "client_stream", "Chat": "bidi_stream"}
ECHO = "datamodels.test.EchoService"


def all_errors():
    def below(kind):
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    # Modules of other packages may define errors that no service raises.
    found = (kind for kind in below(errors.DatamodelsError) if kind.__module__ == errors.__name__)
    return sorted({errors.DatamodelsError, *found}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("shape", SHAPES)
def test_calls_of_every_shape_are_answered(stub, shape):
    assert list(stub.call(shape, ["say hello"])) == ["hello"]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_error_arrives_as_its_own_class(serve, channels, stub_of, shape):
    stub = stub_of(channels(serve().address, attempts=1))

    def arrived(kind):
        try:
            return list(stub.call(shape, [f"fail {kind.__name__} field = 3: must be 4"]))
        except errors.DatamodelsError as error:
            return type(error), str(error)

    assert [arrived(kind) for kind in all_errors()] == [(kind, "field = 3: must be 4") for kind in all_errors()]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_error_is_sent_as_its_code(serve, raw_channel, stub_of, shape):
    stub = stub_of(raw_channel(serve().address))
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.call(shape, ["fail TargetRangeError far out"]))
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
    assert caught.value.details() == "far out"


@pytest.mark.parametrize("shape", ["Many", "Chat"])
def test_an_error_in_the_middle_of_the_responses(stub, shape):
    answers = stub.call(shape, ["say 1", "say 2", "fail MaskError mask of 3 bytes", "say 4"])
    assert [next(answers), next(answers)] == ["1", "2"]
    with pytest.raises(errors.MaskError, match=r"^mask of 3 bytes$"):
        next(answers)


@pytest.mark.parametrize("shape", ["Collect", "Chat"])
def test_an_error_in_the_middle_of_the_requests(stub, shape):
    def requests():
        yield "say 1"
        yield "fail OutputsError row 7 is NaN"
        yield "say 3"

    with pytest.raises(errors.OutputsError, match=r"^row 7 is NaN$"):
        list(stub.call(shape, requests()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("command", ["crash at once", "wrong type"])
def test_an_unexpected_error_is_internal_and_its_traceback_is_logged(
    serve, raw_channel, stub_of, caplog, shape, command
):
    stub = stub_of(raw_channel(serve().address))
    with caplog.at_level(logging.ERROR), pytest.raises(grpc.RpcError) as caught:
        list(stub.call(shape, [command]))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    details = caught.value.details()
    assert details.startswith("internal error, see the log of echo (")
    assert "ZeroDivision" not in details
    logged = [r.msg for r in caplog.records if isinstance(r.msg, dict) and r.msg["event"] == "internal error"]
    assert [f"({entry['id']})" in details for entry in logged] == [True]
    assert isinstance(logged[0]["exc_info"], ZeroDivisionError | TypeError)
    assert logged[0]["exc_info"].__traceback__ is not None


@pytest.mark.parametrize("shape", SHAPES)
def test_an_abort_by_the_servicer_is_passed_on(serve, raw_channel, stub_of, caplog, shape):
    stub = stub_of(raw_channel(serve().address))
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.call(shape, ["abort by hand"]))
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.ABORTED, "by hand")
    assert not caplog.records


@pytest.mark.parametrize("shape", SHAPES)
def test_malformed_bytes_are_a_typed_error(serve, raw_channel, shape):
    channel = raw_channel(serve().address)
    path = f"/{ECHO}/{shape}"
    good = wrappers_pb2.StringValue(value="say 1").SerializeToString()
    calls = {
        "Unary": lambda: channel.unary_unary(path)(b"\xff\xff"),
        "Many": lambda: list(channel.unary_stream(path)(b"\xff\xff")),
        "Collect": lambda: channel.stream_unary(path)(iter([good, b"\xff\xff"])),
        "Chat": lambda: list(channel.stream_stream(path)(iter([good, b"\xff\xff"]))),
    }
    with pytest.raises(grpc.RpcError) as caught:
        calls[shape]()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert path in caught.value.details()


def test_a_long_error_is_cut_and_keeps_its_class(stub):
    with pytest.raises(errors.MaskError) as caught:
        stub.Unary("fail MaskError " + "é" * 3000)
    assert str(caught.value).startswith("é" * 700)
    assert str(caught.value).endswith("...")


def test_the_faults_of_a_spec_arrive_as_separate_entries(stub):
    with pytest.raises(errors.SpecError) as caught:
        stub.Unary("fail SpecError m = 1: too few\nalpha = 2: too large")
    assert caught.value.faults == ("m = 1: too few", "alpha = 2: too large")


def test_a_request_over_the_limit_is_refused(serve, channels, stub_of):
    stub = stub_of(channels(serve(max_message_bytes=1000).address))
    assert stub.Unary("say " + "x" * 900)
    with pytest.raises(errors.InputError, match="larger than max"):
        stub.Unary("say " + "x" * 1100)
    with pytest.raises(errors.InputError, match="larger than max"):
        stub.Collect(iter(["say 1", "say " + "x" * 1100]))


def test_a_response_over_the_limit_is_refused(stub):
    with pytest.raises(errors.InputError, match="larger than max"):
        stub.Unary(f"big {4 * 2**20 + 1}")


@pytest.mark.parametrize("path", [f"/{ECHO}/Nothing", "/no.Such/Call", "no slash", "/"])
def test_an_unknown_method_is_counted_as_other(serve, raw_channel, count, path):
    channel = raw_channel(serve().address)
    before = count("grpc_server_handled_total", "other", grpc_service="other", grpc_code="UNIMPLEMENTED")
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert count("grpc_server_handled_total", "other", grpc_service="other", grpc_code="UNIMPLEMENTED") == before + 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("say 1", "OK"),
        ("fail StoreFullError no space", "RESOURCE_EXHAUSTED"),
        ("crash", "INTERNAL"),
        ("abort", "ABORTED"),
    ],
)
def test_calls_are_counted_by_shape_and_code(stub, count, shape, command, code):
    labels = {"grpc_service": ECHO, "grpc_type": TYPES[shape]}
    names = ("grpc_server_started_total", "grpc_server_handling_seconds_count")
    before = [count(name, shape, **labels) for name in names]
    handled = count("grpc_server_handled_total", shape, grpc_code=code, **labels)
    with contextlib.suppress(errors.DatamodelsError):
        list(stub.call(shape, [command]))
    assert [count(name, shape, **labels) for name in names] == [b + 1 for b in before]
    assert count("grpc_server_handled_total", shape, grpc_code=code, **labels) == handled + 1


def test_a_cancelled_stream_is_closed_and_is_not_an_error(stub, echo, count, eventually, caplog):
    before = count("grpc_server_handled_total", "Many", grpc_code="CANCELLED")
    answers = stub.Many("say 1\n" + "\n".join(["big 1000000"] * 1000))
    next(answers)
    answers.cancel()
    assert echo.left.wait(LIMIT)
    eventually(lambda: count("grpc_server_handled_total", "Many", grpc_code="CANCELLED") == before + 1)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_requests_cut_off_by_the_caller_are_not_an_error(stub, count, eventually, caplog):
    """gRPC reports it to the servicer with an error, or sometimes only by ending the requests."""

    def outcomes():
        codes = ("OK", "CANCELLED", "INTERNAL", "UNKNOWN")
        return collections.Counter({c: count("grpc_server_handled_total", "Chat", grpc_code=c) for c in codes})

    def cut_off():
        before = outcomes()
        counted = threading.Event()

        def requests():
            yield "say 1"
            counted.wait(LIMIT)

        answers = stub.Chat(requests())
        assert next(answers) == "1"
        answers.cancel()
        eventually(lambda: outcomes() != before)
        counted.set()
        return set(outcomes() - before)

    seen = set().union(*(cut_off() for _ in range(20)))
    assert "CANCELLED" in seen <= {"OK", "CANCELLED"}
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_call_past_its_callers_deadline_is_counted_as_late(stub, count, eventually):
    before = count("grpc_server_handled_total", "Unary", grpc_code="DEADLINE_EXCEEDED")
    assert stub.Unary("say 1") == "1"  # connects, so that the next call arrives before its deadline
    with pytest.raises(errors.DeadlineError):
        stub.Unary("watch 1", timeout=1.0)
    eventually(lambda: count("grpc_server_handled_total", "Unary", grpc_code="DEADLINE_EXCEEDED") == before + 1)


def test_a_call_without_a_deadline_gets_that_of_the_server(serve, raw_channel, stub_of):
    stub = stub_of(raw_channel(serve(max_deadline=10_000.0).address))
    assert 9_000 < float(stub.Unary("remaining")) <= 10_000
    assert 9_000 < float(stub.Unary("remaining", timeout=100_000)) <= 10_000
    assert 1_000 < float(stub.Unary("remaining", timeout=2_000)) < 2_100


@pytest.mark.parametrize("shape", ["Many", "Chat"])
def test_a_stream_past_the_servers_deadline_ends(serve, channels, stub_of, shape):
    stub = stub_of(channels(serve(max_deadline=1.0).address))  # time enough for the first answer
    answers = stub.call(shape, ["say 1", "linger 1.2", "say 3"])
    assert next(answers) == "1"
    with pytest.raises(errors.DeadlineError, match="longer than the server allows"):
        list(answers)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_watch_past_the_servers_deadline_ends(serve, raw_channel, stub_of, shape):
    stub = stub_of(raw_channel(serve(max_deadline=0.2).address))
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.call(shape, ["watch"]))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
