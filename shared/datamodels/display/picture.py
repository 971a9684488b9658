"""Encode rows of a data set as small pictures."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from datamodels.run.dataset import Dataset


def of_row(dataset: Dataset, row: np.ndarray, side: int) -> bytes:
    """Return a row of x as a PNG. Raises ValueError if the data set has no pictures, or the row is none.

    side  most pixels of the longer side; larger pictures are shrunk

    Grey pictures are ink on paper (0 is white), colour ones are light (0 is black). Pixels that are not finite are 0.
    """
    if dataset.image_shape is None:
        raise ValueError("the data set has no image_shape")
    light = np.asarray(row, dtype=np.float64).reshape(dataset.image_shape) / dataset.image_max
    light = _shrunk(np.clip(np.nan_to_num(light), 0, 1), side)
    if light.ndim == 2:
        light = 1 - light
    return png(np.round(light * 255).astype(np.uint8))


def _shrunk(light: np.ndarray, side: int) -> np.ndarray:
    """Shrink a picture to at most `side` pixels: each is the mean of a square. Cuts off incomplete squares."""
    step = -(-max(light.shape[:2]) // side)
    step = max(1, min(step, *light.shape[:2]))
    height, width = (length // step for length in light.shape[:2])
    squares = light[: height * step, : width * step].reshape(height, step, width, step, *light.shape[2:])
    return squares.mean(axis=(1, 3))


def png(pixels: np.ndarray) -> bytes:
    """Encode a PNG of uint8[h, w] (grey) or uint8[h, w, 3] (colour); see the PNG specification, section 5."""
    height, width = pixels.shape[:2]
    kind = 0 if pixels.ndim == 2 else 2
    rows = np.zeros((height, 1 + pixels[0].size), dtype=np.uint8)  # each row begins with its filter, 0: none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
