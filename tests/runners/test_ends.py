import json
import subprocess
import sys

import pytest

from datamodels.runners import ends

INFO = json.dumps({"event": "chunk done", "level": "info"})
ERROR = json.dumps({"event": "mine:T: 3 of 4 models failed", "level": "error", "error": "ConfigError"})
TRACE = 'Traceback (most recent call last):\n  File "mine.py", line 3, in <module>\nValueError: no such column\n'


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (f"{INFO}\n{ERROR}\n", "mine:T: 3 of 4 models failed"),
        (f"{ERROR}\nepoch 3: printed when Python ends\n", "mine:T: 3 of 4 models failed"),
        (f"{INFO}\n{TRACE}printed later\n", "ValueError: no such column"),
        ("2026-11-28 [error    ] mine:T failed   run=a\n", "2026-11-28 [error    ] mine:T failed   run=a"),
        ("datamodels: the store is full\n", "the store is full"),
    ],
)
def test_what_a_process_said_is_told(log, said):
    assert ends.said(log) == ends.message(log) == said


@pytest.mark.parametrize(
    ("log", "last"),
    [(f"{INFO}\n", "before that, it logged: chunk done"), ("epoch 3\n", "logged: epoch 3"), ("", "it logged nothing")],
)
def test_a_process_that_said_nothing_died(log, last):
    assert not ends.message(log)
    assert ends.said(log).startswith("it died without a message: something called os._exit, or a library ended")
    assert ends.said(log).endswith(last)


def test_a_kill_has_its_likely_reason_and_a_crash_its_place(tmp_path):
    killed = ends.of_signal(9, INFO)
    assert killed.startswith(
        "was killed by SIGKILL; run the same command again to resume; the system does that if memory"
    )
    assert ends.of_signal(15, INFO) == "was killed by SIGTERM; run the same command again to resume"
    (tmp_path / "mine.py").write_text("import ctypes\ndef train():\n    ctypes.string_at(0)\ntrain()\n")
    died = subprocess.run([sys.executable, "-X", "faulthandler", tmp_path / "mine.py"], capture_output=True, text=True)
    told = ends.of_signal(-died.returncode, f"{INFO}\n{died.stderr}")
    assert told == f"crashed by SIGSEGV ({tmp_path}/mine.py:3 in train): compiled code failed, of a library or your own"
    assert ends.crash(11, INFO).startswith("crashed by SIGSEGV: compiled") and not ends.crash(9, INFO)
