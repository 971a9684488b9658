"""What every estimator owes: statuses, the same result however it is cut up, resumption."""

import dataclasses
import threading

import numpy as np
import pytest

from datamodels.errors import StageError
from datamodels.fit.data.problem import Solution
from datamodels.fit.solve import fit
from datamodels.run.specs import FitSpec


@pytest.fixture(params=["ridge", "difference", "influence"])
def settings(request):
    return FitSpec(estimator=request.param, lambdas=6, tolerance=1e-5)


def same(a: Solution, b: Solution) -> bool:
    names = [f.name for f in dataclasses.fields(Solution) if f.name not in ("d", "status")]
    return a.status == b.status and all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in names
    )


def test_targets_that_cannot_be_fitted_do_not_hold_up_the_others(settings, made_problem):
    made, _ = made_problem(d=30, m=300, n=8, own=[-1, -1, -1, 6, -1, -1, 6, 2], pinned_in=(6,))
    outputs = made.outputs.copy()
    outputs[:, 1] = 1.0
    outputs[17, 4] = np.nan
    outputs[:, 5] = np.where(np.arange(300) == 299, np.inf, 1)
    broken = dataclasses.replace(made, outputs=outputs)
    solution, whole = fit(broken, settings, 0, threads=1), fit(made, settings, 0, threads=1)
    assert solution.status == ["ok", "constant", "ok", "no_rows", "not_finite", "not_finite", "no_rows", "ok"]
    for j, status in enumerate(solution.status):
        if status == "ok":
            np.testing.assert_allclose(solution.dense([j]), whole.dense([j]), atol=1e-3)
        else:
            assert not len(solution.row(j)[0])
            assert solution.intercept[j] == (1 if status == "constant" else 0)
            assert solution.lambda_[j] == 0 and np.isnan(solution.heldout_r2[j])


@pytest.mark.parametrize("m", [1, 2, 3])
def test_hardly_any_rows(settings, made_problem, m):
    made, _ = made_problem(d=30, m=m, n=2)
    outputs = np.array([[1, -1], [-1, 1], [1, 1]], dtype=np.float32)[:m]
    made = dataclasses.replace(made, outputs=outputs, heldout=np.arange(m) == m - 1)
    solution = fit(made, settings, 0)
    assert solution.status == (["ok"] * 2 if m == 3 else ["no_rows"] * 2)
    assert np.isfinite(solution.weights).all() and np.isfinite(solution.intercept).all()


def test_outputs_that_masks_do_not_tell_get_no_weights(settings, made_problem):
    made, _ = made_problem(d=30, m=100, n=2)
    made = dataclasses.replace(made, masks=np.repeat(made.masks[:1], 100, axis=0))
    solution = fit(made, settings, 0)
    assert solution.status == ["ok", "ok"] and not len(solution.weights)
    outputs = made.outputs > 0 if settings.estimator == "influence" else made.outputs
    np.testing.assert_allclose(solution.intercept, outputs.mean(axis=0), atol=1e-5)


def test_blocks_of_any_size_and_any_number_of_threads_fit_the_same(settings, made_problem):
    made, _ = made_problem(d=40, m=300, n=7, own=[-1, 4, -1, 4, 5, -1, 6])
    whole = fit(made, settings, 0)
    assert same(fit(made, settings, 5, threads=3, block_targets=3), fit(made, settings, 0, threads=1, block_targets=3))
    for size in (1, 3):
        cut = fit(made, settings, 0, block_targets=size)
        np.testing.assert_allclose(cut.lambda_, whole.lambda_, rtol=1e-9)
        np.testing.assert_allclose(cut.dense(range(7)), whole.dense(range(7)), atol=0.02 * np.abs(whole.weights).max())


class Killed(Exception):
    pass


def test_a_killed_fit_keeps_its_finished_blocks(settings, made_problem, tmp_path):
    made, _ = made_problem(d=40, m=300, n=9, own=[-1, -1, -1, 4, 5, 6, -1, -1, 7])
    arguments = {"threads": 1, "block_targets": 3}
    whole = fit(made, settings, 0, **arguments)

    for done in (0, 3):

        def progress(now, done=done):
            assert now.targets_done >= done, "finished blocks are not solved again"
            if now.targets_done == done + 3:
                raise Killed

        with pytest.raises(Killed):
            fit(made, settings, 0, checkpoint=tmp_path, checkpoint_seconds=0, progress=progress, **arguments)
    assert same(fit(made, settings, 0, checkpoint=tmp_path, **arguments), whole)


def test_it_stops_when_asked(settings, made_problem):
    stop = threading.Event()
    stop.set()
    with pytest.raises(StageError) as raised:
        fit(made_problem(d=40, m=300, n=2)[0], settings, 0, stop=stop)
    assert raised.value.exit_code == 143


def test_progress_never_falls_and_ends_at_1(settings, made_problem):
    seen = []
    fit(made_problem(d=40, m=300, n=6)[0], settings, 0, progress=seen.append)
    fractions = [now.fraction for now in seen]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1)
    assert seen[-1].stage == "done" and seen[-1].targets_done == 6


def test_float16_outputs(settings, made_problem):
    made, _ = made_problem(d=40, m=300, n=4, own=[-1, 3, -1, 4])
    half = made.outputs.astype(np.float16)
    ours = fit(dataclasses.replace(made, outputs=half), settings, 0)
    assert same(ours, fit(dataclasses.replace(made, outputs=half.astype(np.float32)), settings, 0))
