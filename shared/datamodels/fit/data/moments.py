"""Compute what a LASSO needs of its rows: the Gram of the masks, their products with the outputs, and a few sums.

Moments of spans of rows add up: those of the rows to fit and of the held-out rows give those of all rows.
"""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import numpy as np

from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.rows import Rows
from datamodels.fit.data.sums import LOOKUP_FROM, Span
from datamodels.fit.kernels import popcount

PASS_ROWS = 2048
"""Rows that are converted to float64 at a time."""
PANEL = 512
"""Columns of the counts that are converted to float64 at a time."""
LANCZOS_STEPS = 30
SINGLE = 4
"""Bytes of a float32."""
ROOT_ROWS = 0.5
"""Held-out rows over columns up to which the root of their Gram is computed. It takes a second for 5,000 columns."""
ROOT_ROUNDING = 1e-10
"""Largest variance of a column that is left when its computation ends."""
NEAR_BITS = 8
"""Digits of the numbers that are subtracted from outputs before they are rounded to whole numbers."""
PANEL_ROWS = 32_768
"""Rows that are added to a Gram in panels at a time."""


@dataclasses.dataclass(frozen=True, eq=False)
class Masks:
    """The second moments of the masks of m rows. Arrays are of the array module.

    rows       m
    mean       float64[d]; fraction of the rows that each column is in
    counts     int32[d, d]; how many rows have columns i and j: X'X itself; None if `gram` keeps them
    gram       [d, d]; X'X / m of the centred masks, rounded, or `kernels.panels.Panels`. If all masks have one size,
               its null vector is all ones
    curvature  [d]; diagonal of gram
    edge       largest eigenvalue of gram; NaN if nobody needs it
    root       [d, r], if it takes the place of the gram, which is None: root root' = gram
    """

    rows: int
    mean: np.ndarray
    counts: np.ndarray | None
    gram: Any
    curvature: np.ndarray
    edge: float
    root: np.ndarray | None = None

    def exactly(self, theta: np.ndarray) -> np.ndarray:
        """Return weights float64[a, d] times the centred Gram, from the counts, which are exact."""
        if self.counts is None:
            return self.gram.exactly(theta)
        found = (theta @ self.mean)[:, None] * -self.mean
        for i in range(0, len(self.counts), PANEL):
            panel = self.counts[:, i : i + PANEL].astype(np.float64)
            panel /= self.rows
            found[:, i : i + PANEL] += theta @ panel
        return found

    def squares(self, theta: np.ndarray) -> np.ndarray:
        """Return theta' gram theta of weights [a, d], float64[a] of the array module."""
        if self.root is not None:
            along = theta @ self.root
            return np.einsum("ij,ij->i", along, along, dtype=np.float64)
        return np.einsum("ij,ij->i", theta, theta @ self.gram, dtype=np.float64).clip(0)


def of_counts(counts: np.ndarray, rows: int, dtype: np.dtype, xp: ModuleType = np) -> Masks:
    """Return the moments of masks from counts int32[d, d] of the array module; zeros if there are no rows."""
    mean = xp.diag(counts) / max(rows, 1)
    gram = xp.empty(counts.shape, dtype=dtype)
    for i in range(0, len(counts), PANEL):
        gram[i : i + PANEL] = counts[i : i + PANEL] / max(rows, 1) - mean[i : i + PANEL, None] * mean
    return Masks(rows, mean, counts, gram, xp.diag(gram), edge_of(gram, xp))


def of_heldout(counts: np.ndarray, rows: int, dtype: np.dtype, xp: ModuleType = np) -> Masks:
    """Return the moments of held-out masks, as `of_counts` does, to compute their `squares`.

    The Gram of few rows has a small rank, and so a narrow root, by which squares cost no more than by the rows.
    """
    if xp is not np or not 0 < rows <= ROOT_ROWS * len(counts):
        return dataclasses.replace(of_counts(counts, rows, dtype, xp), edge=np.nan)
    from scipy.linalg import lapack

    mean, gram = np.diag(counts) / rows, np.empty(counts.shape)
    for i in range(0, len(counts), PANEL):
        gram[i : i + PANEL] = counts[i : i + PANEL] / rows - mean[i : i + PANEL, None] * mean
    curvature = np.diag(gram).astype(dtype)
    # Cholesky's factor of the Gram with columns in another order, until what is left is rounding (Higham 2002, 10.3).
    factor, order, rank, _ = lapack.dpstrf(gram.T, tol=ROOT_ROUNDING, lower=1, overwrite_a=1)
    root = np.zeros((len(counts), rank), dtype=dtype)
    root[order - 1] = np.tril(factor[:, :rank])
    return Masks(rows, mean, counts, None, curvature, np.nan, root)


def edge_of(gram: Any, xp: ModuleType = np) -> float:
    """Return the largest eigenvalue, by Lanczos' method with vectors that are kept orthogonal (Parlett 1998, 13).

    It is at most one per cent too small, and exact for up to LANCZOS_STEPS columns. Power iteration is not enough: with
    as many steps it is up to a fifth too small for small Grams, and gradient steps of that length diverge.
    """
    steps, dtype = min(LANCZOS_STEPS, len(gram)), gram.dtype
    basis = xp.zeros((steps, len(gram)), dtype=dtype)
    ahead = xp.asarray(np.random.default_rng(0).normal(size=len(gram)).astype(dtype))
    for k in range(steps):
        basis[k] = ahead / xp.linalg.norm(ahead)
        ahead = gram @ basis[k]
        least = 10 * np.finfo(dtype).eps * float(xp.linalg.norm(ahead))
        for _ in range(2):  # the second pass removes the rounding of the first
            ahead = ahead - (basis @ ahead) @ basis
        if float(xp.linalg.norm(ahead)) <= least:
            break
    small = (basis @ gram @ basis.T).tolist()  # NumPy's norm does: CuPy's would load cuSOLVER for it
    return float(np.linalg.norm(np.array(small, dtype=dtype), 2))


@dataclasses.dataclass(frozen=True, eq=False)
class Spans:
    """The masks of the rows to fit and of all rows; of the held-out rows, if these are not read.

    They are not read if sums over the rows are known, or if their Gram is smaller.
    """

    fit: Masks
    whole: Masks
    heldout: Masks | None


def of_masks(rows: Rows) -> Spans:
    """Return the moments of a problem's masks, computed once for all its blocks of targets."""
    return rows.once("moments", lambda: _of_masks(rows))


def _of_masks(rows: Rows) -> Spans:
    fit, heldout = (_counts(rows, span) for span in (rows.fit, rows.heldout))
    spare = rows.heldout.stop - rows.heldout.start
    unread = rows.sums is not None or spare > rows.problem.columns
    return Spans(
        fit=of_counts(fit, rows.fit.stop, rows.dtype, rows.xp),
        whole=of_counts(fit + heldout, rows.problem.rows, rows.dtype, rows.xp),
        heldout=of_heldout(heldout, spare, rows.dtype, rows.xp) if unread else None,
    )


def in_panels(rows: Rows) -> Spans | None:
    """Return the moments of masks as `Panels`, exact in 4 d^2 bytes, in files if the rows have a folder.

    They are computed once for all blocks of targets. None if some two columns share so many more or fewer rows than
    others that the difference does not fit in 16 bits, such as columns that are in all masks.
    """
    return rows.once("panels", lambda: _in_panels(rows))


def _in_panels(rows: Rows) -> Spans | None:
    from datamodels.fit.kernels import panels

    d, center = rows.problem.columns, rows.problem.center.astype(np.float64)
    count, varies = -(-d // panels.WIDTH), (center > 0) & (center < 1)
    share = float(center[varies].mean()) ** 2 if varies.any() else 0.0
    fit, whole = (rows.zeros((count * d, panels.WIDTH), np.int16).reshape(count, d, panels.WIDTH) for _ in range(2))

    def add(values: np.ndarray, span: slice) -> tuple[np.ndarray, int] | None:
        blocks = (rows.problem.masks[rows.order[piece]] for piece in row_blocks.partition(span, PANEL_ROWS))
        return panels.add_counts(values, varies, blocks, share, rows.threads)

    def masks(values: np.ndarray, ones: np.ndarray, usual: int, count: int, edge: float | None) -> Masks:
        gram = panels.Panels(values, ones, usual, count, rows.dtype)
        return Masks(count, ones / count, None, gram, gram.curvature, edge_of(gram, np) if edge is None else edge)

    of_fit = add(fit, rows.fit)
    if of_fit is None:
        return None
    for panel in range(count):
        whole[panel] = fit[panel]
    of_heldout = add(whole, rows.heldout)
    if of_heldout is None:
        return None
    over_fit = masks(fit, *of_fit, rows.fit.stop, None)
    ones, usual = of_fit[0] + of_heldout[0], of_fit[1] + of_heldout[1]
    # With more rows the largest eigenvalue is smaller. So steps that are short enough for the rows to fit are for all.
    return Spans(over_fit, masks(whole, ones, usual, rows.problem.rows, over_fit.edge), None)


def _counts(rows: Rows, span: slice) -> np.ndarray:
    """Return int32[d, d] of the array module: how many rows of the span have columns i and j."""
    d = rows.problem.columns
    if rows.sums is not None:
        return rows.xp.asarray((rows.sums.fit if span == rows.fit else rows.sums.heldout).counts)
    if rows.xp is np:
        return popcount.gram(rows.problem.masks[rows.order[span]], d, threads=rows.threads)
    return popcount.gram_by_products(
        (rows.bits(part) for part in row_blocks.partition(span, popcount.EXACT)), d, rows.xp
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """Sums over rows of the standardised outputs z of a targets, as arrays of the array module.

    The sums of two spans add up.

    rows      m
    products  float64[a, d]; sum of z (x - center)
    total     float64[a]; sum of z
    square    float64[a]; sum of z^2
    """

    rows: int
    products: np.ndarray
    total: np.ndarray
    square: np.ndarray

    def __add__(self, other: Outputs) -> Outputs:
        return Outputs(*(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)))

    def __sub__(self, other: Outputs) -> Outputs:
        """Return the sums over the rows of this span that are not in the other one."""
        return Outputs(*(getattr(self, f.name) - getattr(other, f.name) for f in dataclasses.fields(self)))

    def take(self, places: np.ndarray) -> Outputs:
        """Return the sums of some targets, int64[p] of the array module."""
        return Outputs(self.rows, self.products[places], self.total[places], self.square[places])

    def on(self, xp: ModuleType) -> Outputs:
        """Return the same as arrays of another array module."""
        return Outputs(self.rows, xp.asarray(self.products), xp.asarray(self.total), xp.asarray(self.square))

    def centred(self, masks: Masks, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (covariances of masks and outputs float64[a, d], variances of the outputs float64[a])."""
        mean = self.total / self.rows
        products = self.products / self.rows - mean[:, None] * (masks.mean - center)
        products *= masks.curvature > 0  # for a column that never varies, they are only rounding
        return products, (self.square / self.rows - mean**2).clip(0)


def of_outputs(rows: Rows, span: slice, outputs: np.ndarray, location: np.ndarray, spread: np.ndarray) -> Outputs:
    """Return the sums of z = (outputs - location) / spread, added in float64.

    outputs           [rows of span, a]
    location, spread  float64[a]
    """
    xp = rows.xp
    products = xp.zeros((outputs.shape[1], rows.problem.columns))
    total, square = xp.zeros((2, outputs.shape[1]))
    tables = xp is np and rows.problem.columns >= LOOKUP_FROM
    for piece in row_blocks.partition(span, PASS_ROWS):
        z = (outputs[piece.start - span.start : piece.stop - span.start] - location) / spread
        if not tables:
            products += z.T @ rows.exact(piece)
        total += z.sum(axis=0)
        square += rows.dots(z, z)
    if tables:
        products = _by_tables(rows, span, outputs, location, spread)
        products -= total[:, None] * rows.problem.center
    return Outputs(span.stop - span.start, products, total, square)


def _by_tables(rows: Rows, span: slice, outputs: np.ndarray, location: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return float64[a, d]: the sums of z x, from those of the outputs less a number near their location.

    For fits in float32, outputs are rounded to multiples of a two-millionth of the largest, about as they are rounded
    when they are stored, and gaps are those of the rounded outputs. It changes a gradient by a millionth of the largest
    output at most, and usually, as roundings add up like random numbers, by a sqrt(m)-th of that.
    """
    from datamodels.fit.kernels import lookup

    exact, near = rows.dtype.itemsize > SINGLE, _near(location)

    def sums(numbers: np.ndarray, less: np.ndarray) -> np.ndarray:
        found = np.zeros((numbers.shape[1], rows.problem.columns))
        for piece in row_blocks.partition(span, row_blocks.MEASURED_ROWS):
            some = numbers[piece.start - span.start : piece.stop - span.start].astype(np.float64) - less
            masks = rows.problem.masks[rows.order[piece]]
            found += lookup.products(masks, rows.problem.columns, some, exact=exact)
        return found

    count = span.stop - span.start
    ones = rows.once(f"ones {span}", lambda: sums(np.ones((count, 1), dtype=np.float32), np.zeros(1)))
    products = sums(outputs, near)
    products -= (location - near)[:, None] * ones
    products /= spread[:, None]
    return products


def _near(numbers: np.ndarray) -> np.ndarray:
    """Return numbers with few digits near those in float64[a], so that outputs less them need few more than before."""
    digits, exponent = np.frexp(numbers)
    return np.ldexp(np.rint(digits * 2**NEAR_BITS), exponent - NEAR_BITS)


def of_sums(
    span: Span, targets: np.ndarray, shift: np.ndarray, location: np.ndarray, spread: np.ndarray, center: np.ndarray
) -> Outputs:
    """Return what `of_outputs` returns, from sums over the rows.

    targets                  int64[a]; which of the targets of `span`
    shift, location, spread  float64[a]
    center                   float64[d]
    """
    move, total = shift - location, span.total[targets]  # z = (u + move) / spread
    centred = total + span.rows * move
    products = span.products[targets] + np.outer(move, np.diag(span.counts)) - np.outer(centred, center)
    square = span.square[targets] + 2 * move * total + span.rows * move**2
    return Outputs(span.rows, products / spread[:, None], centred / spread, np.maximum(square, 0) / spread**2)
