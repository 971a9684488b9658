import numpy as np

from datamodels.analyze.quality.noise import Noise
from datamodels.analyze.what_if import pool, size
from datamodels.analyze.what_if.counterfactual import before_interval, counterfactual
from datamodels.analyze.what_if.retrain import Retrainer
from datamodels.fit.data import problem
from datamodels.fit.solve import fit
from datamodels.run import designs, runs, specs
from datamodels.testing import linear
from tests.analyze.what_if.test_support import solve

M = 300
LASSO = {"fit": {"estimator": "lasso"}}


def test_the_interval_of_the_whole_pool_covers_models_that_the_prediction_misses():
    """Real models: naive Bayes on digits. Most predictions for the whole pool are too high."""
    options = {"train": 100, "test": 100}
    document = {"name": "size", "dataset": {"load": "datamodels.train.workloads.digits:load", "options": options}}
    spec = specs.parse(document | {"trainer": {"class": "datamodels.train.workloads.text:NaiveBayes"}, "m": M} | LASSO)
    dataset = runs.load_dataset(spec)
    run, masks = runs.resolve(spec, dataset), designs.subsets(runs.resolve(spec, dataset).design, 0, M)
    retrainer = Retrainer(run, dataset, 5)
    outputs = retrainer.singles(list(designs.unpack(masks, run.design.columns)))
    solution = fit(problem.of_run(run, masks, outputs, np.arange(M)), spec.fit, 0)
    true = retrainer.outputs([pool.whole(run)])[0].mean(axis=0)
    predicted = solution.predict(pool.whole(run)[None])[0]
    noise = Noise(np.full(run.n, 0.2), np.full(run.n, 0.3))
    low, high = np.array([before_interval(run, solution, noise, j) for j in range(run.n)]).T
    assert (predicted > true).mean() > 0.75
    assert ((low <= true) & (true <= high)).mean() >= 0.95


def test_a_set_of_the_size_of_the_subsets_has_no_size_effect():
    run = linear.make_run()
    found = size.size_effect(run, solve(linear.theta()).theta, np.arange(linear.D) < linear.D // 2)
    assert np.abs(found.effect).max() < 1e-12 and found.error.max() < 1e-12


def test_the_effect_and_its_error_are_sums_over_the_columns_beyond_the_subsets():
    run, theta = linear.make_run(alpha=0.25), linear.theta().astype(np.float64)
    found = size.size_effect(run, solve(linear.theta()).theta, pool.whole(run))
    np.testing.assert_allclose(found.effect, 0.75 * theta.sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.error, 0.75 * np.sqrt((theta**2).sum(axis=1)), rtol=1e-6)


def test_each_stratum_has_its_own_size():
    """Classes of a stratified design that are complete in a set, beside classes at the share of the subsets."""
    run = linear.make_run(design={"kind": "stratified"})
    whole_class = np.arange(linear.D) % 4 == 2
    half = np.isin(np.arange(linear.D) % 4, (0, 1, 3)) & (np.arange(linear.D) < linear.D // 2)
    theta = linear.theta().astype(np.float64)
    found = size.size_effect(run, solve(linear.theta()).theta, whole_class | half)
    np.testing.assert_allclose(found.effect, 0.5 * theta[:, whole_class].sum(axis=1), rtol=1e-6)


def test_intervals_of_counterfactuals_know_the_size_of_their_sets():
    run, noise = linear.make_run(), Noise(np.full(linear.N, 0.2), np.full(linear.N, 0.1))

    def asked(base):
        empty = pool.NO_COLUMNS
        return counterfactual(
            run, solve(linear.theta()), noise, 100, targets=np.array([0]), base=base, remove=np.array([3]), add=empty
        )

    half, whole = asked(np.arange(linear.D) < linear.D // 2), asked(pool.whole(run))
    effect = 0.5 * linear.theta()[0].astype(np.float64).sum()
    for found in (half, whole):
        assert found.before_interval[0, 0] < found.before[0] < found.before_interval[0, 1]
    assert np.ptp(whole.before_interval) > effect > np.ptp(half.before_interval)
    assert np.ptp(whole.after_interval) > effect > np.ptp(half.after_interval) - 4 * 0.5
