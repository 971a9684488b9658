import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.fit.kernels import popcount


def dense(x) -> np.ndarray:
    return (x.T.astype(np.float64) @ x.astype(np.float64)).astype(np.int64)


@given(m=st.integers(0, 700), d=st.integers(1, 90), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_counts_are_those_of_the_dense_product(m, d, share, seed):
    x = np.random.default_rng(seed).random((m, d)) < share
    masks = np.packbits(x, axis=1, bitorder="little")
    counts = popcount.gram(masks, d)
    assert counts.dtype == np.int32
    assert np.array_equal(counts, dense(x))
    assert np.array_equal(popcount.gram_twin(masks, d), counts)
    blocks = (x[i : i + 300].astype(np.float16) for i in range(0, m, 300))
    assert np.array_equal(popcount.gram_by_products(blocks, d, np), counts)


def test_products_of_the_longest_blocks_are_exact():
    """Even the largest count is a float16, and one more row would make one that is not."""
    x = np.ones((popcount.EXACT, 3), dtype=np.float16)
    x[: popcount.EXACT // 2 + 1, 1] = 0
    counts = popcount.gram_by_products([x, x], 3, np)
    assert np.array_equal(counts, dense(np.concatenate([x, x])))
    assert np.float16(popcount.EXACT - 1) + np.float16(1) == popcount.EXACT != np.float16(popcount.EXACT + 1) - 1


@pytest.mark.parametrize("threads", [1, 3])
def test_many_panels_of_columns_and_words(threads):
    """More columns than one panel, more rows than one run of words, and neither a whole number of them."""
    x = np.random.default_rng(0).random((33_001, 203)) < 0.5
    masks = np.packbits(x, axis=1, bitorder="little")
    assert np.array_equal(popcount.gram(masks, 203, threads=threads), dense(x))


def test_bits_beyond_the_last_column_do_not_count():
    masks = np.full((10, 2), 255, dtype=np.uint8)
    assert np.array_equal(popcount.gram(masks, 11), np.full((11, 11), 10))


@given(m=st.integers(1, 200), d=st.integers(1, 40), seed=st.integers(0, 99))
def test_transposed_bits_are_the_columns(m, d, seed):
    x = np.random.default_rng(seed).random((m, d)) < 0.5
    bits = popcount.transposed(np.packbits(x, axis=1, bitorder="little"), d)
    found = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")
    assert np.array_equal(found[:d, :m], x.T)
    assert not found[:, m:].any() and not found[d:].any()
