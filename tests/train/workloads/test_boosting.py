"""Boosted trees by name, and estimators for several numbers per example."""

import dataclasses

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import mean_pinball_loss

from datamodels.errors import SpecError
from datamodels.train import Dataset
from datamodels.train.workloads.boosting import NAMES, numbered
from datamodels.train.workloads.tabular import FLOOR, Tabular

BY_NAME = pytest.mark.parametrize("name", NAMES)
SMALL = {"n_estimators": 20}
SEED = 2**62 + 2**32 - 1


def shuffled(x, y, tests=30):
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order], y[order]
    return Dataset(x=x[tests:], y=y[tests:], x_test=x[:tests], y_test=y[:tests])


def build(name, data, **options):
    if name in NAMES:
        pytest.importorskip(name, reason=f"needs {name}; the extra boosting brings it")
    return Tabular(data, data.targets("test"), estimator=name, **options)


@pytest.fixture(scope="module")
def wine():
    return shuffled(*load_wine(return_X_y=True))


@pytest.fixture(scope="module")
def two_numbers():
    x, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    return shuffled(x, np.stack([y, 2 * y + x[:, 2]], axis=1))


@BY_NAME
def test_margins_are_log_odds_also_if_a_subset_lacks_a_class(wine, name):
    trainer = build(name, wine, params=SMALL)
    for subset in (np.arange(0, 148, 2), np.flatnonzero(wine.y != 1), np.flatnonzero(wine.y != 0)):
        model = trainer.train(subset, SEED)
        probability = np.full((30, 3), FLOOR)
        probability[:, np.unique(wine.y[subset])] = model.predict_proba(wine.x_test)
        logits = np.log(probability.clip(FLOOR))
        right = np.arange(3) == wine.y_test[:, None]
        expected = logits[right] - np.where(right, -np.inf, logits).max(axis=1)
        np.testing.assert_allclose(trainer.outputs(model), expected, rtol=1e-6)
        assert (expected > 0).mean() > 0.5


@BY_NAME
def test_classes_may_have_names(wine, name):
    names = np.array(["red", "green", "blue"])
    named = Dataset(x=wine.x, y=names[wine.y], x_test=wine.x_test, y_test=names[wine.y_test])
    trainer = build(name, named, params=SMALL)
    assert (trainer.outputs(trainer.train(np.arange(0, 148, 2), 0)) > 0).mean() > 0.8


@BY_NAME
def test_the_seed_decides_what_is_drawn(wine, name):
    draw = {"subsample": 0.7} | ({"subsample_freq": 1} if name == "lightgbm" else {})
    trainer = build(name, wine, params=SMALL | draw)
    first, again, other = (trainer.outputs(trainer.train(np.arange(0, 148, 2), seed)) for seed in (SEED, SEED, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("name", [*NAMES, "sklearn.linear_model:Ridge", "sklearn.svm:SVR"])
def test_several_numbers_per_example_are_one_mean_error(two_numbers, name):
    trainer = build(name, two_numbers)
    model = trainer.train(np.arange(0, 400, 2), 1)
    predicted = model.predict(two_numbers.x_test)
    assert predicted.shape == (30, 2)
    expected = ((predicted - two_numbers.y_test) ** 2).mean(axis=1)
    np.testing.assert_allclose(trainer.outputs(model), expected, rtol=1e-5)


def test_hazards_are_recorded_as_they_are_and_have_no_squared_error(two_numbers):
    """Their labels are times, below 0 if nothing happened by then."""
    data = dataclasses.replace(two_numbers, y=two_numbers.y[:, 0], y_test=two_numbers.y_test[:, 0])
    given = {"params": SMALL | {"objective": "survival:cox"}}
    with pytest.raises(SpecError, match="objective rank_xendcg are on another scale"):
        build("lightgbm", two_numbers, params={"application": "rank_xendcg"})  # for two numbers, in another estimator
    with pytest.raises(
        SpecError, match=r"objective survival:cox are on another scale than y.*set .*output: prediction"
    ):
        build("xgboost", data, **given)
    trainer = build("xgboost", data, **given, output="prediction")
    model = trainer.train(np.arange(0, 400, 2), 1)
    np.testing.assert_array_equal(trainer.outputs(model), model.predict(data.x_test))


@pytest.mark.filterwarnings("ignore:Found 'application' in params")
@pytest.mark.parametrize(
    ("name", "params", "quantile", "numbers"),
    [
        ("xgboost", SMALL | {"objective": "reg:quantileerror", "quantile_alpha": 0.8}, 0.8, 1),
        ("lightgbm", SMALL | {"objective": "quantile", "alpha": 0.3}, 0.3, 2),
        ("lightgbm", SMALL | {"application": "quantile"}, 0.9, 1),
        ("sklearn.ensemble:GradientBoostingRegressor", SMALL | {"loss": "quantile", "alpha": 0.7}, 0.7, 2),
        (
            "sklearn.ensemble:HistGradientBoostingRegressor",
            {"loss": "quantile", "quantile": 0.2, "max_iter": 5},
            0.2,
            1,
        ),
        ("sklearn.linear_model:QuantileRegressor", {"quantile": 0.6, "alpha": 0.001}, 0.6, 1),
    ],
)
def test_quantiles_are_recorded_with_their_own_loss_or_as_they_are(two_numbers, name, params, quantile, numbers):
    """A squared error would be least for predictions of the mean, so examples that bring them there would help."""
    y, y_test = (labels if numbers == 2 else labels[:, 0] for labels in (two_numbers.y, two_numbers.y_test))
    data = dataclasses.replace(two_numbers, y=y, y_test=y_test)
    with pytest.raises(SpecError, match=rf"output: is missing: \w+ predicts the {quantile} quantile of y.* to pinball"):
        build(name, data, params=params)
    trainer = build(name, data, params=params, output="pinball")
    model = trainer.train(np.arange(0, 400, 2), 1)
    predicted = model.predict(data.x_test).reshape(30, -1)
    losses = [
        [mean_pinball_loss([a], [b], alpha=quantile) for a, b in zip(np.atleast_1d(right), said, strict=True)]
        for right, said in zip(data.y_test, predicted, strict=True)
    ]
    np.testing.assert_allclose(trainer.outputs(model), np.mean(losses, axis=1), rtol=1e-4)
    plain = build(name, data, params=params, output="prediction")
    np.testing.assert_allclose(plain.outputs(model), predicted.mean(axis=1), rtol=1e-5)


def test_numbers_are_those_of_the_estimator_alone(two_numbers):
    trainer = build("sklearn.linear_model:Ridge", two_numbers)
    expected = Ridge().fit(two_numbers.x[:50], two_numbers.y[:50]).predict(two_numbers.x_test)
    np.testing.assert_allclose(trainer.train(np.arange(50), 0).predict(two_numbers.x_test), expected)


@pytest.mark.parametrize("name", [*NAMES, "sklearn.tree:DecisionTreeClassifier"])
def test_several_classes_per_example_are_refused(wine, name):
    labels = np.stack([wine.y > 0, wine.y > 1], axis=1).astype(int)
    several = Dataset(x=wine.x, y=labels, x_test=wine.x_test, y_test=labels[:30])
    with pytest.raises(SpecError, match=r"y has shape \[148, 2\]: must have one label for each example"):
        build(name, several)


def test_a_classifier_gets_numbers_and_gives_labels(wine):
    labels = np.array([7, 3, 9])[wine.y]
    found = numbered(LogisticRegression(C=0.01, max_iter=5000)).fit(wine.x, labels)
    assert found.classes_.tolist() == [3, 7, 9] and found.inner.classes_.tolist() == [0, 1, 2]
    assert (found.predict(wine.x) == labels).mean() > 0.6
    assert type(found).__name__ == "LogisticRegression"
