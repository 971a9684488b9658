"""Multiply gradients of targets with those of the pool's examples, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from datamodels.train.gradients import Gradients, slices
from datamodels.train.workloads import factors
from datamodels.train.workloads.factors import FactoredGradients

BLOCK_BYTES = 2**30
"""Bytes of the vectors that are kept during one pass over the pool."""


def with_losses(
    found: Gradients,
    change: Callable[[np.ndarray], np.ndarray] = lambda vectors: vectors,
    *,
    of_losses: bool = False,
) -> np.ndarray:
    """Return float32[n, examples]: products of the gradients of targets and of the losses of the pool's examples.

    change     is applied to the gradients of targets, float32[rows, parameters], before they are multiplied
    of_losses  take the gradients of the targets' losses, not of their outputs
    """
    of_targets = found.of_target_losses if of_losses else found.of_outputs
    result = np.empty((found.targets, found.examples), dtype=np.float32)
    for block in _blocks(found.targets, 4 * found.parameters):
        given = change(np.concatenate([of_targets(rows) for rows in _within(block, 4 * found.parameters)]))
        if isinstance(found, FactoredGradients):
            result[block] = factors.products(given, found.losses)
            continue
        for rows in slices(found.examples, 4 * found.parameters):
            result[block, rows] = given @ found.of_losses(rows).T
    return result


def _blocks(count: int, bytes_each: int) -> Iterator[slice]:
    rows = max(1, BLOCK_BYTES // bytes_each)
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def _within(block: slice, bytes_each: int) -> Iterator[slice]:
    return (
        slice(block.start + rows.start, block.start + rows.stop)
        for rows in slices(block.stop - block.start, bytes_each)
    )
