"""The estimator that knows where to look: it uses a prior that helps, and drops one that does not."""

import dataclasses
import threading

import numpy as np
import pytest

from datamodels.aggregate import manifest
from datamodels.analyze.quality.unseen import Unseen
from datamodels.errors import SpecError
from datamodels.fit.data import examples, problem
from datamodels.fit.data.means import Heldout
from datamodels.fit.job.finished import read_fit
from datamodels.fit.job.fits import load
from datamodels.fit.job.job import FitJob
from datamodels.fit.lasso import gram
from datamodels.fit.pairs import pairs
from datamodels.fit.pairs.gradients import GradientScores
from datamodels.fit.pairs.pairs import Pairs
from datamodels.fit.residual import folds, kept, sample, scores
from datamodels.fit.solve import fit
from datamodels.run import designs, runs, specs
from datamodels.run.specs import FitSpec
from datamodels.settings import FitterSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import committed, reference
from tests.fit.solutions import same

PRIOR = FitSpec(estimator="prior", lambdas=8)
LASSO = FitSpec(estimator="lasso", lambdas=8)
D, TARGETS = 60, 8


def known(*features) -> Pairs:
    """Features of pairs that are given as arrays [n, d]."""
    names = tuple(f"feature {k}" for k in range(len(features)))
    given = np.stack(features).astype(np.float32)
    return Pairs(names, (lambda targets, xp: xp.asarray(given[:, targets]),), None, np.ones(given.shape[2], dtype=bool))


@pytest.fixture
def problem_of(made_problem):
    """Makes (problem, its true weights [n, d], features of which the first is like them, by a factor)."""

    def make(m=120, own=None, noise=1.0, seed=0):
        made, x = made_problem(d=D, m=m, n=TARGETS, own=own, seed=seed)
        rng = np.random.default_rng(seed + 1)
        hint = rng.standard_t(3, size=(TARGETS, D))
        truth = (hint + 0.5 * rng.normal(size=hint.shape)) * np.geomspace(1, 3, TARGETS)[:, None]
        y = x @ truth.T
        y = y + noise * y.std(axis=0) * rng.normal(size=y.shape) + 7
        prior = known(hint, rng.normal(size=hint.shape))
        return dataclasses.replace(made, outputs=y.astype(np.float32), prior=prior), truth

    return make


def excess(solution, truth) -> float:
    """Error of the weights over the size of the truth, both less their means, which predict nothing."""
    miss = solution.dense(range(TARGETS)) - truth
    miss -= miss.mean(axis=1, keepdims=True)
    return float((miss**2).sum() / ((truth - truth.mean(axis=1, keepdims=True)) ** 2).sum())


@pytest.mark.parametrize("own", [None, [3, -1, 0, 17, 3, -1, 5, 9], list(range(8))], ids=["test", "both", "train"])
def test_a_prior_that_helps_is_used(problem_of, own):
    made, truth = problem_of(own=own)
    solution = fit(made, PRIOR, 0)
    assert solution.status == ["ok"] * TARGETS and (solution.gap <= PRIOR.tolerance).all()
    assert solution.choice["way"].startswith("prior")
    assert solution.choice["errors"][solution.choice["way"]] == min(solution.choice["errors"].values())
    assert set(solution.choice["features"]) == {"feature 0", "feature 1"}
    if own is not None:
        truth = np.where(np.arange(D) == np.array(own)[:, None], solution.dense(range(TARGETS)), truth)
    assert excess(solution, truth) < 0.5 * excess(fit(made, LASSO, 0), truth)
    x, y = reference.design_of(made, 2)
    assert solution.intercept[2] == pytest.approx((y - x @ solution.dense([2])[0]).mean(), abs=1e-3)
    rest = y - x @ solution.dense([2])[0]
    assert rest.var() < 0.7 * y.var()
    assert np.isfinite(solution.heldout_r2).all()
    # What was not measured is the prior mean: the features by their factors, by one scale for each target.
    guess = np.tensordot(list(solution.choice["features"].values()), made.prior.of(np.arange(TARGETS)), 1)
    for j in range(TARGETS):
        columns, weights = solution.row(j)
        rest = weights - solution.measured_at(np.full(len(columns), j), columns)
        like, whole = (np.corrcoef(part, guess[j, columns])[0, 1] for part in (rest, weights))
        assert like > 0.995 and 1 - like < 0.5 * (1 - whole)


def test_more_models_leave_less_to_the_prior(problem_of):
    shares = []
    for m in (60, 2000):
        made, _ = problem_of(m=m, noise=0.2)
        choice = fit(made, PRIOR, 0).choice
        shares.append(choice["errors"][choice["way"]] / choice["errors"]["prior alone"])
    assert shares[1] < 0.6 * shares[0]


def test_a_prior_of_noise_is_the_lasso_of_the_same_choice(problem_of):
    made, _ = problem_of(m=600, noise=0.1)
    noise = known(*np.random.default_rng(9).normal(size=(3, TARGETS, D)))
    found = fit(dataclasses.replace(made, prior=noise), PRIOR, 0)
    assert found.choice["way"] in (scores.LASSO, scores.LASSO_SHARED) and not found.choice["features"]
    assert found.measured is None
    without = fit(made, PRIOR.model_copy(update={"estimator": "pooled"}), 0)
    assert same(dataclasses.replace(found, choice=None), dataclasses.replace(without, choice=None))


def measured(made, *folds):
    """The problem with scores by gradients, [n, d] of the models of each fold, beside its other features."""
    scores = GradientScores(20, 1.0, [np.stack(folds).astype(np.float32)])
    return dataclasses.replace(made, prior=dataclasses.replace(made.prior, gradients=scores))


def test_gradients_are_used_if_they_help(problem_of):
    made, truth = problem_of()
    noise = known(*np.random.default_rng(9).normal(size=(2, TARGETS, D)))
    made, rng = dataclasses.replace(made, prior=noise), np.random.default_rng(3)
    given = measured(made, *(truth + rng.normal(size=truth.shape) for _ in range(problem.FOLDS)))
    found, without = fit(given, PRIOR, 0), fit(made, PRIOR, 0)
    assert excess(found, truth) < 0.5 * excess(without, truth)
    errors = found.choice["errors"]
    assert errors[scores.PRIOR] < errors[scores.INPUTS]
    assert found.choice["prior"] == "inputs + gradients of 20 models"
    assert abs(found.choice["features"]["gradients of 20 models"]) > 0


def test_gradients_may_be_all_that_is_known(problem_of):
    made, truth = problem_of()
    alone = dataclasses.replace(made, prior=Pairs((), (), None, np.ones(D, dtype=bool)))
    rng = np.random.default_rng(3)
    found = fit(measured(alone, *(truth + rng.normal(size=truth.shape) for _ in range(problem.FOLDS))), PRIOR, 0)
    assert found.choice["prior"] == "gradients of 20 models" and found.choice["errors"][scores.INPUTS] > 0.99
    assert excess(found, truth) < 0.5 * excess(fit(made, LASSO, 0), truth)


def test_gradients_that_say_nothing_cost_nothing(problem_of):
    made, truth = problem_of()
    useless = measured(made, *np.random.default_rng(9).normal(size=(problem.FOLDS, *truth.shape)))
    found, without = fit(useless, PRIOR, 0), fit(made, PRIOR, 0)
    assert found.choice["prior"] == without.choice["prior"] == "inputs"
    assert found.choice["features"].pop("gradients of 20 models") == 0
    assert found.choice["features"] == pytest.approx(without.choice["features"])
    np.testing.assert_allclose(found.dense(range(TARGETS)), without.dense(range(TARGETS)), atol=1e-3)


@pytest.mark.parametrize("everywhere", [False, True], ids=["in their fold", "in all folds"])
def test_scores_of_models_never_judge_these_models(problem_of, everywhere):
    """The outputs are noise, and scores know it: those of each fold know the outputs of the fold's own models. Unless
    they are left out, their predictions seem to be good."""
    made, _ = problem_of()
    outputs = np.random.default_rng(4).normal(size=made.outputs.shape).astype(np.float32)
    made = dataclasses.replace(made, outputs=outputs, prior=known(np.ones((TARGETS, D))))
    x = designs.unpack(made.masks, D) - made.center
    peeking = [(outputs * (problem.fold_of(made.pairs) == fold)[:, None]).T @ x for fold in range(problem.FOLDS)]
    given = measured(made, *([np.sum(peeking, axis=0)] * problem.FOLDS if everywhere else peeking))
    found = fit(given, PRIOR, 0).choice
    assert (found["errors"][scores.PRIOR] < 0.9) == everywhere
    if not everywhere:
        assert found["errors"][scores.PRIOR] > 0.99 and not found["features"].get("gradients of 20 models")


def test_the_lasso_with_one_lambda_is_the_lasso_at_this_lambda(problem_of):
    made, _ = problem_of(m=80, noise=2.0)
    settings = FitSpec(estimator="pooled", lambdas=8, tolerance=1e-5, max_epochs=2000)
    found = fit(made, settings, 0)
    assert found.choice["way"] == scores.LASSO_SHARED
    for j in range(TARGETS):
        x, y = reference.design_of(made, j)
        lambda_ = found.choice["strength"] * y.std() * np.sqrt(2 * np.log(D) / len(y)) / 2
        assert found.lambda_[j] == pytest.approx(lambda_, rel=1e-5)
        theta, intercept, _ = reference.lasso(x, y, lambda_)
        ours = reference.objective(x, y, found.dense([j])[0], found.intercept[j], lambda_)
        assert ours == pytest.approx(reference.objective(x, y, theta, intercept, lambda_), rel=1e-4)


def test_outputs_that_are_mostly_noise_keep_weights(problem_of):
    made, _ = problem_of(m=60, noise=4.0, seed=1)
    found = fit(made, FitSpec(estimator="pooled", lambdas=8), 0)
    assert min(found.choice["errors"].values()) >= 1 and found.choice["by_order"]
    assert found.dense(range(TARGETS)).any(axis=1).sum() > TARGETS / 2


def heldout(error, correlation) -> Heldout:
    return Heldout(np.full(4, error), np.full(4, correlation))


@pytest.mark.parametrize("most, expected", [(0.99, ("little", 0.5)), (1.0, ("much", 0.1))])
def test_correlations_choose_if_no_error_is_below_1(most, expected):
    errors = scores.Errors()
    for way, strength, error, correlation in [
        ("little", 0.5, most, 0.0),
        ("much", 0.5, 1.2, 0.1),
        ("much", 0.1, 1.3, 0.2),
    ]:
        errors.add(way, strength, heldout(error * 7, correlation), np.full(4, 7.0))
    ways = errors.best()
    assert next(iter(ways.items())) == (expected[0], (expected[1], pytest.approx(most if most < 1 else 1.3)))
    assert errors.by_order == (most >= 1)


def test_lambdas_are_interpolated_and_a_prior_must_take_off_half_a_percent():
    def parabola(strength, lowest):
        return lowest + np.log2(strength / 3) ** 2 / 10

    for gain, expected in [(0.001, scores.LASSO_SHARED), (0.01, scores.WEIGHTED)]:
        errors = scores.Errors()
        for way, lowest in [(scores.LASSO_SHARED, 0.5), (scores.WEIGHTED, 0.5 * (1 - gain))]:
            for strength in (1.0, 2.0, 4.0, 8.0):
                errors.add(way, strength, heldout(parabola(strength, lowest), 0.1), np.ones(4))
        ways = errors.best()
        assert next(iter(ways)) == expected and errors.best_tried(expected) == 4
        assert ways[scores.LASSO_SHARED] == pytest.approx((3, 0.5))


def test_pairs_of_models_are_held_out_together(problem_of):
    made, _ = problem_of(m=120)
    index = np.random.default_rng(0).permutation(240)[:120]  # half of the models failed, and the rest is in any order
    made = dataclasses.replace(made, order=np.argsort(index), pair=index // 2)
    for fold in folds.folds(made, np.arange(3)):
        held = set(index[fold.heldout].tolist())
        assert 0.1 < len(held) / 120 < 0.3
        assert not {i ^ 1 for i in held} & set(index[~fold.heldout].tolist())


def test_without_a_gram_the_same_is_found(problem_of, monkeypatch):
    """As with more columns than a Gram is made for: products and LASSOs read the rows."""
    made, _ = problem_of(m=200, noise=2.0)
    by_gram = fit(made, PRIOR, 0)
    monkeypatch.setattr(sample, "GRAM_COLUMNS", 0)
    monkeypatch.setattr(gram, "GRAM_BYTES", 0)
    monkeypatch.setattr(folds, "FEATURE_BYTES", 0)
    streamed = fit(made, PRIOR, 0)
    assert by_gram.choice["way"] == streamed.choice["way"] == scores.RIDGE
    assert streamed.choice["errors"] == pytest.approx(by_gram.choice["errors"], rel=0.02)
    theirs = by_gram.dense(range(TARGETS))
    np.testing.assert_allclose(streamed.dense(range(TARGETS)), theirs, rtol=2 / 2**kept.BITS, atol=1e-3)


def test_a_problem_without_features_is_refused(problem_of):
    made, _ = problem_of()
    with pytest.raises(SpecError, match="has no features of pairs"):
        fit(dataclasses.replace(made, prior=None), PRIOR, 0)


SPEC = {
    "name": "cancer",
    "dataset": {"load": "datamodels.train.workloads.tabular:load_breast_cancer", "options": {"train": 40}},
    "trainer": {"class": "a:B"},
    "m": 60,
    "chunk": 20,
    "sub_chunk": 10,
    "evaluate": {"subsets": 3, "models": 2},
    "fit": {"estimator": "prior", "lambdas": 6},
}


def fitted(folder, unseen=0.0, **fields):
    """(store, record, solution) of a run; `unseen` is added to the outputs of its last model on unseen subsets."""
    store = LocalStore(str(folder / "store"))
    made = specs.parse(SPEC | fields)
    dataset = runs.load_dataset(made)
    run = runs.resolve(made, dataset)
    runs.create(store, run)
    examples.write(store, run, dataset)

    def outputs(run, models):
        found = committed.outputs_of(run, models)
        found[np.array(models, dtype=int) == run.spec.models - 1] += unseen
        return found

    committed.commit(store, run, outputs=outputs)
    settings = FitterSettings(scratch=str(folder / "scratch"))
    record = FitJob(store, run.name).solve(settings, progress=lambda *_: None, stop=threading.Event())
    return store, record, load(store, record)


def depends_on_unseen(folder, honest=None) -> bool:
    """Whether any figure of a fit changes with the outputs of models on unseen subsets."""
    one = honest or fitted(folder / "a")
    return not same(one[2], fitted(folder / "b", unseen=5.0)[2])


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("honest"))


def test_nothing_is_fitted_or_chosen_on_unseen_subsets(tmp_path, honest):
    assert not depends_on_unseen(tmp_path, honest)


def test_a_prior_that_peeks_at_unseen_subsets_is_caught(tmp_path, monkeypatch):
    honest, folder = pairs.of_run, iter(("a", "b"))

    def peeking(run, known):
        store = LocalStore(str(tmp_path / next(folder) / "store"))
        unseen = Unseen.read(run, manifest.read_newest(store, run.name), store)
        outputs = unseen.outputs.mean(axis=1)
        found = ((outputs - outputs.mean(axis=0)).T @ (unseen.members - 0.5)).astype(np.float32)
        given = honest(run, known)
        names, blocks = (*given.given, "peeking"), (*given.blocks, lambda targets, xp: found[None, targets])
        return dataclasses.replace(given, given=names, blocks=blocks)

    monkeypatch.setattr(pairs, "of_run", peeking)
    assert depends_on_unseen(tmp_path)


def test_a_fit_of_a_run_tells_what_was_chosen(honest):
    store, record, solution = honest
    assert set(solution.status) == {"ok"} and len(solution.weights)
    assert read_fit(store, record.run, record.number).choice == record.choice == solution.choice
    way, errors = record.choice["way"], record.choice["errors"]
    assert {scores.LASSO, scores.PRIOR, scores.RIDGE} <= set(errors)
    assert record.chosen.startswith(f"{way}, error {errors[way]:.3f} (others: ")
    assert f"{scores.LASSO} {errors[scores.LASSO]:.3f}" in record.chosen or way == scores.LASSO


UNKNOWN = {"load": "datamodels.exchange.absent:load", "options": {"examples": 40, "targets": 5}}


def test_examples_that_say_nothing_leave_the_choice_of_pooled(tmp_path):
    _, record, solution = fitted(tmp_path / "a", dataset=UNKNOWN, fit={"lambdas": 6})
    assert record.estimator == "prior" and record.choice["way"] in (scores.LASSO, scores.LASSO_SHARED)
    assert record.chosen.endswith("; no prior: run " + record.run + ": its examples have neither inputs nor labels")
    _, _, pooled = fitted(tmp_path / "b", dataset=UNKNOWN, fit={"lambdas": 6, "estimator": "pooled"})
    assert same(dataclasses.replace(solution, choice=None), dataclasses.replace(pooled, choice=None))


def test_features_that_are_named_have_to_be_there(tmp_path):
    with pytest.raises(SpecError, match="neither inputs nor labels"):
        fitted(tmp_path, dataset=UNKNOWN, fit={"features": "numpy:asarray"})
