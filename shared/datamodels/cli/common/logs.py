"""Show what a command logs as lines for people. Only services have a log."""

from __future__ import annotations

import logging

from datamodels import screen

_HIDDEN = {"event", "level", "timestamp", "exc_info", "stack_info"}


def show() -> None:
    """Print warnings and errors to standard error, until a service, or a driver, configures its log."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Lines())


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the event and the fields of a structured message, or another library's message as it is."""
        if not isinstance(record.msg, dict):
            return screen.redact(super().format(record))
        fields = ", ".join(f"{name} {value}" for name, value in record.msg.items() if name not in _HIDDEN)
        text = ": ".join(filter(None, (str(record.msg.get("event", "")), fields)))
        return f"datamodels: {screen.plain(screen.redact(text))}"
