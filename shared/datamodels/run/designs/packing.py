"""Pack masks into bits, and unpack them."""

import numpy as np

from datamodels.errors import MaskError


def pack(masks: np.ndarray) -> np.ndarray:
    """Pack bool[..., d] to uint8[..., ceil(d / 8)]. Column c is bit c % 8 of byte c // 8, least significant first."""
    return np.packbits(masks, axis=-1, bitorder="little")


def unpack(packed: np.ndarray, columns: int) -> np.ndarray:
    """Unpack masks to bool[..., d]. Raises MaskError, as `check_packed` does."""
    check_packed(packed, columns)
    return np.unpackbits(packed, axis=-1, count=columns, bitorder="little").view(bool)


def check_packed(packed: np.ndarray, columns: int) -> None:
    """Raise MaskError if the length of packed masks is not that of d columns, or if a bit beyond them is set."""
    expected = (columns + 7) // 8
    if packed.dtype != np.uint8 or packed.shape[-1] != expected:
        raise MaskError(
            f"mask of {packed.shape[-1]} {packed.dtype} values: {columns} columns take {expected} bytes of uint8"
        )
    spare = expected * 8 - columns
    if spare and (packed[..., -1] >> (8 - spare)).any():
        raise MaskError(f"mask has a bit set beyond its {columns} columns")


def mask_of(columns: np.ndarray, count: int) -> np.ndarray:
    """Return the packed mask of some columns, uint8[ceil(count / 8)]. Raises MaskError for one outside 0..count-1."""
    columns = np.asarray(columns)
    if columns.ndim != 1 or (columns.size and columns.dtype.kind not in "iu"):
        raise MaskError(f"columns of shape {columns.shape} and type {columns.dtype}: must be a list of integers")
    outside = columns[(columns < 0) | (columns >= count)]
    if outside.size:
        raise MaskError(f"column {outside[0]}: must be 0 to {count - 1}")
    mask = np.zeros(count, dtype=bool)
    mask[columns.astype(np.int64)] = True
    return pack(mask)
