"""Compute the exact Gram of masks, X'X with X in {0, 1}, by counting the bits that columns have in common.

One word of two columns holds 64 products. The counts are whole numbers, so nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np

from datamodels.run import designs

EXACT = 2048
"""Most rows of a block of `gram_by_products`: float16 represents all whole numbers up to 2048, so every order of
summation is exact."""
PRODUCT_PANEL = 8192
"""Columns of one product of `gram_by_products`, which bounds its memory."""


def gram(masks: np.ndarray, columns: int, *, threads: int = 1) -> np.ndarray:
    """Return int32[d, d]: how many of the masks have columns i and j.

    masks    uint8[m, ceil(d / 8)], packed as by `designs.pack`
    columns  d
    """
    from datamodels.fit.kernels import bitwise

    bits = transposed(masks, columns)
    counts = np.zeros((len(bits), len(bits)), dtype=np.int32)
    panels = range(0, len(bits), bitwise.PANEL)

    def upper(first: int) -> None:
        last = first + bitwise.PANEL
        bitwise.count(bits[first:last], bits[first:], 0, bits.shape[1], counts[first:last, first:])

    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="gram") as pool:
        # The first panels take longest, and the last are short, so that no thread waits long at the end.
        list(pool.map(upper, panels))
    for i in panels:
        lower = slice(i, i + bitwise.PANEL)
        counts[lower, :i] = counts[:i, lower].T
    return counts[:columns, :columns]


def transposed(masks: np.ndarray, columns: int, multiple: int = 0) -> np.ndarray:
    """Return the columns of masks as bits, uint64[e, w], e >= d, 64 w >= m.

    Empty columns fill up the last tile, or make e a multiple of some number, and empty words fill up the last vector of
    512 bits.
    """
    from datamodels.fit.kernels import bitwise

    multiple = multiple or bitwise.TILE
    words, padded = 8 * -(-len(masks) // 512), -(-columns // multiple) * multiple
    bits = np.zeros((padded, 8 * words), dtype=np.uint8)
    bitwise.columns_of(np.ascontiguousarray(masks), bits[:columns])
    return bits.view("<u8").astype(np.uint64, copy=False)


def gram_twin(masks: np.ndarray, columns: int) -> np.ndarray:
    """Return what `gram` returns, by a product of matrices: for tests."""
    x = designs.unpack(np.asarray(masks), columns).astype(np.float64)
    return (x.T @ x).astype(np.int32)


def gram_by_products(blocks: Iterable[np.ndarray], columns: int, xp: ModuleType) -> np.ndarray:
    """Return what `gram` returns, int32[d, d] of the array module, on the tensor cores of a GPU. It is exact too.

    blocks  float16[r, d] of the array module, zeros and ones, r at most EXACT
    """
    counts = xp.zeros((columns, columns), dtype=np.int32)
    panels = [slice(i, min(i + PRODUCT_PANEL, columns)) for i in range(0, columns, PRODUCT_PANEL)]
    for x in blocks:
        for panel in panels:
            counts[panel, panel.start :] += (x[:, panel].T @ x[:, panel.start :]).astype(np.int32)
    for panel in panels:
        counts[panel.stop :, panel] = counts[panel, panel.stop :].T
    return counts
