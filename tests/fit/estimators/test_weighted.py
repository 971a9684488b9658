"""The LASSO with a prior against the reference on rescaled columns."""

import dataclasses
import threading

import numpy as np
import pytest

from datamodels.errors import SpecError
from datamodels.fit.data import examples
from datamodels.fit.data.prior import Prior
from datamodels.fit.data.rows import Rows
from datamodels.fit.estimators import weighted
from datamodels.fit.job.fits import load
from datamodels.fit.job.job import FitJob
from datamodels.fit.lasso import path
from datamodels.fit.solve import fit
from datamodels.run import runs, specs
from datamodels.run.specs import FitSpec
from datamodels.settings import FitterSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import committed, reference
from tests.fit.solutions import same

WEIGHTED = FitSpec(estimator="weighted", lambdas=6, tolerance=1e-4, max_epochs=3000)
LASSO = WEIGHTED.model_copy(update={"estimator": "lasso", "solver": "gram"})


@pytest.fixture
def problem_with(made_problem):
    """A problem whose truth is where the prior says (`sign` 1), or where it says not (-1), and the prior."""

    def make(sign=1, d=60, m=120, n=8, **options):
        made, x = made_problem(d=d, m=m, n=n, holdout=0.25, **options)
        rng = np.random.default_rng(5)
        targets, columns = (rng.normal(size=(size, 6)) for size in (n, d))
        targets, columns = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (targets, columns))
        truth = np.exp(3 * sign * targets @ columns.T) * rng.normal(size=(n, d))
        y = x @ truth.T
        y = y / y.std(axis=0) + 0.5 * rng.normal(size=y.shape)
        prior = Prior(targets.astype(np.float32), columns.astype(np.float32))
        return dataclasses.replace(made, outputs=y.astype(np.float32), prior=prior)

    return make


def chosen(made, settings=WEIGHTED) -> float:
    return weighted.choose(Rows(made), made.prior, settings, lambda progress: None)


def test_it_is_the_lasso_of_rescaled_columns(problem_with):
    made = problem_with()
    strength = chosen(made)
    assert strength > 0
    solution = fit(made, WEIGHTED, 0)
    assert solution.status == ["ok"] * 8
    factor = made.prior.factor(np.arange(8), strength)
    for j in range(8):
        x, y = reference.design_of(made, j, heldout=False)
        lambdas = reference.lambda_max(x / factor[j], y) * path.grid(WEIGHTED)
        assert np.abs(np.log(lambdas / solution.lambda_[j])).min() < 1e-4
        x, y = reference.design_of(made, j)
        phi, intercept, _ = reference.lasso(x / factor[j], y, solution.lambda_[j])
        found = solution.dense([j])[0] * factor[j]
        excess = reference.objective(x / factor[j], y, found, solution.intercept[j], solution.lambda_[j])
        excess -= reference.objective(x / factor[j], y, phi, intercept, solution.lambda_[j])
        assert -1e-7 < excess / (y.var() / 2) <= solution.gap[j] + 1e-7
        assert solution.gap[j] <= WEIGHTED.tolerance


def test_a_prior_that_is_right_helps_and_one_that_is_wrong_does_no_harm(problem_with):
    right, wrong = problem_with(sign=1), problem_with(sign=-1)
    assert fit(right, WEIGHTED, 0).heldout_r2.mean() > fit(right, LASSO, 0).heldout_r2.mean() + 0.01
    assert chosen(wrong) == 0
    assert same(fit(wrong, WEIGHTED, 0), fit(wrong, LASSO, 0))


def test_a_prior_that_says_nothing_is_the_lasso_bit_for_bit(problem_with):
    made = problem_with()
    nothing = dataclasses.replace(made, prior=Prior(np.zeros((8, 2), np.float32), np.zeros((60, 2), np.float32)))
    assert chosen(nothing) == 0
    assert same(fit(nothing, WEIGHTED, 0), fit(made, LASSO, 0))


def test_targets_that_cannot_be_fitted_do_not_hold_up_the_others(problem_with):
    made = problem_with()
    outputs = made.outputs.copy()
    outputs[:, 1] = 3.25
    outputs[17, 4] = np.nan
    solution = fit(dataclasses.replace(made, outputs=outputs), WEIGHTED, 0)
    assert solution.status == ["ok", "constant", "ok", "ok", "not_finite", "ok", "ok", "ok"]
    assert solution.intercept[1] == 3.25
    outputs[:] = 1
    assert fit(dataclasses.replace(made, outputs=outputs), WEIGHTED, 0).status == ["constant"] * 8


def test_blocks_of_any_size_and_any_number_of_threads_fit_the_same(problem_with):
    made = problem_with()
    whole = fit(made, WEIGHTED, 0)
    assert same(fit(made, WEIGHTED, 5, threads=3, block_targets=3), fit(made, WEIGHTED, 0, threads=1, block_targets=3))
    cut = fit(made, WEIGHTED, 0, block_targets=2)
    np.testing.assert_allclose(cut.lambda_, whole.lambda_, rtol=1e-4)
    np.testing.assert_allclose(cut.dense(range(8)), whole.dense(range(8)), atol=0.02 * np.abs(whole.weights).max())


def test_what_it_cannot_do_is_refused(problem_with):
    made = problem_with(own=[-1, 3, -1, -1, -1, -1, -1, -1])
    with pytest.raises(SpecError, match="takes targets that are no training examples"):
        fit(made, WEIGHTED, 0)
    with pytest.raises(SpecError, match="has no prior"):
        fit(dataclasses.replace(problem_with(), prior=None), WEIGHTED, 0)


def test_a_run_takes_its_prior_from_its_data_set(tmp_path):
    store = LocalStore(str(tmp_path / "store"))
    base = {
        "name": "cancer",
        "dataset": {"load": "datamodels.train.tabular:load_breast_cancer", "options": {"train": 40}},
        "trainer": {"class": "a:B"},
        "m": 60,
        "chunk": 20,
        "sub_chunk": 10,
        "evaluate": {"subsets": 3, "models": 2},
        "fit": {"estimator": "weighted", "lambdas": 6},
    }
    made = specs.parse(base)
    dataset = runs.load_dataset(made)
    run = runs.resolve(made, dataset)
    runs.create(store, run)
    examples.write(store, run, dataset)
    committed.commit(store, run)
    record = FitJob(store, run.name).solve(
        FitterSettings(scratch=str(tmp_path / "scratch")), progress=lambda *_: None, stop=threading.Event()
    )
    solution = load(store, record)
    assert set(solution.status) == {"ok"} and solution.n == run.n and len(solution.weights)
