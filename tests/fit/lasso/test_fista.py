import dataclasses

import numpy as np
import pytest

from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import fista, gap, gram
from datamodels.fit.lasso.fista import Fista
from datamodels.fit.solve import fit
from datamodels.run import specs
from datamodels.testing import reference


@pytest.fixture
def started(made_problem):
    """(Fista over all rows in float64, state at zero weights, problem); two of five targets leave rows out."""
    made, _ = made_problem(d=30, m=250, n=5, own=[-1, 4, -1, 9, -1], scale=3.0, shift=7.0)
    rows = Rows(made, dtype=np.float64)
    solver = Fista(rows, rows.whole)
    return solver, solver.start(rows.outputs(0, 5), rows.keep(0, 5), np.arange(5)), made


def aimed(solver, state, ratio=0.1):
    solver.set_lambda(state, ratio * solver.measure(state).dual_norm)


def test_the_start_gives_lambda_max_exactly(started):
    solver, state, made = started
    expected = [reference.lambda_max(*reference.design_of(made, j)) for j in range(5)]
    assert solver.measure(state).dual_norm * state.spread == pytest.approx(expected, rel=1e-9)


def test_neg_grad_is_minus_the_gradient_after_any_number_of_steps(started):
    solver, state, made = started
    aimed(solver, state)
    for number in range(6):
        solver.epoch(state, number)
    for j in range(5):
        x, y = reference.design_of(made, j)
        left = (y - y.mean()) / y.std() - x @ state.ahead[:, j]
        np.testing.assert_allclose(state.neg_grad[:, j], x.T @ (left - left.mean()) / len(x), atol=1e-12)


def test_a_converged_state_is_the_optimum(started):
    solver, state, made = started
    aimed(solver, state)
    for number in range(200):
        solver.epoch(state, number)
    assert solver.measure(state).gap(state.lambda_).max() < 1e-10
    weights = solver.weights(state, np.arange(5))
    for j in range(5):
        best, _, _ = reference.lasso(*reference.design_of(made, j), state.lambda_[j] * state.spread[j])
        np.testing.assert_allclose(weights[:, j], best, atol=1e-5)
        assert np.array_equal(weights[:, j] != 0, np.abs(best) > 1e-6), "no weight is left by momentum alone"


def test_its_weights_are_no_worse_than_the_gap_says(started):
    solver, state, made = started
    aimed(solver, state)
    for number in range(8):
        solver.epoch(state, number)
        gaps = solver.measure(state).gap(state.lambda_)
        weights = solver.weights(state, np.arange(5)).astype(np.float32)
        rows, lambda_ = solver.rows, state.lambda_ * state.spread
        certified, _ = gap.certify(rows, rows.whole, rows.outputs(0, 5), rows.keep(0, 5), weights, lambda_)
        for j in range(5):
            x, y = reference.design_of(made, j)
            theta, intercept, _ = reference.lasso(x, y, lambda_[j])
            found = weights[:, j].astype(np.float64)
            excess = reference.objective(x, y, found, (y - x @ found).mean(), lambda_[j])
            excess -= reference.objective(x, y, theta, intercept, lambda_[j])
            assert excess / (y.var() / 2) <= min(gaps[j], certified[j]) + 1e-6


def test_the_predictor_predicts_with_the_best_intercepts(started):
    solver, state, _ = started
    aimed(solver, state)
    for number in range(3):
        solver.epoch(state, number)
    places = np.array([3, 0])
    predicted = solver.rows.block(solver.span) @ solver.predictor(state, places)
    for at, j in enumerate(places):
        counts = state.keep[:, j]
        assert np.mean(predicted[counts, at] - state.y[counts, j]) == pytest.approx(0, abs=1e-12)


def test_taking_targets_takes_all_that_belongs_to_them(started):
    solver, state, _ = started
    aimed(solver, state)
    solver.epoch(state, 0)
    chosen = np.array([3, 0, 4])
    taken = state.take(chosen)
    for field in dataclasses.fields(state):
        if field.name != "factor":  # the penalty has none
            assert np.array_equal(getattr(taken, field.name), getattr(state, field.name)[..., chosen])
    for number in range(1, 4):
        solver.epoch(state, number)
        solver.epoch(taken, number)
    np.testing.assert_allclose(taken.theta, state.theta[:, chosen], atol=1e-12)


def test_a_new_lambda_starts_ahead_on_the_line_through_the_last_two(started):
    solver, state, _ = started
    top = solver.measure(state).dual_norm
    ends = []
    for ratio in (0.4, 0.2):
        solver.set_lambda(state, ratio * top)
        for number in range(200):
            solver.epoch(state, number)
        ends.append(state.ahead.copy())
    solver.set_lambda(state, 0.1 * top)
    solver._extrapolate(state)
    np.testing.assert_allclose(state.ahead, ends[1] + (ends[1] - ends[0]) / 2, atol=1e-12)
    neg_grad = state.neg_grad.copy()
    solver._compute_neg_grad(state)
    np.testing.assert_allclose(neg_grad, state.neg_grad, atol=1e-10, err_msg="the neg_grad needs no pass")


@pytest.mark.parametrize("d, m", [(30, 20), (30, 40), (30, 2000)])
def test_steps_that_are_too_long_are_cut_and_it_arrives(made_problem, d, m):
    made, x = made_problem(d=d, m=m, n=3)
    x = np.repeat(x[:, :3], 10, axis=1)  # columns in bundles of ten: curvature is far from even
    made = dataclasses.replace(made, masks=np.packbits(x, axis=1, bitorder="little"))
    rows = Rows(made, dtype=np.float64)
    solver = Fista(rows, rows.whole)
    state = solver.start(rows.outputs(0, 3), None, np.arange(3))
    aimed(solver, state, 0.05)
    state.step[1] *= 1000
    for number in range(400):
        solver.epoch(state, number)
    assert solver.measure(state).gap(state.lambda_).max() < 1e-6
    edge = np.linalg.eigvalsh(np.cov(x.T, bias=True))[-1]
    assert state.step[1] < 3 / edge


def test_a_warm_start_is_exact(started):
    solver, state, made = started
    weights = np.random.default_rng(0).normal(size=(30, 5))
    solver.warm_start(state, weights)
    np.testing.assert_allclose(state.ahead * state.spread, weights, atol=1e-12)
    for j in range(5):
        x, y = reference.design_of(made, j)
        left = (y - x @ weights[:, j]) / y.std()
        np.testing.assert_allclose(state.neg_grad[:, j], x.T @ (left - left.mean()) / len(x), atol=1e-12)


def test_state_from_arrays_goes_on_as_the_original(started):
    solver, state, _ = started
    start = state.take(np.arange(5))
    aimed(solver, state)
    solver.epoch(state, 0)
    state = state.take(np.array([0, 3]))
    restored = solver.restored(start, {name: array.copy() for name, array in solver.arrays(state).items()})
    for number in (1, 2):
        solver.epoch(state, number)
        solver.epoch(restored, number)
    for field in dataclasses.fields(state):
        assert np.array_equal(getattr(restored, field.name), getattr(state, field.name)), field.name


def test_rows_unpacked_in_many_pieces_give_the_same(started, made_problem):
    made, _ = made_problem(d=30, m=fista.MIN_ROWS * 3 + 5, n=2)
    whole, pieces = (Rows(made, dtype=np.float64, cache=cache) for cache in (2**30, 0))
    found = []
    for rows in (whole, pieces):
        solver = Fista(rows, rows.whole, pass_bytes=1)
        assert len(solver.batches) > 3
        state = solver.start(rows.outputs(0, 2), None, np.arange(2))
        aimed(solver, state)
        solver.epoch(state, 0)
        found.append(state.neg_grad)
    assert np.array_equal(*found)


@pytest.mark.parametrize("own", [None, [-1, 4, -1]])
def test_packed_masks_give_what_floats_give(made_problem, own):
    """In float32, no floats are made of the masks. Neither rows nor columns are a whole number of words."""
    made, _ = made_problem(d=70, m=fista.PACKED_ROWS + 77, n=3, own=own, scale=3.0, shift=7.0)
    found = []
    for dtype in (np.float32, np.float64):
        rows = Rows(made, dtype=dtype)
        solver = Fista(rows, rows.fit)
        state = solver.start(rows.outputs(0, 3)[rows.fit], own and rows.keep(0, 3)[rows.fit], np.arange(3))
        aimed(solver, state)
        for number in range(5):
            solver.epoch(state, number)
        predicted = solver.predictions(rows.heldout, solver.predictor(state, np.array([2, 0])))
        found.append((state.neg_grad, state.mean_x, solver.weights(state, np.arange(3)), predicted))
        assert ("block" in rows._made) == (dtype == np.float64)
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * abs(theirs).max(), rtol=0)


def test_it_chooses_and_fits_as_gram_does(made_problem):
    made, _ = made_problem(d=60, m=500, n=20, noise=np.geomspace(0.2, 5, 20), scale=3.0, shift=-11.0)
    settings = specs.FitSpec(estimator="lasso", lambdas=12, tolerance=1e-5, max_epochs=2000)
    theirs, ours = (fit(made, settings.model_copy(update={"solver": s}), 0) for s in ("gram", "stream"))
    assert ours.status == theirs.status == ["ok"] * 20
    np.testing.assert_allclose(ours.lambda_, theirs.lambda_, rtol=1e-5)
    np.testing.assert_allclose(ours.dense(range(20)), theirs.dense(range(20)), atol=0.01)


def test_a_gram_beyond_its_memory_is_streamed(made_problem, monkeypatch):
    """Neither the Grams nor those in panels have the memory that they need."""
    made, _ = made_problem(d=600, m=24, n=2, holdout=0.2)
    settings = specs.FitSpec(estimator="lasso", lambdas=1, lambda_ratio=0.9)
    assert gram.applies(Rows(made)) and gram.spans(Rows(made), settings) is not None
    monkeypatch.setattr(gram, "GRAM_BYTES", gram.bytes_of(600, 4) - 1)
    monkeypatch.setattr(gram, "PANEL_BYTES", gram.panel_bytes_of(600) - 1)
    assert not gram.applies(Rows(made)) and gram.spans(Rows(made), settings) is None
    wide, streamed = (fit(made, settings.model_copy(update={"solver": s}), 0) for s in ("gram", "stream"))
    assert wide.status == ["ok"] * 2 and len(wide.weights)
    assert np.array_equal(wide.weights, streamed.weights)
