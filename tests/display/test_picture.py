import struct
import zlib

import numpy as np
import pytest

from datamodels.display import picture
from datamodels.train import Dataset


def read_png(data):
    """uint8 pixels of an unfiltered PNG, every checksum verified."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(name + body)
        chunks[name] = body
        at += 12 + length
    width, height, depth, kind, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, rest) == (8, [0, 0, 0])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape((height, width) if kind == 0 else (height, width, 3))


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (5, 9), (5, 9, 3)])
def test_a_png_reads_back(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(read_png(picture.png(pixels)), pixels)


def dataset(shape, scale=1.0):
    x = np.zeros((1, 12))
    return Dataset(x, np.zeros(1), x, np.zeros(1), image_shape=shape, image_max=scale)


def test_grey_is_ink_on_paper_and_colour_is_light():
    row = np.zeros(12)
    row[0] = 16

    def shown(data):
        return read_png(picture.of_row(data, row, 48))

    assert shown(dataset((3, 4), 16.0)).ravel().tolist() == [0] + [255] * 11
    assert shown(dataset((2, 2, 3), 16.0)).ravel().tolist() == [255] + [0] * 11


def test_large_pictures_are_shrunk_by_means():
    pixels = np.zeros((100, 60))
    pixels[:3, :3] = 1
    pixels[3, 3] = 9 * 0.5
    data = Dataset(pixels.reshape(1, -1), np.zeros(1), pixels.reshape(1, -1), np.zeros(1), image_shape=(100, 60))
    shown = read_png(picture.of_row(data, pixels.ravel(), 48))
    assert shown.shape == (33, 20) and max(shown.shape) <= 48
    assert shown[0, 0] == 0 and shown[1, 1] == round(255 * (1 - 1 / 9)) and shown[2, 2] == 255


def test_data_without_pictures_has_none():
    with pytest.raises(ValueError, match="no image_shape"):
        picture.of_row(dataset(None), np.zeros(12), 48)
