"""Check masks and outputs that are imported, block by block, and cut the blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from datamodels.errors import InputError
from datamodels.exchange.sources import Source
from datamodels.run import precision


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Rows of what is imported, checked.

    masks    bool[b, d]
    outputs  [r, n]; of one model on each mask, or of several models on one mask
    source   number of the source of models to fit; None for an unseen subset
    """

    masks: np.ndarray
    outputs: np.ndarray
    source: int | None


def blocks_of(models: Sequence[Source], unseen: tuple[np.ndarray, np.ndarray] | None) -> Iterator[Block]:
    """Yield blocks of all arrays: of the models to fit, then a block for each unseen subset.

    unseen  (masks [s, d], outputs [s, r, n]) of r models on each of s unseen subsets; or None

    Raises InputError for what is no mask or output, with its place in its array.
    """
    columns, n = models[0].columns, models[0].targets
    for number, source in enumerate(models):
        first = 0
        for masks, outputs in source.blocks():
            members = require_masks(masks, source.in_masks, columns, first)
            _require_outputs(outputs, f"{source.in_outputs}: row {{}}, column {{}}", first)
            yield Block(members, outputs, number)
            first += len(masks)
    if unseen is not None:
        masks, outputs = unseen
        shape = (len(masks), outputs.shape[1] if outputs.ndim == 3 else 0, n)
        if masks.ndim != 2 or masks.shape[1] != columns or outputs.shape != shape or shape[0] < 3 or shape[1] < 2:
            raise InputError(
                f"unseen masks have shape {masks.shape} and outputs {outputs.shape}: must be (s, {columns}) and "
                f"(s, r, {n}), for r >= 2 models on each of s >= 3 subsets"
            )
        for i in range(len(masks)):
            members = require_masks(masks[i : i + 1], "unseen masks", columns, i)
            _require_outputs(np.asarray(outputs[i]), f"unseen outputs: subset {i}, model {{}}, target {{}}", 0)
            yield Block(members, np.asarray(outputs[i]), None)


def require_masks(masks: np.ndarray, place: str, columns: int, first: int = 0) -> np.ndarray:
    """Return masks as bool[b, d]. Raises InputError for anything but zeros and ones.

    place  where the masks are
    first  number of their first row there
    """
    if masks.shape[1] != columns:
        raise InputError(f"{place}: a mask has {masks.shape[1]} columns, others have {columns}: must be equal")
    if masks.dtype == bool:
        return masks
    wrong = np.argwhere((masks != 0) & (masks != 1))
    if len(wrong):
        row, column = wrong[0]
        raise InputError(
            f"{place}: row {first + row}, column {column}: is {masks[row, column]}: must be 0 or 1, whether a model "
            "saw an example"
        )
    return masks.astype(bool)


def _require_outputs(outputs: np.ndarray, place: str, first: int) -> None:
    """Raise InputError for outputs that cannot be stored. A row of nothing but NaN is a model that failed."""
    rows = np.flatnonzero(~np.isnan(outputs).all(axis=1))
    bad = np.argwhere(~np.isfinite(precision.stored(outputs[rows], precision.DTYPE)))
    if len(bad):
        row, target = rows[bad[0, 0]], bad[0, 1]
        raise InputError(
            f"{place.format(first + row, target)}: is {outputs[row, target]}; of this model, "
            f"{precision.fault(outputs[row], precision.DTYPE)}; of a model that failed, all outputs must be NaN"
        )


class Cut:
    """Cuts blocks of rows into pieces of other lengths."""

    def __init__(self, blocks: Iterator[np.ndarray]):
        self._blocks, self._left = blocks, np.zeros((0, 0))

    def take(self, count: int) -> np.ndarray:
        """Return the next rows; fewer at the end."""
        parts, missing = [], count
        while missing:
            if not len(self._left):
                self._left = next(self._blocks, np.zeros((0, 0)))
                if not len(self._left):
                    break
            parts.append(self._left[:missing])
            self._left = self._left[missing:]
            missing -= len(parts[-1])
        return np.concatenate(parts) if parts else self._left
