"""The exact Gram of masks, X'X with X in {0, 1}, by counting the bits that columns have in common.

One word of two columns gives 64 products, and the counts are whole numbers: nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np

from datamodels.run import designs

EXACT = 2048
"""Rows of a block of `gram_by_products`: float16 has all whole numbers up to that, however a product adds them up."""
PRODUCT_PANEL = 8192
"""Columns of one product there, which bounds its memory."""


def gram(masks: np.ndarray, columns: int, *, threads: int = 1) -> np.ndarray:
    """int32[d, d]: how many of the masks have columns i and j.

    masks  uint8[m, ceil(d / 8)], packed as by `sample.pack`; d is `columns`
    """
    from datamodels.fit.kernels import bitwise as compiled_bits

    bits = transposed(masks, columns)
    counts = np.zeros((len(bits), len(bits)), dtype=np.int32)
    panels = range(0, len(bits), compiled_bits.PANEL)

    def upper(first: int) -> None:
        last = first + compiled_bits.PANEL
        compiled_bits.count(bits[first:last], bits[first:], 0, bits.shape[1], counts[first:last, first:])

    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="gram") as pool:
        # The first panels are the longest; what is left at the end is short, so that no thread waits for long.
        list(pool.map(upper, panels))
    for i in panels:
        lower = slice(i, i + compiled_bits.PANEL)
        counts[lower, :i] = counts[:i, lower].T
    return counts[:columns, :columns]


def transposed(masks: np.ndarray, columns: int) -> np.ndarray:
    """uint64[d, w], 64 w >= m: the masks' columns as bits.

    Empty columns fill up the last tile, and empty words the last vector of 512 bits.
    """
    from datamodels.fit.kernels import bitwise as compiled_bits

    words, padded = 8 * -(-len(masks) // 512), -(-columns // compiled_bits.TILE) * compiled_bits.TILE
    bits = np.zeros((padded, 8 * words), dtype=np.uint8)
    compiled_bits.columns_of(np.ascontiguousarray(masks), bits[:columns])
    return bits.view("<u8").astype(np.uint64, copy=False)


def gram_twin(masks: np.ndarray, columns: int) -> np.ndarray:
    """What `gram` gives, by a product of matrices."""
    x = designs.unpack(np.asarray(masks), columns).astype(np.float64)
    return (x.T @ x).astype(np.int32)


def gram_by_products(blocks: Iterable[np.ndarray], columns: int, xp: ModuleType) -> np.ndarray:
    """int32[d, d] of the array module: `gram` on the tensor cores of a GPU, as exact.

    blocks  float16[r, d] of zeros and ones, r at most EXACT, of the array module
    """
    counts = xp.zeros((columns, columns), dtype=np.int32)
    panels = [slice(i, min(i + PRODUCT_PANEL, columns)) for i in range(0, columns, PRODUCT_PANEL)]
    for x in blocks:
        for panel in panels:
            counts[panel, panel.start :] += (x[:, panel].T @ x[:, panel.start :]).astype(np.int32)
    for panel in panels:
        counts[panel.stop :, panel] = counts[panel, panel.stop :].T
    return counts
