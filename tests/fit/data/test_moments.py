import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.fit.data import moments
from datamodels.fit.data.problem import NO_COLUMN, Problem
from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import gram
from tests.helpers.properties import examples


def problem_of(x, z):
    return Problem(
        masks=np.packbits(x, axis=1, bitorder="little"),
        outputs=z.astype(np.float32),
        columns=x.shape[1],
        center=np.full(x.shape[1], 0.4, dtype=np.float32),
        own_column=np.full(z.shape[1], NO_COLUMN, dtype=np.int32),
        heldout=np.zeros(len(x), dtype=bool),
    )


@pytest.mark.parametrize("holdout", [0.1, 0.5])
def test_masks_have_the_moments_of_their_rows(made_problem, holdout):
    made, x = made_problem(d=30, m=200, n=1, holdout=holdout, pinned_in=(3,), pinned_out=(8,))
    spans = moments.of_masks(Rows(made, dtype=np.float64))
    assert (spans.heldout is not None) == (holdout == 0.5), "held-out rows are used as they are where they are few"
    for found, chosen in (
        (spans.fit, ~made.heldout),
        (spans.whole, made.heldout | True),
        (spans.heldout, made.heldout),
    ):
        if found is not None:
            mine = x[chosen].astype(float)
            assert found.rows == len(mine)
            np.testing.assert_allclose(found.mean, mine.mean(axis=0), atol=1e-15)
            np.testing.assert_allclose(found.gram, np.cov(mine.T, bias=True), atol=1e-14)


def test_masks_of_one_size_leave_all_ones_out(made_problem):
    made, _ = made_problem(d=30, m=200, n=1)
    assert np.abs(moments.of_masks(Rows(made, dtype=np.float64)).whole.gram.sum(axis=0)).max() < 1e-13


@examples(30)
@given(cut=st.integers(1, 119), shift=st.floats(-5, 5), seed=st.integers(0, 20))
def test_sums_of_two_spans_are_those_of_both(cut, shift, seed):
    rng = np.random.default_rng(seed)
    x, z = rng.random((120, 9)) < 0.5, rng.normal(size=(120, 2)) + shift
    made = problem_of(x, z)
    rows = Rows(made, dtype=np.float64)
    location, spread = np.array([1.5, -2.0]), np.array([0.5, 3.0])
    both = moments.of_outputs(rows, slice(0, cut), z[:cut], location, spread)
    both += moments.of_outputs(rows, slice(cut, 120), z[cut:], location, spread)
    z = (z - location) / spread
    counts = (x.T.astype(float) @ x).astype(np.int32)
    products, variance = both.centred(moments.of_counts(counts, 120, np.dtype(float)), made.center.astype(float))
    centred = z - z.mean(axis=0)
    np.testing.assert_allclose(products, (x - x.mean(axis=0)).T.dot(centred).T / 120, atol=1e-12)
    np.testing.assert_allclose(variance, z.var(axis=0), atol=1e-12)


def test_what_is_shared_is_made_once(made_problem):
    made, _ = made_problem(d=20, m=50, n=1)
    rows = Rows(made)
    assert moments.of_masks(rows) is moments.of_masks(rows)


def test_a_gram_that_is_too_large_is_not_made():
    d = 21_000
    made = Problem(
        masks=np.zeros((2, -(-d // 8)), dtype=np.uint8),
        outputs=np.zeros((2, 1), dtype=np.float16),
        columns=d,
        center=np.full(d, 0.5, dtype=np.float32),
        own_column=np.full(1, NO_COLUMN, dtype=np.int32),
        heldout=np.array([False, True]),
    )
    assert not gram.applies(Rows(made))


@pytest.mark.parametrize(("dtype", "close"), [(np.float64, 1e-11), (np.float32, 2e-6)])
def test_sums_by_tables_are_those_of_the_rows(dtype, close, monkeypatch):
    """Of outputs whose mean is far above their spread, in an order of rows of its own; close for each row."""
    rng = np.random.default_rng(0)
    x, y = rng.random((500, 30)) < 0.5, rng.normal([3, -4000, 0.0], [1, 0.5, 0], size=(500, 3)).astype(np.float32)
    made = dataclasses.replace(problem_of(x, y), order=rng.permutation(500))
    location, spread = y.mean(axis=0, dtype=np.float64), np.array([1, 0.5, 1])
    found = []
    for columns in (1, 1000):
        monkeypatch.setattr(moments, "LOOKUP_FROM", columns)
        rows = Rows(made, dtype=dtype)
        span = slice(20, 480)
        found.append(moments.of_outputs(rows, span, rows.outputs(0, 3, span), location, spread))
    for field in ("total", "square", "products"):
        tables, products = (getattr(each, field) for each in found)
        np.testing.assert_allclose(tables, products, rtol=1e-12, atol=close * np.sqrt(460))
    z = (y[made.order][span] - location) / spread
    centred = x[made.order][span] - np.float64(made.center)
    np.testing.assert_allclose(found[0].products, z.T @ centred, atol=close * np.sqrt(460))
