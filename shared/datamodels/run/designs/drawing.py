"""Draw subsets: which training examples model `index` is trained on, as a pure function of the design and the index.

A Philox generator keyed by (seed, i) draws subset i. So any subset can be drawn again anywhere, in any order, and none
is stored. Only the raw 64-bit stream of the generator is used: NumPy guarantees that it stays the same in all versions,
but not that `Generator.choice` does.

A subset has exactly `size` members, as in Ilyas et al. (2022, section 2); members are not drawn independently. In a
`hadamard` design the size may differ by a few, as `designs.hadamard` explains.
"""

from __future__ import annotations

import numpy as np

from datamodels.errors import InputError
from datamodels.run.designs.design import KINDS, Design
from datamodels.run.designs.packing import pack, unpack

COMPILED_FROM = 8192
"""Columns from which compiled loops pay, which take seconds to compile once per installation."""


def subset(design: Design, index: int) -> np.ndarray:
    """Return int32[size]: the columns of subset `index` >= 0, ascending."""
    if index < 0:
        raise InputError(f"subset index {index}: must be at least 0")
    mask = np.zeros(design.columns, dtype=bool)
    _draw(design, index, mask)
    return np.flatnonzero(mask).astype(np.int32)


def subsets(design: Design, first: int, last: int, *, compiled_from: int | None = None) -> np.ndarray:
    """Return uint8[last - first, mask_bytes]: packed masks of the subsets first <= index < last; see `pack`.

    compiled_from  columns from which compiled loops draw; COMPILED_FROM by default. They draw the same
    """
    compiled_from = COMPILED_FROM if compiled_from is None else compiled_from
    if not 0 <= first < last:
        raise InputError(f"subsets {first} to {last}: first must be at least 0 and less than last")
    if design.masks is not None:
        return design.masks.read(first, last)
    if design.columns >= compiled_from and KINDS[design.kind].draw is None:
        return _compiled(design, first, last)
    masks = np.zeros((last - first, design.columns), dtype=bool)
    for row, index in enumerate(range(first, last)):
        _draw(design, index, masks[row])
    return pack(masks)


def _compiled(design: Design, first: int, last: int) -> np.ndarray:
    from datamodels.run.designs import compiled

    masks, done = compiled.subsets(design, first, last)
    for row in np.flatnonzero(~done):
        mask = np.zeros(design.columns, dtype=bool)
        _draw(design, first + int(row), mask)
        masks[row] = pack(mask)
    return masks


def _draw(design: Design, index: int, mask: np.ndarray) -> None:
    """Set the members of subset `index` in a mask that is False everywhere."""
    if design.masks is not None:
        mask[:] = unpack(design.masks.read(index, index + 1), design.columns)[0]
        return
    mask[list(design.pinned_in)] = True
    kind = KINDS[design.kind]
    if kind.draw is not None and kind.draw(design, index, mask):
        return
    flip = kind.paired and index % 2 == 1
    bits = np.random.Philox(key=np.array([design.seed, index - flip], dtype=np.uint64))
    for columns, drawn in design.strata:
        if not len(columns):
            continue
        # The smallest keys are drawn. Low bits hold the position, so that no two keys are equal.
        low = np.uint64(2 ** len(columns).bit_length() - 1)
        keys = (bits.random_raw(len(columns)) & ~low) | np.arange(len(columns), dtype=np.uint64)
        order = np.argpartition(keys, drawn) if drawn < len(columns) else np.arange(len(columns))
        mask[columns[order[drawn:] if flip else order[:drawn]]] = True
