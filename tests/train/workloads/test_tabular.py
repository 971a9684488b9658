import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from datamodels.errors import SpecError
from datamodels.train import Dataset
from datamodels.train.workloads.tabular import FLOOR, Tabular, load_breast_cancer, load_diabetes

LOGISTIC = {"estimator": "sklearn.linear_model:LogisticRegression", "params": {"C": 0.1}}


def blobs(labels=(0, 1, 2), count=90):
    generator = np.random.default_rng(0)
    y = np.repeat(labels, count // len(labels))
    x = generator.standard_normal((len(y), 4)) * 0.3 + np.asarray(y)[:, None] * [1, -1, 0.5, 0]
    order = generator.permutation(len(y))
    return Dataset(x=x[order][10:], y=y[order][10:], x_test=x[order][:10], y_test=y[order][:10])


def build(data, kind="test", **options):
    return Tabular(data, data.targets(kind), **options)


def test_margins_are_log_odds_of_the_estimators_probabilities():
    data = blobs()
    trainer, subset = build(data, **LOGISTIC), np.arange(0, 80, 2)
    found = trainer.outputs(trainer.train(subset, 0))
    probability = LogisticRegression(C=0.1).fit(data.x[subset], data.y[subset]).predict_proba(data.x_test)
    for p, y, margin in zip(probability, data.y_test, found, strict=True):
        np.testing.assert_allclose(margin, np.log(p[y] / max(np.delete(p, y))))


def test_the_loss_is_minus_the_log_probability():
    data = blobs()
    trainer, subset = build(data, output="loss", **LOGISTIC), np.arange(0, 80, 2)
    probability = LogisticRegression(C=0.1).fit(data.x[subset], data.y[subset]).predict_proba(data.x_test)
    expected = -np.log(probability[np.arange(10), data.y_test])
    np.testing.assert_allclose(trainer.outputs(trainer.train(subset, 0)), expected, rtol=1e-9)


def test_a_class_missing_from_the_subset_gets_the_floor():
    data = blobs()
    trainer = build(data, output="loss", **LOGISTIC)
    losses = trainer.outputs(trainer.train(np.flatnonzero(data.y != 1), 0))
    np.testing.assert_allclose(losses[data.y_test == 1], -np.log(FLOOR), rtol=1e-4)
    assert losses[data.y_test != 1].max() < 1


def test_a_subset_of_one_class_is_a_model_that_is_sure_of_it():
    data = blobs()
    trainer = build(data, **LOGISTIC)
    margins = trainer.outputs(trainer.train(np.flatnonzero(data.y == 2), 0))
    np.testing.assert_allclose(margins, np.where(data.y_test == 2, 1, -1) * -np.log(FLOOR))


@pytest.mark.parametrize("labels", [(0, 1), (0, 1, 2), (3, 7)])
def test_estimators_without_probabilities_give_margins_by_their_decision(labels):
    data = blobs(labels)
    trainer = build(data, estimator="sklearn.svm:LinearSVC")
    margins = trainer.outputs(trainer.train(np.arange(0, 80, 2), 0))
    assert (margins > 0).mean() >= 0.8 and np.isfinite(margins).all()


def test_a_missing_class_is_never_chosen_by_decision():
    data = blobs()
    trainer = build(data, estimator="sklearn.svm:LinearSVC")
    margins = trainer.outputs(trainer.train(np.flatnonzero(data.y != 1), 0))
    assert (margins[data.y_test == 1] < np.log(FLOOR)).all()
    assert (margins[data.y_test != 1] > 0).mean() > 0.7


def test_the_seed_becomes_the_random_state():
    data = load_breast_cancer()
    trainer = build(data, estimator="sklearn.ensemble:RandomForestClassifier", params={"n_estimators": 5})
    subset = np.arange(0, 400, 4)
    first, again, other = (trainer.outputs(trainer.train(subset, seed)) for seed in (2**62, 2**62, 2**62 + 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_regression_records_squared_errors():
    data = load_diabetes()
    trainer = build(data, estimator="sklearn.linear_model:Ridge")
    model = trainer.train(np.arange(150), 0)
    expected = (model.predict(data.x_test) - data.y_test) ** 2
    np.testing.assert_allclose(trainer.outputs(model), expected)
    assert expected.mean() < 0.8  # of a variance of 1


def test_gradient_boosting_learns_a_real_table():
    data = load_breast_cancer()
    trainer = build(data, params={"max_iter": 20})
    margins = trainer.outputs(trainer.train(np.arange(0, 400, 2), 1))
    assert (margins > 0).mean() > 0.9


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"estimator": "sklearn.nowhere:Thing"}, "trainer.options.estimator = 'sklearn.nowhere:Thing': cannot be imp"),
        ({"estimator": "builtins:dict"}, "trainer.options.estimator = 'builtins:dict'.* not a scikit-learn estimator"),
        ({**LOGISTIC, "params": {"colour": 1}}, "colour"),
        ({**LOGISTIC, "output": "squared_error"}, "must be loss or margin"),
        ({"estimator": "sklearn.linear_model:Ridge", "output": "margin"}, "must be squared_error"),
    ],
)
def test_faulty_options_are_refused(options, fault):
    with pytest.raises(SpecError, match=fault):
        build(blobs(), **options)


def test_a_classifier_needs_two_classes():
    with pytest.raises(SpecError, match="all examples are of class 4"):
        build(blobs((4,)), **LOGISTIC)
