"""Who is told what the trainer's job does."""

from __future__ import annotations


class Observer:
    """This one does nothing with it."""

    def fetched(self, seconds: float) -> None:
        """Training stood still for subsets."""

    def trained(self, models: int, seconds: float) -> None:
        """A batch of models was trained and their outputs made."""

    def halved(self, tried: int, most: int) -> None:
        """Memory ran out with `tried` models at once; from now on at most `most` are."""

    def retried(self, reasons: dict[int, str]) -> None:
        """Models that were trained again with another seed, and why."""

    def failed(self, reasons: dict[int, str]) -> None:
        """Models that gave no usable outputs with either seed, and why."""

    def waited(self, seconds: float) -> None:
        """Training stood still for a commit."""

    def committed(self, models: range) -> None:
        """The aggregator has acknowledged a sub-chunk."""
