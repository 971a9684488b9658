import threading

import grpc
import pytest
from google.protobuf import wrappers_pb2

from datamodels.errors import StoreUnavailableError, UnavailableError
from datamodels.rpc import watchdog
from datamodels.rpc.watchdog import Budget, Readiness
from tests.helpers.waiting import LIMIT, eventually
from tests.rpc.conftest import NAME


class Call:
    """The part of a CallContext that a budget looks at."""

    def __init__(self, idle, late=False):
        self.idle, self._late, self.expired = idle, late, False

    def idle_seconds(self):
        return self.idle

    def late(self):
        return self._late

    def expire(self):
        self.expired = True

    def peer(self):
        return "ipv4:127.0.0.1:5"


def ended(budget, *calls, limit=60.0):
    for call in calls:
        assert budget.expect()
        budget.begin(call)
    budget.end_idle(limit)
    return [call.expired for call in calls]


@pytest.fixture
def budget():
    budget = Budget("Put", 3)
    yield budget
    budget.pool.shutdown()


def test_idle_calls_end_at_the_limit(budget):
    assert ended(budget, Call(0), Call(59), Call(60)) == [False, False, True]


def test_idle_calls_end_sooner_if_others_wait(budget):
    budget.expect()
    assert ended(budget, Call(watchdog.CROWDED_SECONDS), Call(1), Call(0)) == [True, False, False]


def test_idle_calls_stay_while_threads_are_free(budget):
    budget.expect()
    assert ended(budget, Call(30), Call(30)) == [False, False]


def test_idle_calls_past_their_deadline_end_sooner(budget):
    assert ended(budget, Call(watchdog.CROWDED_SECONDS, late=True), Call(1, late=True)) == [True, False]


def test_calls_that_ended_are_forgotten(budget):
    call = Call(100)
    budget.expect()
    budget.begin(call)
    budget.end(call)
    budget.end_idle(60)
    assert not call.expired


def test_only_so_many_calls_may_wait(budget):
    assert [budget.expect() for _ in range(watchdog.MAX_WAITING + 1)] == [True] * watchdog.MAX_WAITING + [False]


def test_readiness_tells_of_changes_only():
    told, failing, checked = [], threading.Event(), threading.Semaphore(0)

    def check():
        checked.release()
        if failing.is_set():
            raise StoreUnavailableError("gone")

    readiness = Readiness("echo", check, told.append, pause=0.01)
    eventually(lambda: told == [True])
    failing.set()
    eventually(lambda: told == [True, False])
    for _ in range(3):
        assert checked.acquire(timeout=LIMIT)
    failing.clear()
    eventually(lambda: told == [True, False, True])
    readiness.close()


def test_a_check_that_hangs_counts_as_failed_until_it_ends():
    told, release = [], threading.Event()
    readiness = Readiness("echo", lambda: release.wait(LIMIT) or None, told.append, pause=0.01, limit=0.05)
    eventually(lambda: readiness.look() or told == [False])
    release.set()
    eventually(lambda: told == [False, True])
    readiness.close()


def chat(channel, shape, *lines):
    """Start a call that sends these lines and then nothing. Returns the call and an event that ends its requests."""
    done = threading.Event()

    def requests():
        for line in lines:
            yield wrappers_pb2.StringValue(value=line).SerializeToString()
        done.wait(LIMIT)

    return channel.stream_stream(f"/{NAME}/{shape}")(requests()), done


@pytest.mark.parametrize("shape", ["Unary", "Many", "Collect", "Chat"])
def test_a_caller_that_never_sends_its_message_loses_its_call(serve, raw_channel, count, shape):
    server = serve(idle=0.2)
    before = count("grpc_server_handled_total", shape, grpc_code="DEADLINE_EXCEEDED")
    call, done = chat(raw_channel(server.address), shape)
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    done.set()
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    eventually(lambda: count("grpc_server_handled_total", shape, grpc_code="DEADLINE_EXCEEDED") == before + 1)


@pytest.mark.parametrize("settings", [{"idle": 1.0}, {"max_deadline": 1.0}])
def test_a_stream_that_stops_in_the_middle_ends(serve, channels, settings):
    call, done = chat(channels(serve(**settings).address), "Chat", "say 1")
    assert next(call)
    with pytest.raises(UnavailableError):
        next(call)
    done.set()


def test_a_caller_that_takes_no_answers_loses_its_call(serve, raw_channel, echo):
    """Its first answers fill the buffers of the connection."""
    channel = raw_channel(serve(idle=0.2).address)
    request = wrappers_pb2.StringValue(value="\n".join(["big 1000000"] * 100)).SerializeToString()
    call = channel.unary_stream(f"/{NAME}/Many")(request)
    assert echo.left.wait(LIMIT)
    call.cancel()


def test_a_call_that_works_for_longer_is_not_idle(serve, channels, stub_of):
    assert stub_of(channels(serve(idle=1.0, workers=1).address)).Unary("linger 1.6") == "1.6"


def test_calls_of_a_method_do_not_take_the_threads_of_others(serve, channels, stub_of, echo):
    stub = stub_of(channels(serve(workers=1).address))
    held = [stub.Unary.future("hold done") for _ in range(3)]
    assert echo.entered.wait(LIMIT)
    assert list(stub.call("Collect", ["say 1"])) == ["1"]
    echo.release.set()
    assert [call.result() for call in held] == ["done"] * 3


def test_a_call_that_was_given_up_before_its_turn_is_not_begun(serve, channels, stub_of, echo):
    stub = stub_of(channels(serve(workers=1).address))
    held = stub.Unary.future("hold done")
    assert echo.entered.wait(LIMIT)
    given_up = stub.Unary.future("say 1")
    last = stub.Unary.future("say 2")
    given_up.cancel()
    assert list(stub.call("Collect", ["say 3"])) == [
        "3"
    ]  # on one connection, so the server knows of the cancelled call
    echo.release.set()
    assert (held.result(), last.result()) == ("done", "2")
    assert echo.calls == 3
