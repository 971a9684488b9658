"""Multiply by the covariance matrices of the masks of a span of rows, one matrix for each target.

Arrays with an entry for each column or row are of the array module of the rows.
"""

from __future__ import annotations

import dataclasses
from typing import Self

import numpy as np

from datamodels.fit.data import moments
from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.means import PASS_ROWS, Means
from datamodels.fit.data.moments import Masks
from datamodels.fit.data.rows import Rows


@dataclasses.dataclass(frozen=True, eq=False)
class Covariance:
    """The covariances G_j of the masks of a targets, over the rows of a span that count for target j.

    keep   bool[m, a], of all rows; which of them count; None if all do, so that all G_j are the same
    found  means over the span
    masks  moments of the span's masks, if they are known and all rows count; None to read the rows for each product
    """

    rows: Rows
    span: slice
    keep: np.ndarray | None
    found: Means
    masks: Masks | None

    @classmethod
    def of(cls, rows: Rows, span: slice, keep: np.ndarray | None, found: Means, *, gram: bool) -> Self:
        """Return the covariances over `rows.fit` or `rows.whole`; by the Gram if `gram` is set and all rows count."""
        masks = None
        if gram and keep is None:
            spans = moments.of_masks(rows)
            masks = spans.fit if span == rows.fit else spans.whole
        return cls(rows, span, keep, found, masks)

    def multiply(self, vectors: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return G_j v_j of vectors [p, d] of the targets at these places int64[p], in the type of the vectors."""
        dtype = vectors.dtype
        if self.masks is not None:
            exact = dtype == np.float64
            return self.masks.exactly(vectors) if exact else vectors @ self.masks.gram
        products = self.rows.xp.zeros(vectors.shape, dtype)
        for piece in row_blocks.partition(self.span, PASS_ROWS):
            x = self.rows.block(piece)[:, :-1].astype(dtype, copy=False)
            fitted = x @ vectors.T
            if self.keep is not None:
                fitted *= self.keep[piece][:, self.rows.xp.asarray(places)]
            products += fitted.T @ x
        mean = self.of_targets(self.found.mean_masks, places)
        along = np.einsum("ij,ij->i", vectors, np.broadcast_to(mean, vectors.shape))
        products /= self.found.count[self.rows.xp.asarray(places), None].astype(dtype)
        return products - (along[:, None] * mean).astype(dtype)

    def of_targets(self, masks: np.ndarray, places: np.ndarray | slice) -> np.ndarray:
        """Return what is known of the masks: [p, d] of some targets, or [1, d] if it is the same for all."""
        if self.keep is None:
            return masks
        return masks[places if isinstance(places, slice) else self.rows.xp.asarray(places)]
