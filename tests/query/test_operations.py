import threading

import pytest

from datamodels.errors import CorruptObjectError, NotReadyError, UnavailableError
from datamodels.query.operations import OperationProgress, Operations
from datamodels.storage import keys, records
from datamodels.storage.local import LocalStore
from tests.helpers.waiting import LIMIT

KEY = keys.analysis("try-000000000000", 0, "thing", "d0")


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


@pytest.fixture
def operations(store):
    made = Operations(store)
    yield made
    made.close()


class Work:
    """A computation that ends once `go` is set."""

    def __init__(self, answer=b"42", error=None):
        self.answer, self.error = answer, error
        self.started, self.go, self.left = threading.Event(), threading.Event(), threading.Event()
        self.calls = 0

    def __call__(self, tell):
        self.calls += 1
        self.started.set()
        try:
            while not self.go.wait(0.01):
                tell("working", 0.5)
            if self.error:
                raise self.error
            return self.answer
        finally:
            self.left.set()


def done(answer=b"42", error=None):
    work = Work(answer, error)
    work.go.set()
    return work


def ask(operations, work, *, final=True, **asked):
    return operations.ask(KEY, work, final=final, **asked)


def test_progress_comes_first_and_the_answer_last(operations):
    work = Work()
    found = ask(operations, work)
    assert isinstance(next(found), OperationProgress)
    work.go.set()
    *progress, answer = found
    assert answer == b"42" and all(isinstance(each, OperationProgress) for each in progress)


def test_a_final_answer_is_stored_and_never_computed_again(store, operations):
    assert list(ask(operations, done()))[-1] == b"42"
    again = done(b"43")
    assert list(ask(operations, again)) == [b"42"] and not again.calls
    other = Operations(store)
    assert list(ask(other, again)) == [b"42"]
    other.close()


def test_an_answer_that_may_change_is_computed_each_time(operations):
    assert list(ask(operations, done(), final=False))[-1] == b"42"
    assert list(ask(operations, done(b"43"), final=False))[-1] == b"43"


def test_an_answer_about_weights_is_kept_until_there_are_others(operations):
    assert list(ask(operations, done(), final=False, basis="weights"))[-1] == b"42"
    again = done(b"43")
    assert list(ask(operations, again, final=False, basis="weights")) == [b"42"] and not again.calls
    assert list(ask(operations, again, final=False, basis="others"))[-1] == b"43"


def test_a_caller_joins_a_running_operation(operations):
    work, second = Work(), Work(b"43")
    callers = [ask(operations, work), ask(operations, second)]
    for caller in callers:
        next(caller)
    work.go.set()
    assert [list(caller)[-1] for caller in callers] == [b"42", b"42"]
    assert (work.calls, second.calls) == (1, 0)


def test_the_last_to_leave_cancels_and_a_new_caller_starts_again(operations):
    work = Work()
    callers = [ask(operations, work), ask(operations, work)]
    for caller in callers:
        next(caller)
    assert work.started.wait(LIMIT)
    callers[0].close()
    work.left.clear()
    callers[1].close()
    assert work.left.wait(LIMIT)
    assert list(ask(operations, done(b"43")))[-1] == b"43"


def test_a_caller_who_leaves_does_not_cancel_for_the_others(operations):
    work = Work()
    stays, leaves = ask(operations, work), ask(operations, work)
    next(stays), next(leaves)
    assert work.started.wait(LIMIT)
    leaves.close()
    work.go.set()
    assert list(stays)[-1] == b"42"


def test_a_failure_is_raised_to_all_callers_and_not_stored(operations):
    work = Work(error=NotReadyError("too few"))
    callers = [ask(operations, work), ask(operations, work)]
    for caller in callers:
        next(caller)
    work.go.set()
    for caller in callers:
        with pytest.raises(NotReadyError, match="too few"):
            list(caller)
    assert list(ask(operations, done()))[-1] == b"42"


def test_a_caller_who_is_no_longer_active_gets_no_answer(operations):
    work, active = Work(), threading.Event()
    active.set()
    found = ask(operations, work, active=active.is_set)
    next(found)
    assert work.started.wait(LIMIT)
    active.clear()
    operations.wake()
    assert b"42" not in list(found)
    assert work.left.wait(LIMIT)


def test_operations_wait_for_a_free_worker(operations):
    first, second = Work(), done(b"43")
    running = ask(operations, first)
    next(running)
    assert first.started.wait(LIMIT)
    waits = operations.ask(f"{KEY}.other", second, final=True)
    assert next(waits) == OperationProgress("waiting", 0.0) and not second.calls
    first.go.set()
    assert list(running)[-1] == b"42" and list(waits)[-1] == b"43"


def test_closing_cancels_running_operations(store):
    operations, work = Operations(store), Work()
    found = ask(operations, work)
    next(found)
    assert work.started.wait(LIMIT)
    operations.close()
    assert work.left.is_set()
    with pytest.raises(UnavailableError, match="stopping"):
        list(found)
    with pytest.raises(UnavailableError, match="stopping"):
        list(ask(operations, done()))
    assert not store.exists(KEY)


def test_two_processes_may_compute_the_same_answer(store):
    """As in two replicas, or after a crash. The first answer is stored."""
    services, works = [Operations(store), Operations(store)], [Work(b"1"), Work(b"2")]
    callers = [ask(service, work) for service, work in zip(services, works, strict=True)]
    for caller in callers:
        next(caller)
    works[1].go.set()
    assert list(callers[1])[-1] == b"2"
    works[0].go.set()
    assert list(callers[0])[-1] == b"1"
    assert list(ask(services[0], Work())) == [b"2"]
    for service in services:
        service.close()


@pytest.mark.parametrize("body", [{"answer": "§"}, {}, 3])
def test_a_damaged_answer_is_named(store, operations, body):
    records.create(store, KEY, body)
    with pytest.raises(CorruptObjectError, match="is not the result of an analysis"):
        list(ask(operations, done()))
