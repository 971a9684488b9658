import dataclasses

import numpy as np
import pytest

from datamodels.fit.contract.targets import Targets
from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import path
from datamodels.fit.lasso.path import Path
from datamodels.fit.lasso.rowwise import RowIteration
from datamodels.fit.lasso.saga import Saga
from datamodels.run.specs import FitSpec
from datamodels.testing import reference

N = 12


@pytest.mark.parametrize(("k", "ratio"), [(1, 0.1), (2, 0.5), (20, 0.01)])
def test_the_grid_goes_down_by_equal_ratios_and_never_to_0(k, ratio):
    grid = path.grid(FitSpec(lambdas=k, lambda_ratio=ratio))
    assert len(grid) == k and grid[-1] == pytest.approx(ratio) and (grid > 0).all()
    if k > 1:
        assert grid[0] == 1
        assert np.allclose(grid[1:] / grid[:-1], ratio ** (1 / (k - 1)))


def start(made_problem, settings):
    """(Path of targets whose paths end at different lambdas, problem)."""
    noise = np.geomspace(0.05, 20, N)[np.random.default_rng(2).permutation(N)]
    own = np.where(np.arange(N) < 4, -1, np.arange(N))
    made, _ = made_problem(d=30, m=300, n=N, own=own, noise=noise, holdout=0.2)
    rows = Rows(made)
    saga = Saga(rows, rows.fit, batch=settings.batch_size, seed=[0])
    return Path(RowIteration(saga, Targets.read(rows, 0, N), batch=settings.batch_size), settings), made


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_a_path_ends_after_so_many_rises_in_a_row(made_problem, patience):
    settings = FitSpec(lambdas=15, patience=patience, tolerance=1e-5, batch=50, max_epochs=2000)
    on_path, made = start(made_problem, settings)
    on_path.walk()
    choice = on_path.choice
    ends = []
    for j in range(N):
        x, y = reference.design_of(made, j, heldout=False)
        x_held, y_held = reference.design_of(made, j, fit=False)
        lambda_max = reference.lambda_max(x, y)
        assert choice.top[j] == pytest.approx(lambda_max, rel=1e-5)
        rises, errors = 0, []
        for fraction in path.grid(settings):
            theta, intercept, _ = reference.lasso(x, y, fraction * lambda_max, tolerance=1e-9)
            errors.append(((x_held @ theta + intercept - y_held) ** 2).mean())
            rises = rises + 1 if len(errors) > 1 and errors[-1] > errors[-2] else 0
            if rises == patience:
                break
        ends.append(len(errors) - 1)
        assert choice.position[j] == ends[-1]
        assert choice.best[j] == np.argmin(errors)
        assert choice.best_error[j] == pytest.approx(min(errors), rel=1e-2)
    assert len(set(ends)) > 3, "the test needs paths of different lengths"


def test_a_restored_path_is_in_the_same_place_and_ends_in_the_same(made_problem):
    settings = FitSpec(lambdas=12, batch=50)
    original, _ = start(made_problem, settings)
    epochs = 0
    while original.choice.active > N // 2:  # some retired, some with a rise behind them
        original.epoch()
        epochs += 1
    restored, _ = start(made_problem, settings)
    restored.restore({name: array.copy() for name, array in original.arrays().items()})
    assert restored.epochs == epochs and original.choice.rises.any()
    for ended in (False, True):
        if ended:
            original.walk(), restored.walk()
        for field in dataclasses.fields(original.state):
            one, other = (getattr(it.state, field.name) for it in (original, restored))
            assert np.array_equal(one, other), (ended, field.name)
        kept, found = original.arrays(), restored.arrays()
        assert kept.keys() == found.keys()
        assert all(np.array_equal(kept[name], found[name]) for name in kept), ended
