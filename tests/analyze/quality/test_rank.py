import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from datamodels.analyze.quality.rank import Ranks, spearman


@st.composite
def tied_pairs(draw):
    rows = draw(st.integers(3, 30))
    values = st.lists(st.integers(0, 6), min_size=rows, max_size=rows)
    columns = [draw(values) for _ in range(4)]
    weights = draw(st.lists(st.integers(0, 4), min_size=rows, max_size=rows).filter(lambda w: sum(w) > 1))
    return np.array(columns[:2], float).T, np.array(columns[2:], float).T, np.array(weights)


@given(tied_pairs())
def test_weighted_spearman_is_scipys_on_the_rows_written_out(case):
    a, b, weights = case
    found = spearman(Ranks(a), Ranks(b), weights)
    for column in range(a.shape[1]):
        x, y = np.repeat(a[:, column], weights), np.repeat(b[:, column], weights)
        constant = np.ptp(x) == 0 or np.ptp(y) == 0
        expected = 0.0 if constant else stats.spearmanr(x, y).statistic
        assert found[column] == pytest.approx(expected, abs=1e-9)


@given(tied_pairs())
def test_ranks_are_scipys_midranks(case):
    values, _, _ = case
    np.testing.assert_allclose(Ranks(values)(np.ones(len(values), int)), stats.rankdata(values, axis=0))


@given(tied_pairs())
def test_columns_may_have_weights_of_their_own(case):
    a, b, weights = case
    each = np.stack([weights, weights[::-1]], axis=1)
    found = spearman(Ranks(a), Ranks(b), each)
    for column in range(2):
        one = slice(column, column + 1)
        expected = spearman(Ranks(a[:, one]), Ranks(b[:, one]), each[:, column])
        assert found[one] == pytest.approx(expected, abs=1e-9)


@given(tied_pairs())
def test_many_resamples_at_once_are_those_of_one_after_another(case):
    a, b, weights = case
    for each in (weights[:, None], np.stack([weights, weights[::-1]], axis=1)):
        found = spearman(Ranks(a), Ranks(b), np.stack([each, each[::-1], np.ones_like(each)], axis=2))
        for k, one in enumerate((each, each[::-1], np.ones_like(each))):
            alone = one[:, 0] if one.shape[1] == 1 else one
            np.testing.assert_allclose(found[:, k], spearman(Ranks(a), Ranks(b), alone), atol=1e-12)
