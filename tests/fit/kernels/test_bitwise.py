import numpy as np
import pytest

from datamodels.fit.kernels import bitwise


@pytest.fixture
def masks():
    return np.random.default_rng(0).random((1100, 530)) < 0.4


def words_of(x: np.ndarray) -> np.ndarray:
    """uint64[v, m, 8], as `compact` takes them."""
    m, d = x.shape
    wide = np.zeros((m, 512 * -(-d // 512)), dtype=bool)
    wide[:, :d] = x
    packed = np.packbits(wide, axis=1, bitorder="little").view("<u8")
    return np.ascontiguousarray(packed.reshape(m, -1, 8).transpose(1, 0, 2))


def unpacked(bits: np.ndarray) -> np.ndarray:
    return np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little").astype(bool)


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 512, 513, 1100])
def test_chosen_rows_become_columns_and_spare_bits_are_empty(masks, rows):
    chosen = np.sort(np.random.default_rng(1).permutation(len(masks))[:rows])
    bits = np.full((532, 40), 7, dtype=np.uint64)
    high = bitwise.compact(words_of(masks), chosen, bits, 8)
    assert high == 8 + 8 * -(-rows // 512)
    found = unpacked(bits[:530, 8:high])
    assert np.array_equal(found[:, :rows], masks[chosen].T) and not found[:, rows:].any()
    assert (bits[:, :8] == 7).all() and (bits[:, high:] == 7).all()
    assert np.array_equal(bitwise.ones(bits[:, 8:].copy(), high - 8, 530), masks[chosen].sum(axis=0))


@pytest.mark.parametrize("span", [(0, 24), (8, 16), (5, 5), (0, 600)])
def test_bits_in_common_are_added_to_the_counts(span):
    rng = np.random.default_rng(2)
    left, right = (rng.integers(0, 2**63, size=(size, 600)).astype(np.uint64) for size in (8, 68))
    counts = rng.integers(0, 100, size=(8, 68)).astype(np.int32)
    a, b = (unpacked(np.ascontiguousarray(x[:, slice(*span)])).astype(np.int64) for x in (left, right))
    expected = counts + a @ b.T
    bitwise.count(left, right, *span, counts)
    assert np.array_equal(counts, expected)
