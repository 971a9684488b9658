import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.fit.kernels import lookup
from tests.properties import examples


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
def test_whole_numbers_are_added_exactly_over_many_passes(threads):
    """Neither the rows, the columns nor the targets are a whole number of passes, flushes or lines."""
    rng = np.random.default_rng(0)
    m, d, a = 2 * lookup.PASS_ROWS + 77, lookup.FLUSHED + 5, 19
    x, z = rng.random((m, d)) < 0.5, rng.integers(-1000, 1000, size=(m, a)).astype(np.float32)
    masks = np.packbits(x, axis=1, bitorder="little")
    found = lookup.products(masks, d, z, threads=threads)
    assert np.array_equal(found, z.T.astype(np.int64) @ x)
