"""Decide and record who may call what: which runs a caller may read and write, denied calls, and writes.

A service with tokens asks for one in every call. A token of a run permits all calls about that run. A reader, whom
DATAMODELS_AUTH_READERS names, may make the calls that only read, about the runs that match a pattern.

Each denied call is counted and logged with its caller. Each call that writes leaves a line `audit` in the log, with or
without tokens.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from datamodels.errors import AccessError, DeniedError, SettingsError
from datamodels.settings import AuthSettings
from datamodels.telemetry import logger

log = logger(__name__)

GROUP = "group:"
"""Before the name of a group of callers, in place of a subject."""


@dataclasses.dataclass(frozen=True)
class Caller:
    """The account that a token was issued to.

    runs      the runs that the token is of: it may read and write them
    patterns  patterns of the names of runs that the account may read
    """

    subject: str
    runs: tuple[str, ...]
    patterns: tuple[str, ...] = ()

    def may_read(self, run: str) -> bool:
        return run in self.runs or any(fnmatch.fnmatchcase(run, pattern) for pattern in self.patterns)

    def check(self, run: str, *, write: bool = True) -> None:
        """Raise DeniedError if this caller may not write, or read, this run."""
        if run in self.runs or (not write and self.may_read(run)):
            return
        if not self.patterns:
            raise DeniedError(f"the token is for run {', '.join(self.runs)}, not for {run!r:.200}")
        may = f"read runs {', '.join(self.patterns)}" + (f", and write {', '.join(self.runs)}" if self.runs else "")
        raise DeniedError(f"{self.subject!r:.200} may {may}; this call {'writes' if write else 'reads'} {run!r:.200}")


def readers_of(text: str, variable: str = f"{AuthSettings.prefix}_READERS") -> Mapping[str, tuple[str, ...]]:
    """Return {subject or group: patterns} of a setting `readers`, whose name is `variable`. Raises SettingsError."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, map(str.strip, text.split(";"))):
        subject, equals, patterns = entry.rpartition("=")
        chosen = tuple(filter(None, map(str.strip, patterns.split(","))))
        if not equals or not subject.strip() or not chosen:
            raise SettingsError(f"{variable}: {entry!r:.200}: must be SUBJECT=PATTERN,PATTERN, with ; between subjects")
        found[subject.strip()] = found.get(subject.strip(), ()) + chosen
    return found


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a service asks of its callers.

    run_of  returns the run that a call is about, given its first message
    reads   names of the methods that only read
    lists   names of the methods that are about no run; they return only what `Caller.may_read`
    caller  returns the caller, given a call's metadata; None if the service asks for no token
    """

    run_of: Callable[[Any], str]
    reads: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    caller: Callable[[Iterable[Any]], Caller] | None = None

    def watches(self, method: str) -> bool:
        """Return whether calls of a method are checked or recorded at all."""
        return self.caller is not None or method not in self.reads | self.lists

    def entry(self, method: str) -> Entry:
        return Entry(self, method)


class Entry:
    """One call: who makes it, and about which run."""

    def __init__(self, rules: Rules, method: str):
        self._rules, self._method = rules, method
        self.writes = method not in rules.reads | rules.lists
        self.caller: Caller | None = None
        self.run = ""

    def identify(self, metadata: Iterable[Any]) -> None:
        """Find out who calls. Raises TokenError, DeniedError."""
        if self._rules.caller is not None:
            self.caller = self._rules.caller(metadata)

    def check(self, message: Any) -> None:
        """Note the run that the first message is about. Raises DeniedError if the caller may not call."""
        if self._method in self._rules.lists:
            return
        self.run = self._rules.run_of(message)
        if self.caller is not None:
            self.caller.check(self.run, write=self.writes)

    def record(self, context: Any, code: str, error: BaseException | None) -> None:
        """Log a call that was denied, or that writes."""
        if isinstance(error, AccessError):
            log.warning("denied", method=self._method, reason=str(error), **self._who(context))
        elif self.writes and self.run:
            log.info("audit", method=self._method, code=code, **self._who(context))

    def _who(self, context: Any) -> dict[str, Any]:
        certificate = context.auth_context().get("x509_common_name") or [b""]
        found = {
            "run": self.run,
            "caller": self.caller.subject if self.caller else "",
            "certificate": certificate[0].decode(errors="replace"),
            "peer": context.peer(),
        }
        return {name: value[:200] for name, value in found.items() if value}
