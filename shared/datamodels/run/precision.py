"""Define the type that outputs are stored in, and check what it cannot hold.

float32 has 24 binary digits: outputs keep a thousandth of their spread as long as their mean is at most 10,000 times as
large as that. Runs that version 0.2.0 or an earlier one created store float16, which has 11 digits, and
go on to do so.
"""

from __future__ import annotations

import numpy as np

DTYPES = ("float16", "float32")
"""Types that runs store outputs in."""

DTYPE = "float32"
"""The type of new runs."""

FIRST = "float16"
"""The type of runs whose record names none."""

GIVEN = (*DTYPES, "float64")
"""Types that outputs may have before they are stored."""

COARSE = 0.1
"""Largest step between two stored numbers, as a fraction of the outputs' standard deviation. With this step, rounding
adds a thousandth to their variance."""

LOST = 0.5
"""If stored outputs correlate by less than this with the given ones, on average over targets, they say nothing."""

ALIKE = "if outputs are large numbers that differ little, subtract what they have in common, in float64"
"""What to do about equal outputs that may have been rounded by whoever gives them."""

RESCALE = "rescale the outputs: subtract what they have in common, in float64, or multiply them"


def stored(outputs: np.ndarray, dtype: str) -> np.ndarray:
    """Return outputs in the type that they are stored in; those beyond its range become infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(outputs).astype(dtype, copy=False)


def finite(outputs: np.ndarray) -> bool:
    """Return whether all outputs are finite. Their sum tells, unless it overflows: it is finite only if they are.

    A sum takes a quarter of the time of a test of each output.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(outputs.sum()) or np.isfinite(outputs).all())


def fault(outputs: np.ndarray, dtype: str) -> str:
    """Say why some of these outputs cannot be stored, and how many; empty if all can."""
    bad = ~np.isfinite(stored(outputs, dtype))
    if not bad.any():
        return ""
    infinite = int(np.count_nonzero(~np.isfinite(outputs)))
    if infinite:
        return f"{infinite} of {outputs.size} outputs are not finite"
    return (
        f"{np.count_nonzero(bad)} of {outputs.size} outputs are beyond {dtype}, which holds up to "
        f"{float(np.finfo(dtype).max):.4g}, the largest is {np.abs(outputs).max():.4g}; rescale the outputs"
    )


PIECE = 2**16
"""Values that a Spread takes at a time, to need little memory."""


class Spread:
    """Collects how much the outputs of each target vary over models, and how much of that storage leaves.

    n      targets
    dtype  type that outputs are stored in

    Keeps no outputs.
    """

    def __init__(self, n: int, dtype: str):
        self.models = 0
        self._dtype = dtype
        self._first, self._kept = np.zeros(n), np.zeros(n)
        self._given, self._stored = _Moments(n), _Moments(n)
        self._both, self._largest = np.zeros(n), np.zeros(n)
        self._varies, self._moves = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        self.whole = True
        """Whether all outputs are whole numbers, as counts and ranks are."""

    def add(self, outputs: np.ndarray) -> Spread:
        """Take outputs of more models, float[r, n]; models with an output that cannot be stored are ignored."""
        step = max(1, PIECE // max(1, len(self._first)))
        for first in range(0, len(outputs), step):
            self._add(np.asarray(outputs[first : first + step]))
        return self

    def _add(self, outputs: np.ndarray) -> None:
        kept = stored(outputs, self._dtype)
        good = np.isfinite(kept).all(axis=1)
        rows, kept = (values[good].astype(np.float64) for values in (outputs, kept))
        if not len(rows):
            return
        if not self.models:
            self._first, self._kept = rows[0].copy(), kept[0].copy()
        self.models += len(rows)
        self.whole = self.whole and bool((rows == np.rint(rows)).all())
        self._largest = np.maximum(self._largest, np.abs(rows).max(axis=0))
        rows -= self._first  # sums of squares of numbers far from 0 would round, too
        kept -= self._kept
        self._varies |= rows.any(axis=0)
        self._moves |= kept.any(axis=0)
        self._given.add(rows)
        self._stored.add(kept)
        self._both += (rows * kept).sum(axis=0)

    @property
    def constant(self) -> np.ndarray:
        """bool[n]: whether the outputs are the same for all models."""
        return ~self._varies

    @property
    def deviation(self) -> float:
        """Standard deviation of outputs over models: the root mean square of those of the targets."""
        return float(np.sqrt(self._given.variance(self.models).mean())) if len(self._first) else 0.0

    @property
    def coarse(self) -> np.ndarray:
        """bool[n]: whether the outputs vary, but by fewer steps of the stored type than COARSE asks for.

        That is so if their mean is large against their spread, or if they are so small that they are stored as zero.
        """
        step = np.spacing(stored(self._largest, self._dtype))
        return self._varies & (~self._moves | (step > COARSE * np.sqrt(self._given.variance(self.models))))

    @property
    def kept(self) -> np.ndarray:
        """float64[n]: correlation of the outputs with what is stored of them; NaN if they do not vary."""
        given, stored = (moments.variance(self.models) for moments in (self._given, self._stored))
        both = self._both / max(1, self.models) - self._given.mean(self.models) * self._stored.mean(self.models)
        scale = np.sqrt(given) * np.sqrt(stored)
        found = np.divide(both, scale, out=np.zeros(len(both)), where=self._moves & (scale > 0))
        return np.where(self._varies, found, np.nan)

    @property
    def lost(self) -> bool:
        """Whether storage leaves nearly nothing of what varies."""
        return bool(self._varies.any()) and float(np.nanmean(self.kept)) < LOST

    @property
    def how_lost(self) -> str:
        """Say that storage leaves nearly nothing of what varies, and what to do."""
        varies = f"what varies in the outputs of {np.count_nonzero(self.coarse):,} of {len(self._varies):,} targets"
        return f"{self._dtype} rounds away {varies}; {RESCALE}"


class _Moments:
    def __init__(self, n: int):
        self._sum, self._square = np.zeros(n), np.zeros(n)

    def add(self, rows: np.ndarray) -> None:
        self._sum += rows.sum(axis=0)
        self._square += np.square(rows).sum(axis=0)

    def mean(self, count: int) -> np.ndarray:
        return self._sum / max(1, count)

    def variance(self, count: int) -> np.ndarray:
        return np.maximum(self._square / max(1, count) - np.square(self.mean(count)), 0)


def spread(outputs: np.ndarray, dtype: str) -> Spread:
    """Return the spread of outputs, float[r, n]."""
    return Spread(outputs.shape[1], dtype).add(outputs)


def rounded(coarse: int, n: int, dtype: str) -> str:
    """Say that so many of n targets are stored too coarsely, and what to do."""
    return f"{dtype} rounds the outputs of {coarse:,} of {n:,} targets by a tenth of their spread or more; {RESCALE}"


def same(n: int, of: str = "") -> str:
    """Say that the outputs of all n targets are the same for each model, or only for models `of` some subsets."""
    return (
        f"the outputs of all {n:,} targets are the same for each model{of}, so no example has an effect; each model "
        f"must be trained on its own subset, and {ALIKE}"
    )
