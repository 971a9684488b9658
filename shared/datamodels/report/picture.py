"""Encode rows of a data set as pictures for a page."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from datamodels.run.dataset import Dataset

SIDE = 48
"""Most pixels of the longer side of a picture; larger ones are shrunk."""


def base64_png(dataset: Dataset, row: np.ndarray) -> str:
    """Return a row of x as a PNG in base64. Raises ValueError if the data set has no pictures.

    Grey pictures are ink on paper (0 is white), colour ones are light (0 is black).
    """
    if dataset.image_shape is None:
        raise ValueError("the data set has no image_shape")
    light = np.clip(np.asarray(row, dtype=np.float64).reshape(dataset.image_shape) / dataset.image_max, 0, 1)
    light = _shrunk(light)
    if light.ndim == 2:
        light = 1 - light
    pixels = np.round(light * 255).astype(np.uint8)
    return base64.b64encode(png(pixels)).decode()


def _shrunk(light: np.ndarray) -> np.ndarray:
    """Shrink a picture to sides of at most SIDE: each pixel is the mean of a square. Cuts off incomplete squares."""
    step = -(-max(light.shape[:2]) // SIDE)
    step = max(1, min(step, *light.shape[:2]))
    height, width = (side // step for side in light.shape[:2])
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
