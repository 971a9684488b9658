"""Callers that are idle keep no threads from others, on any call of any service."""

import contextlib
import threading

import pytest

from datamodels import errors
from tests.helpers.calls import METHODS, call
from tests.helpers.waiting import LIMIT
from tests.services.test_every_call import GOOD, HEADER, Places, good, opened, request_of

WORKERS = 2


@pytest.fixture(scope="module")
def channel_to(tmp_path_factory):
    with opened(Places(tmp_path_factory.mktemp("places")).served(workers=WORKERS)) as channels:
        yield channels


def idle(channel, method, *messages):
    """Start a call that sends these messages and then waits. Returns the call and an event that ends the waiting."""
    done = threading.Event()

    def requests():
        yield from messages
        done.wait()

    # Also for calls with one message: on the wire they are the same.
    path = f"/{method.containing_service.full_name}/{method.name}"
    start = channel.stream_stream(path, request_serializer=lambda message: message.SerializeToString())
    return start(requests()), done


def test_idle_callers_give_way_to_others(channel_to):
    """More idle calls of every method than it has threads; then each method answers."""
    with contextlib.ExitStack() as stack:
        waiting = []
        for method in METHODS:
            first = [request_of(method, **HEADER)] if method.name == "PutOutputs" else []
            for _ in range(WORKERS + 1):
                started, done = idle(channel_to(method), method, *first)
                stack.callback(done.set)
                stack.callback(started.cancel)
                waiting.append(started)
        answers, threads = {}, []
        for method in METHODS:

            def answer(method=method):
                answers[method.name] = call(channel_to(method), method, good(method), timeout=LIMIT)

            threads.append(threading.Thread(target=answer))
            threads[-1].start()
        for thread in threads:
            thread.join()
        assert answers.keys() == GOOD.keys()
        with pytest.raises(errors.UnavailableError):
            next(waiting[0])
