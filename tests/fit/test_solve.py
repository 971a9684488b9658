"""The whole fit against the reference, target by target."""

import dataclasses
import threading

import numpy as np
import pytest

from datamodels.errors import SettingsError, StageError
from datamodels.fit import solve
from datamodels.fit.data import problem
from datamodels.fit.lasso import path
from datamodels.fit.solve import fit
from datamodels.run.specs import FitSpec
from datamodels.testing import reference
from tests.fit.solutions import relative_excess, same

TIGHT = {"tolerance": 3e-6, "batch_size": 50, "max_epochs": 2000}


@pytest.fixture(params=["saga", "stream", "gram"])
def solver(request):
    return request.param


def held_out_curve(made, target, settings, tolerance=1e-10) -> tuple[np.ndarray, np.ndarray]:
    """(lambdas, held-out errors) of the whole path, by the reference."""
    x, y = reference.design_of(made, target, heldout=False)
    x_held, y_held = reference.design_of(made, target, fit=False)
    lambdas = reference.lambda_max(x, y) * path.grid(settings)
    errors = []
    for lambda_ in lambdas:
        theta, intercept, _ = reference.lasso(x, y, lambda_, tolerance=tolerance)
        errors.append(((x_held @ theta + intercept - y_held) ** 2).mean())
    return lambdas, np.array(errors)


def stopped_early(errors: np.ndarray, patience: int) -> int:
    """How many lambdas a path with this patience looks at."""
    rises = 0
    for k in range(1, len(errors)):
        rises = rises + 1 if errors[k] > errors[k - 1] else 0
        if rises == patience:
            return k + 1
    return len(errors)


@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.02])
@pytest.mark.parametrize("own", [None, [3, -1, 0, 17, 3, -1]])
def test_objective_at_a_fraction_of_lambda_max(solver, made_problem, ratio, own):
    """One lambda: ratio * lambda_max of the rows to fit."""
    made, _ = made_problem(d=40, m=400, n=6, own=own, pinned_in=(5,), pinned_out=(11, 39))
    solution = fit(made, FitSpec(solver=solver, lambdas=1, lambda_ratio=ratio, **TIGHT), 0, threads=1)
    assert solution.status == [problem.OK] * 6
    for j in range(6):
        x, y = reference.design_of(made, j, heldout=False)
        assert solution.lambda_[j] == pytest.approx(ratio * reference.lambda_max(x, y), rel=1e-5)
        assert -1e-7 < relative_excess(made, solution, j) < 1e-5
    assert not np.isin([5, 11, 39], solution.columns).any()


@pytest.mark.parametrize("own", [False, True])
def test_each_target_gets_its_own_lambda_and_weights(solver, made_problem, own):
    """Targets of very different scale and noise end their paths at different times and are dropped in between."""
    n = 24
    scale = np.geomspace(0.01, 100, n)[np.random.default_rng(1).permutation(n)]
    noise = np.geomspace(0.05, 20, n)[np.random.default_rng(2).permutation(n)]
    made, _ = made_problem(
        d=30, m=300, n=n, own=np.arange(n) if own else None, scale=scale, noise=noise, shift=scale * 7, holdout=0.2
    )
    settings = FitSpec(solver=solver, lambdas=12, patience=2, **TIGHT)
    solution = fit(made, settings, 0, threads=1)
    assert solution.status == [problem.OK] * n
    assert (solution.gap <= settings.tolerance).all()
    looked_at = set()
    for j in range(n):
        lambdas, errors = held_out_curve(made, j, settings)
        length = stopped_early(errors, settings.patience)
        looked_at.add(length)
        k = int(np.argmin(np.abs(np.log(lambdas / solution.lambda_[j]))))
        assert solution.lambda_[j] == pytest.approx(lambdas[k], rel=1e-5)
        assert errors[k] == pytest.approx(errors[:length].min(), rel=1e-3)
        assert -1e-7 < relative_excess(made, solution, j) < 1e-5
    assert len(looked_at) > 3, "the test needs paths of different lengths"


def test_heldout_r2_is_that_of_the_chosen_lambda(solver, made_problem):
    made, x = made_problem(d=30, m=400, n=3, own=[-1, 4, 9], holdout=0.25)
    settings = FitSpec(solver=solver, lambdas=12, **TIGHT)
    solution = fit(made, settings, 0, threads=1)
    for j in range(3):
        lambdas, errors = held_out_curve(made, j, settings)
        counts = made.heldout & (~x[:, made.own_column[j]] if made.own_column[j] >= 0 else True)
        variance = made.outputs[counts, j].astype(np.float64).var()
        k = int(np.argmin(np.abs(np.log(lambdas / solution.lambda_[j]))))
        assert solution.heldout_r2[j] == pytest.approx(1 - errors[k] / variance, abs=1e-3)


def test_the_smallest_tolerance_is_reached(solver, made_problem):
    """In float64; float32 alone would not get there."""
    made, _ = made_problem(d=30, m=200, n=4, own=[-1, 2, -1, 2])
    settings = FitSpec(solver=solver, lambdas=5, tolerance=1e-6, batch=50, max_epochs=5000)
    solution = fit(made, settings, 0, threads=1)
    assert solution.status == ["ok"] * 4
    assert solution.gap.max() <= 1e-6
    assert all(relative_excess(made, solution, j) < 3e-6 for j in range(4))


def test_duplicate_columns_share_a_weight(solver, made_problem):
    made, x = made_problem(d=30, m=300, n=2)
    x = x.copy()
    x[:, 1] = x[:, 0]
    made = dataclasses.replace(made, masks=np.packbits(x, axis=1, bitorder="little"))
    solution = fit(made, FitSpec(solver=solver, lambdas=6, **TIGHT), 0, threads=1)
    assert solution.status == ["ok", "ok"]
    assert all(relative_excess(made, solution, j) < 1e-5 for j in range(2))


def test_out_of_epochs_is_said_and_the_weights_are_kept(made_problem):
    made, _ = made_problem(d=60, m=200, n=3)
    solution = fit(made, FitSpec(solver="saga", lambdas=3, tolerance=1e-5, max_epochs=1, batch=50), 0)
    assert solution.status == ["not_converged"] * 3
    assert (solution.gap > 1e-5).all() and len(solution.weights)


class Killed(Exception):
    pass


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_fit_interrupted_again_and_again_ends_as_an_uninterrupted_one(made_problem, tmp_path, how):
    made, _ = made_problem(d=40, m=300, n=6, own=[-1, 4, -1, 4, 5, -1])
    settings = FitSpec(solver="saga", lambdas=6, batch=64)
    whole = fit(made, settings, 0, threads=1, block_targets=3)
    stop = threading.Event()
    interruptions, seen = 0, set()

    def progress(now):
        nonlocal calls
        calls += 1
        seen.add((now.stage, now.targets_done))
        if calls == 9:
            if how == "killed":
                raise Killed
            stop.set()

    while True:
        calls = 0
        stop.clear()
        try:
            solution = fit(
                made,
                settings,
                0,
                checkpoint=tmp_path,
                checkpoint_seconds=0,
                stop=stop,
                threads=1,
                progress=progress,
                block_targets=3,
            )
            break
        except (Killed, StageError) as error:
            interruptions += 1
            assert how == "killed" or error.exit_code == 143
    assert interruptions > 5
    assert {stage for stage, _ in seen} >= {"path", "refit"}
    assert same(solution, whole)


def test_a_checkpoint_of_other_settings_or_damaged_is_not_used(made_problem, tmp_path):
    made, _ = made_problem(d=40, m=300, n=6)
    fit(made, FitSpec(estimator="lasso", lambdas=6), 0, checkpoint=tmp_path)
    other = FitSpec(estimator="lasso", lambdas=7)
    whole = fit(made, other, 0)
    assert same(fit(made, other, 0, checkpoint=tmp_path), whole)
    (kept,) = tmp_path.glob("*.npz")
    data = bytearray(kept.read_bytes())
    data[len(data) // 2] ^= 0xFF
    kept.write_bytes(data)
    assert same(fit(made, other, 0, checkpoint=tmp_path), whole)
    kept.write_bytes(data[: len(data) // 3])
    assert same(fit(made, other, 0, checkpoint=tmp_path), whole)


@pytest.mark.parametrize(("device", "message"), [("tpu", "auto, cpu or cuda"), ("cuda", "cpu")])
def test_a_device_that_is_not_there(device, message):
    try:
        import cupy  # noqa: F401
    except ImportError:
        pass
    else:
        if device == "cuda":
            pytest.skip("CuPy is installed here")
    with pytest.raises(SettingsError, match=message):
        solve.array_module(device)
    assert solve.array_module("auto") is np or device == "cuda"


@pytest.mark.gpu
def test_cupy_fits_as_numpy_does(cupy, made_problem):
    made, _ = made_problem(d=40, m=400, n=6, own=[3, -1, 0, 17, 3, -1])
    settings = FitSpec(solver="saga", lambdas=8, **TIGHT)
    ours, theirs = fit(made, settings, 0), fit(made, settings, 0, device="cuda")
    assert theirs.status == ours.status
    np.testing.assert_allclose(theirs.lambda_, ours.lambda_, rtol=1e-5)
    for j in range(6):
        assert relative_excess(made, theirs, j) < 1e-5


def test_blocks_keep_to_the_memory_they_have_and_are_enough_for_several_threads(made_problem):
    made, _ = made_problem(d=10, m=50, n=100)
    assert solve.blocks(made, FitSpec(estimator="lasso"), device="cpu") == [(0, 33), (33, 67), (67, 100)]
    assert [
        solve.block_size(50, 10, targets, FitSpec(estimator="lasso"), device="cpu") for targets in (63, 64, 200, 9999)
    ] == [63, 32, 50, 128]
    assert solve.blocks(made, FitSpec(estimator="lasso"), device="cpu", block_targets=40) == [
        (0, 33),
        (33, 67),
        (67, 100),
    ]
    huge = dataclasses.replace(
        made,
        masks=np.broadcast_to(made.masks[:1], (10**7, 2)),
        outputs=np.broadcast_to(made.outputs[:1], (10**7, 100)),
        heldout=np.broadcast_to(False, 10**7),
    )
    spans = solve.blocks(huge, FitSpec(estimator="lasso"), device="cpu", block_targets=40)
    assert max(last - first for first, last in spans) * 10**7 * 21 <= solve.BLOCK_BYTES


@pytest.mark.parametrize("threads", [1, 3])
def test_a_block_is_the_same_bits_whichever_others_are_solved_beside_it(solver, made_problem, threads):
    made, _ = made_problem(d=40, m=300, n=9)
    settings = FitSpec(solver=solver, lambdas=6, batch=64)
    grid = solve.blocks(made, settings, device="cpu", block_targets=2)
    whole = fit(made, settings, 0, threads=threads, block_targets=2)
    found = {}
    for spans in (grid[1::3], grid[::3], grid[2::3]):
        finished = lambda first, last, solution: found.update({(first, last): solution})  # noqa: E731
        solve.solve_blocks(made, settings, 0, spans, grid, finished=finished, threads=threads)
    assert sorted(found) == grid
    for first, last in grid:
        assert same(found[first, last], problem.rows_of(whole, first, last))
