"""All that a LASSO needs to know of its rows: the Gram of the masks, their products with the outputs, a few sums.

Moments of spans of rows add up, so that those of the rows to fit and of the held-out ones give those of all rows.
"""

from __future__ import annotations

import dataclasses
from types import ModuleType

import numpy as np

from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.rows import Rows
from datamodels.fit.data.sums import Span
from datamodels.fit.kernels import popcount

PASS_ROWS = 2048
"""Rows that are turned to float64 at a time."""
PANEL = 512
"""Columns of the counts that are turned to float64 at a time."""
LANCZOS_STEPS = 30


@dataclasses.dataclass(frozen=True, eq=False)
class Masks:
    """The second moments of the masks of m rows. Arrays are of the array module.

    rows       m
    mean       float64[d]; share of the rows that each column is in
    counts     int32[d, d]; how many rows have columns i and j: X'X itself
    gram       [d, d]; X'X / m of the centred masks, rounded. All ones are its null vector where masks are of one size
    curvature  [d]; its diagonal
    edge       its largest eigenvalue
    """

    rows: int
    mean: np.ndarray
    counts: np.ndarray
    gram: np.ndarray
    curvature: np.ndarray
    edge: float

    def exactly(self, theta: np.ndarray) -> np.ndarray:
        """float64[a, d]: weights float64[a, d] times the centred Gram, from the counts, which nothing has rounded."""
        found = (theta @ self.mean)[:, None] * -self.mean
        for i in range(0, len(self.counts), PANEL):
            panel = self.counts[:, i : i + PANEL].astype(np.float64)
            panel /= self.rows
            found[:, i : i + PANEL] += theta @ panel
        return found


def of_counts(counts: np.ndarray, rows: int, dtype: np.dtype, xp: ModuleType = np) -> Masks:
    """From int32[d, d] of the array module, how many of the rows have columns i and j."""
    mean = xp.diag(counts) / rows
    gram = xp.empty(counts.shape, dtype=dtype)
    for i in range(0, len(counts), PANEL):
        gram[i : i + PANEL] = counts[i : i + PANEL] / rows - mean[i : i + PANEL, None] * mean
    return Masks(rows, mean, counts, gram, xp.diag(gram), _edge(gram, xp))


def _edge(gram: np.ndarray, xp: ModuleType) -> float:
    """Returns the largest eigenvalue, by Lanczos' method with vectors that are kept orthogonal (Parlett 1998, 13).

    It is at most one per cent too small, and exact for up to LANCZOS_STEPS columns. Power iteration is not enough: in
    as many steps it comes out up to a fifth too small for small Grams, and steps of that length diverge.
    """
    steps, dtype = min(LANCZOS_STEPS, len(gram)), gram.dtype
    basis = xp.zeros((steps, len(gram)), dtype=dtype)
    ahead = xp.asarray(np.random.default_rng(0).normal(size=len(gram)).astype(dtype))
    for k in range(steps):
        basis[k] = ahead / xp.linalg.norm(ahead)
        ahead = gram @ basis[k]
        least = 10 * np.finfo(dtype).eps * float(xp.linalg.norm(ahead))
        for _ in range(2):  # the second time takes away what the first has rounded
            ahead = ahead - (basis @ ahead) @ basis
        if float(xp.linalg.norm(ahead)) <= least:
            break
    return float(xp.linalg.norm(basis @ gram @ basis.T, 2))


@dataclasses.dataclass(frozen=True, eq=False)
class Spans:
    """The masks of the rows to fit and of all rows; of the held-out rows where that is cheaper than the rows."""

    fit: Masks
    whole: Masks
    heldout: Masks | None


def of_masks(rows: Rows) -> Spans:
    """The moments of a problem's masks, made once for all its blocks of targets."""
    return rows.once("moments", lambda: _of_masks(rows))


def _of_masks(rows: Rows) -> Spans:
    fit, heldout = (_counts(rows, span) for span in (rows.fit, rows.heldout))
    spare = rows.heldout.stop - rows.heldout.start
    return Spans(
        fit=of_counts(fit, rows.fit.stop, rows.dtype, rows.xp),
        whole=of_counts(fit + heldout, rows.problem.rows, rows.dtype, rows.xp),
        heldout=of_counts(heldout, spare, rows.dtype, rows.xp) if spare > rows.problem.columns else None,
    )


def _counts(rows: Rows, span: slice) -> np.ndarray:
    """int32[d, d] of the array module: how many rows of the span have columns i and j."""
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
    """Sums over rows of standardised outputs z of a targets; of two spans they add up. Arrays are of the array module.

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

    def take(self, places: np.ndarray) -> Outputs:
        """Those of some targets, int64[p] of the array module."""
        return Outputs(self.rows, self.products[places], self.total[places], self.square[places])

    def on(self, xp: ModuleType) -> Outputs:
        """The same, of another array module."""
        return Outputs(self.rows, xp.asarray(self.products), xp.asarray(self.total), xp.asarray(self.square))

    def centred(self, masks: Masks, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(covariances of the masks and outputs float64[a, d], variances of the outputs float64[a])."""
        mean = self.total / self.rows
        products = self.products / self.rows - mean[:, None] * (masks.mean - center)
        products *= masks.curvature > 0  # a column that never varies tells nothing but rounding
        return products, (self.square / self.rows - mean**2).clip(0)


def of_outputs(rows: Rows, span: slice, outputs: np.ndarray, location: np.ndarray, spread: np.ndarray) -> Outputs:
    """Of z = (outputs - location) / spread, in float64 throughout, in one pass over the rows.

    outputs           [rows of span, a]
    location, spread  float64[a]
    """
    xp = rows.xp
    products = xp.zeros((outputs.shape[1], rows.problem.columns))
    total, square = xp.zeros((2, outputs.shape[1]))
    for piece in row_blocks.partition(span, PASS_ROWS):
        z = (outputs[piece.start - span.start : piece.stop - span.start] - location) / spread
        products += z.T @ rows.block(piece)[:, :-1].astype(np.float64)
        total += z.sum(axis=0)
        square += xp.einsum("ij,ij->j", z, z)
    return Outputs(span.stop - span.start, products, total, square)


def of_sums(
    span: Span, targets: np.ndarray, shift: np.ndarray, location: np.ndarray, spread: np.ndarray, center: np.ndarray
) -> Outputs:
    """As `of_outputs`, from sums over the rows.

    targets                  int64[a]; which of the targets of `span`
    shift, location, spread  float64[a]
    center                   float64[d]
    """
    move, total = shift - location, span.total[targets]  # z = (u + move) / spread
    centred = total + span.rows * move
    products = span.products[targets] + np.outer(move, np.diag(span.counts)) - np.outer(centred, center)
    square = span.square[targets] + 2 * move * total + span.rows * move**2
    return Outputs(span.rows, products / spread[:, None], centred / spread, np.maximum(square, 0) / spread**2)
