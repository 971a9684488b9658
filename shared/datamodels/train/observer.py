"""Define the callbacks of the trainer's job."""

from __future__ import annotations

from collections.abc import Callable


class Observer:
    """Receives the events of the job. This base class ignores them; subclasses override the methods that they need."""

    def fetched(self, seconds: float) -> None:
        """Receive the seconds that training waited for subsets."""

    def drawn_here(self, reason: str) -> None:
        """Receive why the sampler gave no subsets, so that they are drawn here."""

    def trained(self, models: int, seconds: float) -> None:
        """Receive the size of a batch, and the seconds of its training and of computing its outputs."""

    def looked(self, seconds: float) -> None:
        """Receive the seconds in which the first model of the run was trained again."""

    def halved(self, tried: int, most: int) -> None:
        """Receive that memory ran out with `tried` models at once, and that batches now have at most `most`."""

    def raised(self, who: str, trace: str) -> None:
        """The user's class raised while it trained the models that `who` names; with the traceback."""

    def retried(self, reasons: dict[int, str]) -> None:
        """Receive the models that are trained again with their second seed, each with the reason."""

    def failed(self, reasons: dict[int, str]) -> None:
        """Receive the models that have no usable outputs with either seed, each with the reason."""

    def coarse(self, targets: int, dtype: str) -> None:
        """Receive how many targets vary too little, in a sub-chunk, for the type that stores their outputs."""

    def waited(self, seconds: float) -> None:
        """Receive the seconds that training waited for a commit."""

    def committed(self, models: range) -> None:
        """Receive the models of a sub-chunk that the aggregator has acknowledged."""


class Counter(Observer):
    """Counts the models that are trained outside of a job.

    tell   called with (models trained so far, models expected so far) whenever one of them changes
    first  number of models that were expected first; 0 if none were yet
    """

    def __init__(self, tell: Callable[[int, int], None] = lambda done, expected: None):
        self.done = self.expected = self.first = 0
        self._tell = tell

    def expect(self, models: int) -> None:
        """Receive the number of models that are trained next."""
        self.expected += models
        self.first = self.first or models
        self._tell(self.done, self.expected)

    def trained(self, models: int, seconds: float) -> None:
        self.done += models
        self._tell(self.done, self.expected)
