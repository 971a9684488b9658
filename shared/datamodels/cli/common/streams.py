"""Let no command end with a traceback if standard output or standard error is closed, full, or ASCII only."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from datamodels import screen
from datamodels.errors import ExitCode


class _Watched:
    """A text stream that remembers the first error of writing to it, and shows nothing that a terminal would obey.

    Labels, texts and reasons come from stores and services, so all text is made printable here, whatever prints it.

    lenient  ignore errors, as on standard error: nobody could read why writing to it fails
    keep     letters that stay although they cannot be printed; None for all
    """

    def __init__(self, stream: Any, *, lenient: bool, keep: str | None):
        self._stream, self._lenient, self._keep = stream, lenient, keep
        self.fault: OSError | None = None
        self.unscreened = self if keep is None else _Watched(stream, lenient=lenient, keep=None)
        """The stream for progress bars, which move the cursor."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        shown = text if self._keep is None else screen.printable(text, self._keep)
        self._try(lambda: self._stream.write(shown))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Write to a copy of the stream's file, if it is standard output, and let that be standard error meanwhile."""
        if _number(self) != 1:
            yield
            return
        before, copy = self._stream, os.dup(1)
        self.flush()
        os.dup2(2, 1)
        self._stream = open(copy, "w", encoding=self.encoding, errors=self.errors)  # noqa: SIM115
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self.flush()
            os.dup2(copy, 1)
            with contextlib.suppress(OSError):  # what cannot be written was noticed before
                self._stream.close()
            self._stream = before

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            self.fault = self.fault or error
            if not self._lenient:
                raise


@contextlib.contextmanager
def answers_alone() -> Iterator[None]:
    """Keep standard output for what is printed to `answers`, so that programs can read it.

    What a user's code, libraries and child processes print meanwhile goes to standard error.
    """
    global _answers
    out = sys.stdout
    with out.elsewhere() if isinstance(out, _Watched) else contextlib.nullcontext():
        sys.stdout, _answers = sys.stderr, out
        try:
            yield
        finally:
            sys.stdout, _answers = out, None


def answers() -> TextIO:
    """Return the stream for the JSON of a command."""
    return _answers or sys.stdout


_answers: Any = None


def _number(stream: Any) -> int | None:
    """Return the number of a stream's file; None if it has none, as in memory."""
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None


def guarded(command: Callable[[], int]) -> int:
    """Run a command and return its exit code, or another if its output could not be written.

    A reader that leaves early, as `head` does, is no error. Characters that the output cannot show are escaped.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    for stream in before:
        if getattr(stream, "errors", "") in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    out, err = _Watched(sys.stdout, lenient=False, keep="\n\t"), _Watched(sys.stderr, lenient=True, keep="\n\t\r")
    sys.stdout, sys.stderr = out, err
    try:
        return _guarded(command, out)
    finally:
        sys.stdout, sys.stderr = before
        if err.fault is not None or err.unscreened.fault is not None:
            _discard(err)


def _guarded(command: Callable[[], int], out: _Watched) -> int:
    pending: OSError | SystemExit | None = None
    code = int(ExitCode.DONE)
    try:
        code = command()
    except (OSError, SystemExit) as error:  # argparse exits after it has printed the help
        pending = error
    with contextlib.suppress(OSError):
        out.flush()
    if out.fault is not None:
        _discard(out)
        if isinstance(out.fault, BrokenPipeError):
            return int(ExitCode.DONE)
        print(f"datamodels: standard output: cannot be written: {out.fault.strerror}", file=sys.stderr)
        return int(ExitCode.FAILED)
    if pending is not None:
        raise pending
    return code


def _open_closed() -> None:
    """Open closed standard streams on the null device. Otherwise files would get their numbers, and their text."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115


def _discard(stream: Any) -> None:
    """Send what is left in a stream's buffer nowhere; Python would complain again when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
