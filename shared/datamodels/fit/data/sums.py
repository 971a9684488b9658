"""Compute and keep sums over models, from which the solver `gram` and the estimators with cross-validation fit.

Sums add up, so a fit after 1,000 more models reads only these models. Errors on held-out models follow from sums, too.

Counts are whole numbers. All other sums are float64 of outputs less a shift, so they keep 16 digits of the outputs'
spread, however large the mean is. In which order, or in which pieces, models are added changes the last bits at most.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np

from datamodels.fit.data.checkpoint import Checkpoint
from datamodels.fit.kernels import popcount
from datamodels.run import designs
from datamodels.storage import records

PASS_ROWS = 2048
"""Rows that are converted to float64 at a time."""
COUNTED_ROWS = 32_768
"""Rows that are counted at a time. Each time, all counts are read and written once."""
LOOKUP_FROM = 2048
"""Columns from which products by tables (`kernels.lookup`) are faster than those of unpacked masks. On one core,
for 128 targets in float64: half as fast at d = 500, 2.3 times as fast at d = 5,000, 3.3 times at d = 50,000."""
MOST_BYTES = 4 * 2**30
"""Most memory of the sums of all targets. Above it, each block of targets computes its own from the rows."""
_VERSION = 2
"""Version of the file. A file of another version is ignored. The sums of version 1 came from rows without checksums."""


@dataclasses.dataclass(eq=False)
class Span:
    """Sums over some rows of u = output - shift and masks x in {0, 1}.

    rows      number of rows
    counts    int32[d, d]; X'X, how many of the rows have columns i and j
    products  float64[n, d]; sum of u x
    total     float64[n]; sum of u
    square    float64[n]; sum of u^2
    """

    rows: int
    counts: np.ndarray
    products: np.ndarray
    total: np.ndarray
    square: np.ndarray

    @classmethod
    def empty(cls, d: int, n: int) -> Self:
        return cls(0, np.zeros((d, d), dtype=np.int32), np.zeros((n, d)), *np.zeros((2, n)))

    def _of_both(self, other: Span, sign: int) -> Span:
        found = {f.name: getattr(self, f.name) + sign * getattr(other, f.name) for f in dataclasses.fields(self)}
        return Span(**found)

    def __add__(self, other: Span) -> Span:
        return self._of_both(other, 1)

    def __sub__(self, other: Span) -> Span:
        """Return the sums over the rows of this span that are not in the other one."""
        return self._of_both(other, -1)

    def merge(self, other: Span) -> None:
        """Add the sums over other rows."""
        self.rows += other.rows
        for name in _ARRAYS:
            getattr(self, name)[...] += getattr(other, name)

    def take(self, targets: np.ndarray) -> Span:
        """Return the sums of some targets, int64[t]."""
        return Span(self.rows, self.counts, self.products[targets], self.total[targets], self.square[targets])

    def count(self, masks: np.ndarray, threads: int) -> None:
        """Add rows to the counts: packed masks uint8[r, ceil(d / 8)]."""
        self.rows += len(masks)
        self.counts += popcount.gram(masks, len(self.counts), threads=threads)

    def add(self, masks: np.ndarray, u: np.ndarray, threads: int) -> None:
        """Add rows to all but the counts: packed masks uint8[r, ceil(d / 8)] and u float64[r, n]."""
        d = len(self.counts)
        if d >= LOOKUP_FROM:
            from datamodels.fit.kernels import lookup

            self.products += lookup.products(masks, d, u, threads=threads)
        else:
            self.products += u.T @ designs.unpack(masks, d).astype(np.float64)
        self.total += u.sum(axis=0)
        self.square += np.einsum("ij,ij->j", u, u)


@dataclasses.dataclass(eq=False)
class Sums:
    """Sums over the models of a run: those to fit and the held-out ones.

    folds      sums over the rows of the first folds of cross-validation, none of which are held out, if an estimator
               judges on them; they are part of `fit`, too
    shift      float64[n]; some output of each target, subtracted so that large means cost no digits
    low, high  float64[n]; the smallest and the largest finite output; inf and -inf before the first
    finite     bool[n]; whether all outputs are finite; those that are not count as the shift
    parts      (key, sha256) of the parts that were added
    """

    fit: Span
    heldout: Span
    shift: np.ndarray
    low: np.ndarray
    high: np.ndarray
    finite: np.ndarray
    parts: frozenset[tuple[str, str]] = frozenset()
    folds: tuple[Span, ...] = ()

    @classmethod
    def empty(cls, d: int, n: int, folds: int = 0) -> Self:
        return cls(
            fit=Span.empty(d, n),
            heldout=Span.empty(d, n),
            shift=np.zeros(n),
            low=np.full(n, np.inf),
            high=np.full(n, -np.inf),
            finite=np.ones(n, dtype=bool),
            folds=tuple(Span.empty(d, n) for _ in range(folds)),
        )

    @property
    def rows(self) -> int:
        return self.fit.rows + self.heldout.rows

    def add(
        self,
        masks: np.ndarray,
        outputs: np.ndarray,
        heldout: np.ndarray,
        *,
        fold: np.ndarray | None = None,
        threads: int = 1,
    ) -> None:
        """Add models: packed masks uint8[r, ceil(d / 8)], outputs float16 or float32 [r, n], heldout bool[r].

        fold  int64[r]; the fold of each; not needed for sums without folds
        """
        of_fit, of_heldout = np.flatnonzero(~heldout), np.flatnonzero(heldout)
        if not self.rows and len(heldout):  # the first row decides the shift
            first = outputs[np.concatenate([of_fit, of_heldout])[0]].astype(np.float64)
            self.shift = np.where(np.isfinite(first), first, 0)
        kinds: list[tuple[Span, Span | None, np.ndarray]] = [(self.heldout, None, of_heldout)]
        if fold is None or not self.folds:
            kinds.append((self.fit, None, of_fit))
        else:
            kinds += [(self.fit, span, of_fit[fold[of_fit] == number]) for number, span in enumerate(self.folds)]
            kinds.append((self.fit, None, of_fit[fold[of_fit] >= len(self.folds)]))
        for span, inner, chosen in kinds:
            for start in range(0, len(chosen), COUNTED_ROWS):
                part = chosen[start : start + COUNTED_ROWS]
                into = span if inner is None else Span.empty(len(span.counts), len(span.products))
                for i in range(0, len(part), PASS_ROWS):
                    piece = part[i : i + PASS_ROWS]
                    into.add(masks[piece], self._shifted(outputs[piece].astype(np.float64)), threads)
                into.count(masks[part], threads)
                if inner is not None:
                    span.merge(into)
                    inner.merge(into)

    def take(self, targets: np.ndarray) -> Sums:
        """Return the sums of some targets, int64[t]."""
        return dataclasses.replace(
            self,
            fit=self.fit.take(targets),
            heldout=self.heldout.take(targets),
            folds=tuple(span.take(targets) for span in self.folds),
            **{name: getattr(self, name)[targets] for name in _BOTH},
        )

    def without(self, fold: int) -> Sums:
        """Return the sums of all rows. Only the rows of this fold are held out."""
        held = self.folds[fold]
        return dataclasses.replace(self, fit=self.fit + self.heldout - held, heldout=held, folds=())

    def outside(self, fold: int) -> Sums:
        """Return the sums of the rows outside of a fold. Rows that are held out here stay so."""
        return dataclasses.replace(self, fit=self.fit - self.folds[fold], folds=())

    def _shifted(self, outputs: np.ndarray) -> np.ndarray:
        """Return outputs minus the shift, float64[r, n]; 0 if they are not finite."""
        finite = np.isfinite(outputs)
        self.finite &= finite.all(axis=0)
        self.low = np.minimum(self.low, np.where(finite, outputs, np.inf).min(axis=0))
        self.high = np.maximum(self.high, np.where(finite, outputs, -np.inf).max(axis=0))
        return np.where(finite, outputs - self.shift, 0)


def fits(d: int, n: int, folds: int = 0) -> bool:
    """Tell whether the sums of n targets over d columns take at most MOST_BYTES."""
    return (2 + folds) * (4 * d * d + 8 * n * d) <= MOST_BYTES


class Kept:
    """The file that keeps a run's sums between fits.

    It is ignored if it is damaged, or of another run, or if other models were held out, or other folds added up.
    """

    def __init__(self, folder: Path | None, run: str, holdout: float, folds: int = 0):
        self._folds = tuple(f"fold{number}" for number in range(folds))
        made_of = [_VERSION, run, holdout, *([folds] if folds else [])]
        self._file = Checkpoint(folder, "sums", records.digest(made_of))

    def load(self, parts: Iterable[tuple[str, str]]) -> Sums | None:
        """Return the sums as last saved, or None: also if one of their parts is not among `parts` (key, sha256)."""
        found = self._file.load()
        if found is None:
            return None
        arrays = found[1]
        try:
            added = frozenset(map(tuple, arrays["parts"].tolist()))
            fit, heldout, *folds = (
                Span(int(arrays[f"{name}_rows"]), *(arrays[f"{name}_{field}"] for field in _ARRAYS))
                for name in ("fit", "heldout", *self._folds)
            )
            sums = Sums(fit, heldout, **{name: arrays[name] for name in _BOTH}, parts=added, folds=tuple(folds))
        except KeyError:  # the directory of the file is damaged
            return None
        return sums if added <= set(parts) else None

    def save(self, sums: Sums) -> None:
        """Save sums. Raises StoreFullError if the disk is full."""
        arrays = {name: getattr(sums, name) for name in _BOTH}
        spans = {"fit": sums.fit, "heldout": sums.heldout, **dict(zip(self._folds, sums.folds, strict=True))}
        for name, span in spans.items():
            arrays[f"{name}_rows"] = np.array(span.rows)
            arrays |= {f"{name}_{field}": getattr(span, field) for field in _ARRAYS}
        self._file.save("sums", arrays | {"parts": np.array(sorted(sums.parts), dtype=np.str_).reshape(-1, 2)})


_ARRAYS = ("counts", "products", "total", "square")
_BOTH = ("shift", "low", "high", "finite")
