"""Say how a child process ended, from its exit code and its log: what it said itself, or how it died."""

from __future__ import annotations

import json
import re
import signal

from datamodels.run import user_code

CRASHES = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT")
"""Signals by which a process dies of its own code. Python's fault handler then writes the stack to the log."""
MEMORY = (
    "the system does that if memory runs out: run fewer trainers (--trainers), train fewer models at once, or use a "
    "machine with more memory"
)
_FRAME = re.compile(r'^  File "(.+)", line (\d+) in (.+)$')
_RAISED = re.compile(r"[\w.]*(Error|Exception|Exit|Interrupt)\b")
_ERROR = re.compile(r"\[error *\] ")
"""An error in logs for people; in JSON, it is the level."""
OURS = "datamodels: "
"""Before the errors of commands."""


def of_signal(number: int, log: str) -> str:
    """Describe a death by a signal. log: what the process has logged."""
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal
        name = f"signal {number}"
    if crashed := crash(number, log):
        return crashed
    again = "run the same command again to resume"
    return f"was killed by {name}; {again}" + (f"; {MEMORY}" if name == "SIGKILL" else "")


def crash(number: int, log: str) -> str:
    """Describe a death by a signal of CRASHES; empty for other numbers."""
    name = next((name for name in CRASHES if getattr(signal, name, None) == number), None)
    if name is None:
        return ""
    place = _crashed_at(log)
    return f"crashed by {name}{f' ({place})' if place else ''}: compiled code failed, of a library or your own"


def message(log: str) -> str:
    """Return what a process said of its failure, as one line; empty if it said nothing and so died.

    That is the last error in its log, or else the error that ended it with a traceback.
    """
    lines = log.strip().splitlines()
    for line in reversed(lines):
        entry = _entry(line)
        if entry and entry.get("level", "error") == "error":
            return str(entry["event"])
        if _ERROR.search(line):
            return line
    trace = next((i for i in reversed(range(len(lines))) if lines[i].startswith("Traceback (most recent")), None)
    if trace is not None:
        return next((line for line in lines[trace + 1 :] if line.strip() and not line.startswith(" ")), "")
    if lines and _RAISED.match(lines[-1]):  # the end of a traceback, of which logs of pods may have lost the beginning
        return lines[-1]
    return next((line for line in reversed(lines) if line.startswith(OURS)), "").removeprefix(OURS)


def last_line(log: str) -> str:
    """Return the last line of a log, as text; empty if there is none."""
    lines = log.strip().splitlines()
    return str(_entry(lines[-1]).get("event", lines[-1])) if lines else ""


def said(log: str) -> str:
    """Return what a process said of its failure; if nothing, that it died, and what it logged last."""
    found = message(log)
    if found:
        return found
    last = last_line(log)
    return (
        "it died without a message: something called os._exit, or a library ended the process"
        f"; {f'before that, it logged: {last}' if last else 'it logged nothing'}"
    )


def _entry(line: str) -> dict:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "event" in found else {}


def _crashed_at(log: str) -> str:
    """Return the place in the user's code from the stack of a crash; empty if there is none."""
    stack = log[log.rfind("Fatal Python error: ") :].splitlines() if "Fatal Python error: " in log else []
    begin = next((i for i, line in enumerate(stack) if line.startswith("Current thread ")), len(stack))
    frames = []
    for line in stack[begin + 1 :]:
        found = _FRAME.match(line)
        if not found:
            break
        frames.append((found[1], int(found[2]), found[3]))
    return user_code.place(frames[::-1])
