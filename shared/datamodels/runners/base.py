"""Define the interface by which the pipeline runs stages: on this machine, or on a cluster."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from datamodels.run.runs import Run
from datamodels.settings import ClientSettings

SERVICES = ("sampler", "aggregator", "fitter", "query")
"""The services that are up for the whole pipeline. Trainers are not among them."""


class Runner(abc.ABC):
    """Runs stages.

    trains_here  whether the pipeline may train a few models itself, in this process
    """

    trains_here = False

    @abc.abstractmethod
    def services(self, names: Sequence[str] = SERVICES) -> AbstractContextManager[ClientSettings]:
        """Make services available, and yield settings with their addresses. On exit, stop those that it started.

        Raises StageError if a service does not start, or if the body fails because a service died.
        """

    @abc.abstractmethod
    def train(self, run: Run, chunks: Sequence[int], services: ClientSettings, tick: Callable[[], bool]) -> None:
        """Train chunks of a run, in the given order, and return when all of them have ended.

        Calls `tick` about twice a second. If it returns True, stops all trainers, which first commit all complete
        parts.

        Raises StageError if a trainer could not finish. What is committed is kept.
        """

    @contextlib.contextmanager
    def fitter(self, run: Run, services: ClientSettings) -> Iterator[ClientSettings]:
        """Yield settings with the address of a fitter for this run: by default the one of `services`."""
        yield services
