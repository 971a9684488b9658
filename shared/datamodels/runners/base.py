"""What the pipeline asks of the place that a run takes place in."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from datamodels.run.runs import Run
from datamodels.settings import ClientSettings

SERVICES = ("sampler", "aggregator", "fitter", "query")
"""The services that stay up while a run goes on. Trainers come and go."""


class Runner(abc.ABC):
    @abc.abstractmethod
    def services(self, names: Sequence[str] = SERVICES) -> AbstractContextManager[ClientSettings]:
        """Brings services up and says where they are; takes down again what it brought up.

        Raises StageError where one does not come up, and when the body fails because one of them died.
        """

    @abc.abstractmethod
    def train(self, run: Run, chunks: Sequence[int], services: ClientSettings, tick: Callable[[], bool]) -> None:
        """Trains chunks of a run until all ended, those first that come first where not all run at once.

        Calls `tick` about twice a second. Once it returns True, ends all trainers, which commit what is whole.

        Raises StageError where a trainer could not finish; what was committed stays.
        """

    @contextlib.contextmanager
    def fitter(self, run: Run, services: ClientSettings) -> Iterator[ClientSettings]:
        """Where a fitter for this run is, kept up until the end; one of its own, or the one that there is."""
        yield services
