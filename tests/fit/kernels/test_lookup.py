import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.fit.kernels import lookup
from tests.helpers.properties import examples


@examples(40)
@given(m=st.integers(0, 200), d=st.integers(1, 40), a=st.integers(0, 20), share=st.floats(0, 1), seed=st.integers(0, 9))
def test_products_are_those_of_the_unpacked_masks(m, d, a, share, seed):
    rng = np.random.default_rng(seed)
    x, z = rng.random((m, d)) < share, rng.normal(size=(m, a))
    masks = np.packbits(x, axis=1, bitorder="little")
    found = lookup.products(masks, d, z)
    assert found.dtype == np.float64 and found.shape == (a, d)
    np.testing.assert_allclose(found, z.T @ x, atol=1e-12)
    np.testing.assert_allclose(lookup.products_twin(masks, d, z), z.T @ x, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
def test_sums_of_outputs_as_they_are_stored_are_exact(threads):
    """Neither the rows, the columns nor the targets are a whole number of passes, blocks or lines.

    The numbers in float16 differ by 2^24 in size, so that each target has rows which need more than BITS bits.
    """
    rng = np.random.default_rng(0)
    m, d, a = 2 * lookup.PASS_ROWS + 77, lookup.COLUMNS + lookup.FLUSHED + 5, lookup.LANES + 3
    x = rng.random((m, d)) < 0.5
    z = (rng.normal(size=(m, a)) * 2.0 ** rng.integers(-14, 10, size=(m, a))).astype(np.float16)
    z[: lookup.PASS_ROWS, 0], z[:, 1] = 1024 - 2**-10, 0  # the largest that there is, in a whole pass; and only zeros
    masks = np.packbits(x, axis=1, bitorder="little")
    whole = (z.astype(np.float64) * 2**24).astype(np.int64)
    assert np.array_equal(whole / 2**24, z)
    found = lookup.products(masks, d, z, threads=threads)
    assert np.array_equal(found[:, :50], (whole.T @ x[:, :50]) / 2**24)
    np.testing.assert_allclose(found, z.T.astype(np.float64) @ x, atol=1e-9)
    rounded = lookup.products(masks, d, z, exact=False, threads=threads)
    off = np.abs(rounded - found).max(axis=1)
    assert (off <= m * np.abs(z).max(axis=0).astype(float) / 2**lookup.BITS).all() and off.max() > 0 == off[1]


def test_words_have_the_bits_of_the_columns():
    rng = np.random.default_rng(1)
    x = rng.random((130, 1043)) < 0.5
    words = lookup.words_of(np.packbits(x, axis=1, bitorder="little"), 1043)
    bits = np.unpackbits(words.T.copy().view(np.uint8), axis=1, bitorder="little")
    assert words.shape == (3, 1043)
    assert np.array_equal(bits[:, :130], x.T) and not bits[:, 130:].any()
