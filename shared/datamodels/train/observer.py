"""Callbacks of the trainer's job."""

from __future__ import annotations


class Observer:
    """Is told what the job does. This one ignores it; subclasses override what they need."""

    def fetched(self, seconds: float) -> None:
        """Training waited for subsets."""

    def trained(self, models: int, seconds: float) -> None:
        """A batch of models was trained, and its outputs were computed."""

    def halved(self, tried: int, most: int) -> None:
        """Memory ran out with `tried` models at once; from now on there are at most `most`."""

    def retried(self, reasons: dict[int, str]) -> None:
        """Models are trained again with their second seed, each for the reason given."""

    def failed(self, reasons: dict[int, str]) -> None:
        """Models have no usable outputs with either seed, each for the reason given."""

    def waited(self, seconds: float) -> None:
        """Training waited for a commit."""

    def committed(self, models: range) -> None:
        """The aggregator has acknowledged a sub-chunk."""
