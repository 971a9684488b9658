import dataclasses

import numpy as np
import pytest

from datamodels.fit.contract import targets as sorting
from datamodels.fit.contract.targets import Targets
from datamodels.fit.data.problem import CONSTANT, NO_ROWS, NO_SIGNAL, NOT_CONVERGED, NOT_FINITE, OK
from datamodels.fit.data.rows import Rows
from datamodels.fit.data.sums import Sums
from tests.fit.device import strict


@pytest.fixture
def made(made_problem):
    """Targets that are fine, constant, without rows, not finite, and constant on the rows that they count alone."""
    problem, x = made_problem(d=30, m=200, n=6, own=[-1, -1, 6, -1, 4, 9], pinned_in=(6,))
    outputs = problem.outputs.copy()
    outputs[:, 1] = 3.25
    outputs[17, 3] = np.nan
    outputs[~x[:, 4], 4] = -2
    return dataclasses.replace(problem, outputs=outputs)


@pytest.mark.parametrize("xp", [np, strict])
def test_targets_are_sorted_by_what_is_wrong_with_them(made, xp):
    rows = Rows(made, xp=xp)
    targets = Targets.read(rows, 0, 6)
    assert targets.status.tolist() == [OK, CONSTANT, NO_ROWS, NOT_FINITE, CONSTANT, OK]
    assert targets.able.tolist() == [0, 5] and Targets.read(rows, 3, 6).numbers.tolist() == [5]
    assert (targets.value[1], targets.value[4]) == (3.25, -2)
    outputs, keep = targets.columns(rows.heldout)
    assert np.array_equal(rows.host(outputs), made.outputs[made.heldout][:, [0, 5]])
    kept = rows.host(keep)
    assert kept[:, 0].all() and 0 < kept[:, 1].sum() < len(kept)


def test_sums_sort_targets_as_their_outputs_do(made):
    shared = dataclasses.replace(made, own_column=np.full(6, -1, dtype=np.int32))
    sums = Sums.empty(shared.columns, shared.n)
    sums.add(shared.masks, shared.outputs, shared.heldout)
    rows = Rows(shared, sums=sums)
    for first, last in ((0, 6), (1, 4)):
        ours, theirs = Targets.of_sums(rows, sums, first, last), Targets.read(rows, first, last)
        assert ours.status.tolist() == theirs.status.tolist()
        constant = ours.status == CONSTANT
        assert np.array_equal(ours.value[constant], theirs.value[constant])
    with pytest.raises(ValueError, match="outputs were not read"):
        ours.columns(rows.whole)


def test_what_was_found_goes_to_the_targets_that_were_fitted(made):
    targets = Targets.read(Rows(made), 0, 6)
    weights = np.zeros((2, 30), dtype=np.float32)
    weights[1, 7] = 5
    solution = targets.solution(
        weights,
        lambda_=np.array([0.5, 0.25]),
        gap=np.array([1e-4, 1e-2]),
        intercept=np.array([1.0, 2.0]),
        heldout_r2=np.array([0.1, 0.2]),
        tolerance=1e-3,
        signal=np.array([False, True]),
    )
    assert solution.status == [NO_SIGNAL, CONSTANT, NO_ROWS, NOT_FINITE, CONSTANT, NOT_CONVERGED]
    assert solution.lambda_.tolist() == [0.5, 0, 0, 0, 0, 0.25]
    assert solution.intercept.tolist() == [1.0, 3.25, 0, 0, -2, 2.0]
    np.testing.assert_array_equal(solution.heldout_r2, [0.1, *[np.nan] * 4, 0.2])
    assert [len(solution.row(j)[0]) for j in range(6)] == [0, 0, 0, 0, 0, 1]
    assert solution.row(5)[1].tolist() == [5]


def test_no_target_can_be_fitted(made):
    solution = Targets.read(Rows(made), 1, 5).unfitted()
    assert solution.status == [CONSTANT, NO_ROWS, NOT_FINITE, CONSTANT]
    assert solution.intercept.tolist() == [3.25, 0, 0, -2] and not len(solution.weights)


@pytest.mark.parametrize("xp", [np, strict])
def test_explained_variance_is_over_the_rows_that_count(made, xp):
    rows = Rows(made, xp=xp)
    outputs, keep = Targets.read(rows, 0, 6).columns(rows.heldout)
    y = rows.host(outputs)
    found = sorting.explained(rows, outputs, keep, np.array([0.5, 0.25]))
    counts = rows.host(keep)
    expected = [1 - e / y[counts[:, j], j].astype(float).var() for j, e in enumerate((0.5, 0.25))]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    level = xp.full(outputs.shape, xp.asarray(np.float32(0.1)))
    assert np.isnan(sorting.explained(rows, level, keep, np.array([0.0, 1.0]))).all(), "outputs that do not vary"
