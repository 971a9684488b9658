"""Show the progress of a pipeline to a person: a bar for each stage on a terminal, and lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

from datamodels import screen

EVERY = 30.0
"""Seconds between two lines of a stage, if standard error is no terminal; a shorter stage writes none."""
LAYOUT = "{desc:<10}{percentage:3.0f}% |{bar:30}| {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}{postfix}]"


class Bar:
    """Progress of one stage. This base class shows nothing."""

    def reach(self, done: float, note: str = "", remaining: float | None = None) -> None:
        """Move the bar to `done` of its total. `remaining` overrides the bar's own estimate of the seconds left."""

    def expect(self, total: float, done: float) -> None:
        """Set the total, and how much of it was done before."""

    def move(self, done: float, total: float) -> None:
        """Move the bar to `done` of a total that may have grown."""


class View:
    """Shows nothing. The base class, also for --quiet and tests."""

    @contextlib.contextmanager
    def stage(self, name: str, unit: str) -> Iterator[Bar]:
        yield Bar()

    def doubt(self, text: str) -> None:
        """Receive what is likely wrong with the data set, before anything is computed."""

    def evaluated(self, models: int, lds: float, interval: tuple[float, float]) -> None:
        """Receive the LDS of a fit: after the last stage and, if the spec has a rule `until`, during training."""


class _TerminalBar(Bar):
    def __init__(self, bar: tqdm):
        self._bar = bar

    def expect(self, total: float, done: float) -> None:
        self._bar.initial = done
        self._bar.reset(total)
        self.reach(done)

    def move(self, done: float, total: float) -> None:
        self._bar.total = total
        self.reach(done)

    def reach(self, done: float, note: str = "", remaining: float | None = None) -> None:
        left = "{remaining}" if remaining is None else tqdm.format_interval(remaining)
        self._bar.bar_format = LAYOUT.replace("{remaining}", left)
        self._bar.set_postfix_str(screen.plain(note), refresh=False)
        self._bar.update(done - self._bar.n)


class _Said(View):
    """Says doubts on standard error."""

    def doubt(self, text: str) -> None:
        print(f"datamodels: {screen.plain(text)}", file=sys.stderr, flush=True)


class TerminalView(_Said):
    """Shows bars on standard error."""

    @contextlib.contextmanager
    def stage(self, name: str, unit: str) -> Iterator[Bar]:
        stream = getattr(sys.stderr, "unscreened", sys.stderr)  # bars move the cursor
        with tqdm(
            total=1, desc=name, unit=unit, file=stream, bar_format=LAYOUT, mininterval=0.2, dynamic_ncols=True
        ) as bar:
            yield _TerminalBar(bar)


class _LineBar(Bar):
    def __init__(self, name: str, unit: str, clock: Callable[[], float]):
        self._name, self._unit, self._clock = name, unit, clock
        self._told = clock()
        self._total, self._shown = 1.0, False

    def expect(self, total: float, done: float) -> None:
        self._total = total

    def move(self, done: float, total: float) -> None:
        self._total = total
        self.reach(done)

    def reach(self, done: float, note: str = "", remaining: float | None = None) -> None:
        if self._clock() < self._told + EVERY and not (self._shown and done == self._total):
            return
        self._told, self._shown = self._clock(), done != self._total
        left = "" if remaining is None else f", {tqdm.format_interval(remaining)} left"
        part = f"{done:.0%}" if self._total == 1 else f"{done:,.12g} of {self._total:,.12g} {self._unit}"
        print(
            f"datamodels: {self._name}: {part}{left}{f', {screen.plain(note)}' if note else ''}",
            file=sys.stderr,
            flush=True,
        )


class LinesView(_Said):
    """Writes a line for each EVERY seconds to standard error, for logs and pipes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock

    @contextlib.contextmanager
    def stage(self, name: str, unit: str) -> Iterator[Bar]:
        yield _LineBar(name, unit, self._clock)


def view(*, quiet: bool = False) -> View:
    """Return the view of a command: bars on a terminal, lines elsewhere, and nothing if it should be quiet."""
    return View() if quiet else TerminalView() if sys.stderr.isatty() else LinesView()
