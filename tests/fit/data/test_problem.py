import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.errors import InputError, TargetRangeError
from datamodels.fit.data import problem
from datamodels.run import designs


def make(rows=4, n=3, d=10, **changes) -> problem.Problem:
    fields = {
        "masks": np.zeros((rows, (d + 7) // 8), dtype=np.uint8),
        "outputs": np.zeros((rows, n), dtype=np.float16),
        "columns": d,
        "center": np.zeros(d, dtype=np.float32),
        "own_column": np.full(n, problem.NO_COLUMN, dtype=np.int32),
        "heldout": np.zeros(rows, dtype=bool),
    }
    return problem.Problem(**fields | changes)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("masks", np.zeros((4, 3), dtype=np.uint8)),
        ("masks", np.zeros((5, 2), dtype=np.uint8)),
        ("center", np.zeros(9, dtype=np.float32)),
        ("own_column", np.zeros(4, dtype=np.int32)),
        ("own_column", np.array([0, 10, -1], dtype=np.int32)),
        ("own_column", np.array([0, -2, -1], dtype=np.int32)),
        ("heldout", np.zeros(3, dtype=bool)),
    ],
)
def test_what_does_not_fit_together_is_refused(field, value):
    with pytest.raises(InputError, match=field):
        make(**{field: value})


@given(st.integers(2, 400), st.integers(0, 400), st.floats(0.01, 0.5))
def test_heldout_is_stable_by_pairs_and_of_the_right_size(m, more, fraction):
    heldout = problem.is_heldout(np.arange(2 * m), fraction)
    assert np.array_equal(heldout, problem.is_heldout(np.arange(2 * (m + more)), fraction)[: 2 * m])
    assert np.array_equal(heldout[0::2], heldout[1::2])
    assert abs(heldout[::2].sum() - m * fraction) <= 1


def test_heldout_goes_by_index_not_by_row():
    index = np.array([3, 18, 19, 40])
    assert problem.is_heldout(index, 0.1).tolist() == problem.is_heldout(np.arange(41), 0.1)[index].tolist()
    assert problem.is_heldout(index, 0.1).any()


def solution(theta) -> problem.Solution:
    n = len(theta)
    return problem.of_dense(
        theta, status=["ok"] * n, lambda_=np.arange(n), gap=np.zeros(n), heldout_r2=np.ones(n), intercept=-np.arange(n)
    )


@given(st.integers(1, 9), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_sparse_and_dense_weights_agree_however_they_are_cut(n, d, seed):
    rng = np.random.default_rng(seed)
    theta = (rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.3)).astype(np.float32)
    cut = int(rng.integers(0, n + 1))
    whole = solution(theta)
    parts = [problem.rows_of(whole, 0, cut), problem.rows_of(whole, cut, n)]
    for joined in (whole, problem.concatenate(parts)):
        assert np.array_equal(joined.dense(range(n)), theta)
        assert joined.lambda_.tolist() == list(range(n))
        assert joined.indptr.dtype == np.int64 and joined.indptr[-1] == len(joined.columns) == np.count_nonzero(theta)
        for j in range(n):
            columns, weights = joined.row(j)
            assert np.array_equal(columns, np.flatnonzero(theta[j])) and np.array_equal(weights, theta[j][columns])


def test_sparse_weights_are_not_copied():
    whole = solution(np.eye(3, 7, dtype=np.float32))
    assert np.shares_memory(whole.theta.indices, whole.columns) and np.shares_memory(whole.theta.data, whole.weights)


@pytest.mark.parametrize("target", [-1, 3])
def test_a_target_out_of_range_is_refused(target):
    with pytest.raises(TargetRangeError, match="0 to 2"):
        solution(np.zeros((3, 4))).row(target)


def test_no_blocks_to_join():
    with pytest.raises(InputError, match="no blocks"):
        problem.concatenate([])


def test_problem_of_a_run(make_run):
    run = make_run(d=12, own=[-1, 0, 7], m=40)
    index = np.array([0, 1, 5, 18, 19], dtype=np.int32)
    made = problem.of_run(run, designs.subsets(run.design, 0, 5), np.zeros((5, 3), dtype=np.float16), index)
    assert made.own_column.tolist() == [-1, 0, 7]
    assert made.heldout.tolist() == [False, False, False, True, True]
    assert made.columns == 12 and np.allclose(made.center, 0.5)
