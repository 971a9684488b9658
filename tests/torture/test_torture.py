"""A short version of `make torture`, the same in each run."""

import random

import pytest

from tests.torture import calls, files
from tests.torture.rows import Budget, Result


@pytest.fixture(autouse=True)
def command_line(monkeypatch, tmp_path):
    """Commands write below their working folder."""
    monkeypatch.chdir(tmp_path)


def test_wrong_messages(tmp_path):
    result = Result()
    with calls.services(tmp_path) as started:
        before = calls.memory_of(started)
        calls.make_calls(started, random.Random(0), 200, result)
        assert not result.faults + calls.faults_of(started)
        grown = {name: now - before[name] for name, now in calls.memory_of(started).items()}
    assert max(grown.values()) < 2 * calls.GROWTH_MB, grown  # the fitter compiles loops
    assert result.outcomes["OK"] > 20 and result.outcomes.total() == 200


def test_damaged_files(tmp_path):
    result = files.run(tmp_path, 0, Budget(rounds=24))
    assert not result.faults
    assert result.outcomes["DATA_LOSS CorruptObjectError"] > 15
    assert result.outcomes["OK"] > 80


def test_a_crash_is_a_fault(tmp_path):
    """A null control: the torture finds a reader that crashes."""
    victim, result = files.Victim(tmp_path), Result()
    reader = files.Reader(victim, result)
    reader.note("here", lambda: str(1 // 0))
    reader.note("here", lambda: "UNKNOWN DatamodelsError")
    crash, code = result.faults
    assert crash.startswith("here: INTERNAL ZeroDivisionError in test_torture.py:")
    assert code == "here: UNKNOWN DatamodelsError "
