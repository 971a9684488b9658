"""Let no command end with a traceback if standard output or standard error is closed, full, or ASCII only."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

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

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            self.fault = self.fault or error
            if not self._lenient:
                raise


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
