"""Run the command `datamodels`."""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
from collections.abc import Sequence

from datamodels import extras, screen
from datamodels.cli.common import faults, streams
from datamodels.cli.parser import parser
from datamodels.environment import drop_unusable, hide_secrets
from datamodels.errors import DatamodelsError, ExitCode, Terminated
from datamodels.settings import TelemetrySettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code of its process."""
    signal.signal(signal.SIGTERM, _terminate)
    drop_unusable()
    hide_secrets()
    sys.excepthook = faults.show_trace
    return streams.guarded(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    options = parser().parse_args(arguments)
    from datamodels.cli.common import logs  # help and completion need no logging

    logs.show()
    try:
        if getattr(options, "trust", None):
            from datamodels.run import trust  # it imports what most commands do not need

            trust.trust_modules(options.trust)
        module, _, function = options.command.partition(":")
        command = getattr(importlib.import_module(module), function)
        with streams.answers_alone() if getattr(options, "json", False) else contextlib.nullcontext():
            command(options)
    except DatamodelsError as error:
        if TelemetrySettings.load().level == "debug":
            faults.show_trace(*sys.exc_info())
        for line in faults.lines(error, options, sys.argv[1:] if arguments is None else arguments):
            print(f"datamodels: {screen.plain(line)}", file=sys.stderr)  # it may quote the words of a user's exception
        return int(error.exit_code)
    except ModuleNotFoundError as error:
        if not extras.advice(error):
            raise
        print(f"datamodels: this command needs {extras.advice(error)}", file=sys.stderr)
        return int(ExitCode.CONFIG)
    except KeyboardInterrupt:
        print("datamodels: stopped; what is committed is kept, run the same command again to resume", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    return int(ExitCode.DONE)


def _terminate(number: int, frame: object) -> None:
    raise Terminated(int(ExitCode.TERMINATED))
