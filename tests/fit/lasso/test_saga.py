import copy
import dataclasses

import numpy as np
import pytest

from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import saga
from datamodels.fit.lasso.saga import Saga
from datamodels.fit.solve import fit
from datamodels.run.specs import FitSpec
from datamodels.testing import reference


@pytest.fixture
def started(made_problem):
    """(Saga over all rows in float64, state at zero weights, problem); two of five targets leave their own rows out."""
    made, _ = made_problem(d=30, m=250, n=5, own=[-1, 4, -1, 9, -1], scale=3.0, shift=7.0)
    rows = Rows(made, dtype=np.float64)
    solver = Saga(rows, rows.whole, batch=32, seed=[0])
    return solver, solver.start(rows.outputs(0, 5), rows.keep(0, 5), np.arange(5)), made


def exact_residuals(solver, state):
    return np.where(state.keep, solver.rows.block(solver.span) @ state.theta - state.y, 0)


def test_the_start_gives_lambda_max_exactly(started):
    solver, state, made = started
    expected = [reference.lambda_max(*reference.design_of(made, j)) for j in range(5)]
    assert solver.measure(state).dual_norm * state.spread == pytest.approx(expected, rel=1e-9)


def test_the_average_is_that_of_the_table_after_any_number_of_steps(started):
    solver, state, _ = started
    solver.set_lambda(state, 0.1 * solver.measure(state).dual_norm)
    for number in range(5):
        solver.epoch(state, number)
    x = solver.rows.block(solver.span)
    np.testing.assert_allclose(state.average, x.T @ state.table / len(x), atol=1e-12)
    assert (state.table[~state.keep] == 0).all()


def test_a_converged_state_is_the_optimum_and_its_measure_the_certificate(started):
    solver, state, made = started
    solver.set_lambda(state, 0.1 * solver.measure(state).dual_norm)
    for number in range(400):
        solver.epoch(state, number)
    assert solver.measure(state).gap(state.lambda_).max() < 1e-8
    np.testing.assert_allclose(state.table, exact_residuals(solver, state), atol=1e-4)
    weights = solver.weights(state, np.arange(5))
    for j in range(5):
        best, _, _ = reference.lasso(*reference.design_of(made, j), state.lambda_[j] * state.spread[j])
        np.testing.assert_allclose(weights[:, j], best, atol=1e-3)


def test_the_gap_from_the_table_bounds_the_true_excess(started):
    solver, state, made = started
    solver.set_lambda(state, 0.1 * solver.measure(state).dual_norm)
    for number in range(12):
        solver.epoch(state, number)
        gaps = solver.measure(state).gap(state.lambda_)
        for j in range(5):
            x, y = reference.design_of(made, j)
            lambda_ = state.lambda_[j] * state.spread[j]
            theta = solver.weights(state, np.array([j]))[:, 0]
            best, intercept, _ = reference.lasso(x, y, lambda_, tolerance=1e-10)
            excess = reference.objective(x, y, theta, (y - x @ theta).mean(), lambda_)
            excess -= reference.objective(x, y, best, intercept, lambda_)
            assert gaps[j] >= excess / (y.var() / 2)


def test_taking_targets_takes_all_that_belongs_to_them(started):
    solver, state, _ = started
    solver.set_lambda(state, 0.1 * solver.measure(state).dual_norm)
    solver.epoch(state, 0)
    chosen = np.array([3, 0, 4])
    expected = {f.name: getattr(state, f.name)[..., chosen].copy() for f in dataclasses.fields(state)}
    taken = copy.deepcopy(state).take(chosen)
    for name, array in expected.items():
        assert np.array_equal(getattr(taken, name), array)
    for number in range(1, 4):
        solver.epoch(state, number)
        solver.epoch(taken, number)
    np.testing.assert_allclose(taken.theta, state.theta[:, chosen], atol=1e-12)


def test_a_warm_start_is_exact(started):
    solver, state, made = started
    weights = np.random.default_rng(0).normal(size=(30, 5))
    solver.warm_start(state, weights)
    np.testing.assert_allclose(state.table, exact_residuals(solver, state), atol=1e-12)
    np.testing.assert_allclose(solver.weights(state, np.arange(5)), weights, atol=1e-12)
    assert np.abs(state.table.sum(axis=0)).max() < 1e-9
    x = solver.rows.block(solver.span)
    np.testing.assert_allclose(state.average, x.T @ state.table / made.rows, atol=1e-12)


def test_what_diverges_starts_again_with_smaller_steps_and_arrives(started):
    solver, state, _ = started
    solver.set_lambda(state, 0.1 * solver.measure(state).dual_norm)
    bold = state.step.copy()
    state.step[[1, 4]] *= 1000
    with np.errstate(over="ignore", invalid="ignore"):
        for number in range(300):
            solver.epoch(state, number)
            measure = solver.stabilise(state)
    assert measure.gap(state.lambda_).max() < 1e-5
    assert (state.step[[1, 4]] < 4 * bold[[1, 4]]).all()


def test_what_stalls_takes_smaller_steps(started):
    solver, state, _ = started
    solver.set_lambda(state, 0.1 * solver.measure(state).dual_norm)
    step = state.step.copy()
    for _ in range(saga.STALLED + 1):
        solver.stabilise(state)  # no epoch in between: no gap falls
    assert np.allclose(state.step, step / 2)


def test_state_from_arrays_goes_on_as_the_original(started):
    solver, state, _ = started
    start = copy.deepcopy(state)
    solver.set_lambda(state, 0.1 * solver.measure(state).dual_norm)
    solver.epoch(state, 0)
    state = state.take(np.array([0, 3]))
    restored = solver.restored(start, {name: array.copy() for name, array in solver.arrays(state).items()})
    for number in (1, 2):
        solver.epoch(state, number)
        solver.epoch(restored, number)
    for field in dataclasses.fields(state):
        assert np.array_equal(getattr(restored, field.name), getattr(state, field.name)), field.name


def test_the_table_on_disk_has_the_same_bits_and_targets_that_are_done_leave_it(made_problem, tmp_path):
    made, _ = made_problem(d=30, m=250, n=6, own=[-1, 4, -1, 9, -1, -1], scale=3.0)
    settings = FitSpec(solver="saga", lambdas=8)
    ours, theirs = (fit(made, settings, 0, checkpoint=folder) for folder in (None, tmp_path))
    assert all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in ("weights", "gap", "intercept"))
    rows = Rows(made, folder=tmp_path)
    solver = Saga(rows, rows.whole, batch=32, seed=[0])
    state = solver.start(rows.outputs(0, 6), rows.keep(0, 6), np.arange(6))
    before, left = state.table.copy(), state.take(np.array([1, 4, 5]))
    assert isinstance(state.table.base, np.memmap) and np.shares_memory(left.table, state.table)
    assert np.array_equal(left.table, before[:, [1, 4, 5]])
