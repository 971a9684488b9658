import threading

import grpc
import pytest

from datamodels.errors import DeadlineError, UnavailableError
from datamodels.rpc.context import CallContext, Watches
from tests.helpers.waiting import LIMIT


class Caller:
    """The part of grpc.ServicerContext that reports what the caller does."""

    def __init__(self, remaining=None):
        self.remaining = remaining
        self.active = True
        self.callbacks = []

    def time_remaining(self):
        return self.remaining

    def is_active(self):
        return self.active

    def add_callback(self, callback):
        if self.active:
            self.callbacks.append(callback)
        return self.active

    def leave(self):
        self.active = False
        for callback in self.callbacks:
            callback()

    def peer(self):
        return "ipv4:127.0.0.1:5"


@pytest.mark.parametrize(("asked", "limit", "least", "most"), [(None, 50, 40, 50), (10, 50, 10, 10), (90, 50, 40, 50)])
def test_the_deadline_is_the_sooner_one(asked, limit, least, most):
    assert least <= CallContext(Caller(asked), limit, Watches()).time_remaining() <= most


def test_everything_else_comes_from_grpc():
    assert CallContext(Caller(), 1, Watches()).peer() == "ipv4:127.0.0.1:5"


def test_a_call_past_the_servers_limit():
    call = CallContext(Caller(), 0, Watches())
    assert not call.is_active()
    assert call.time_remaining() == 0
    with pytest.raises(DeadlineError):
        call.check()


def test_the_limit_wakes_a_watch():
    woken = threading.Event()
    call = CallContext(Caller(), 0.05, Watches())
    call.watch(woken.set)
    assert call.is_active()
    assert woken.wait(LIMIT)


def test_the_end_of_the_server_wakes_only_watches():
    watches, woken = Watches(), threading.Event()
    watch, other = CallContext(Caller(), 60, watches), CallContext(Caller(), 60, watches)
    watch.watch(woken.set)
    watches.end()
    assert woken.is_set()
    assert not watch.is_active()
    with pytest.raises(UnavailableError):
        watch.check()
    assert other.is_active()
    other.check()


def test_a_watch_that_comes_after_the_end_is_woken_at_once():
    watches, woken = Watches(), threading.Event()
    watches.end()
    call = CallContext(Caller(), 60, watches)
    call.watch(woken.set)
    assert woken.is_set()
    assert not call.is_active()


def test_a_caller_that_leaves_wakes_its_watch_and_is_forgotten():
    watches, caller, woken = Watches(), Caller(), []
    call = CallContext(caller, 60, watches)
    call.watch(lambda: woken.append(1))
    caller.leave()
    assert not call.is_active()
    assert woken == [1]
    watches.end()
    assert woken == [1]


def test_a_watch_of_a_caller_that_has_left_is_woken_and_forgotten():
    watches, caller, woken = Watches(), Caller(), []
    caller.leave()
    CallContext(caller, 60, watches).watch(lambda: woken.append(1))
    watches.end()
    assert woken == [1]


@pytest.mark.parametrize(
    ("asked", "code"),
    [(None, grpc.StatusCode.CANCELLED), (60, grpc.StatusCode.CANCELLED), (0.01, grpc.StatusCode.DEADLINE_EXCEEDED)],
)
def test_ending_tells_how_the_caller_ended_a_call(asked, code):
    caller = Caller(asked)
    call = CallContext(caller, 3600, Watches())
    assert call.ending() is None
    caller.leave()
    assert call.ending() is code
