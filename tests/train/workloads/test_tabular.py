import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from datamodels.errors import SpecError
from datamodels.train import Dataset
from datamodels.train.workloads.tabular import FLOOR, Tabular, load_breast_cancer, load_diabetes

LOGISTIC = {"estimator": "sklearn.linear_model:LogisticRegression", "params": {"C": 0.1}}


def blobs(labels=(0, 1, 2), count=90, spread=None):
    generator = np.random.default_rng(0)
    y = np.repeat(labels, count // len(labels))
    place = np.repeat(labels if spread is None else spread, count // len(labels))
    x = generator.standard_normal((len(y), 4)) * 0.3 + place[:, None] * [1, -1, 0.5, 0]
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
        ({"estimator": "sklearn.linear_model:Ridge", "output": "margin"}, "must be prediction or squared_error"),
        ({"estimator": "sklearn.cluster:KMeans"}, "KMeans: learns no labels: name a classifier or a regressor"),
        ({"estimator": "sklearn.ensemble:IsolationForest"}, "IsolationForest: learns no labels"),
        ({"estimator": "sklearn.decomposition:PCA"}, "PCA: learns no labels"),
        ({"estimator": "sklearn.mixture:GaussianMixture"}, "GaussianMixture: learns no labels"),  # predicts a part
    ],
)
def test_faulty_options_are_refused(options, fault):
    with pytest.raises(SpecError, match=fault):
        build(blobs(), **options)


def test_a_classifier_needs_two_classes():
    with pytest.raises(SpecError, match="all examples are of class 4"):
        build(blobs((4,)), **LOGISTIC)


class Scored:
    """A classifier by the nearest mean. `by` says which layout its scores have."""

    def __init__(self, by="square"):
        self.by = by

    def get_params(self, deep=True):
        return {"by": self.by}

    def set_params(self, **params):
        return self

    def __sklearn_tags__(self):
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier", target_tags=TargetTags(required=True), classifier_tags=ClassifierTags()
        )

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        self.means = np.stack([x[y == c].mean(axis=0) for c in self.classes_])
        return self

    def near(self, x):
        return -((x[:, None] - self.means) ** 2).sum(axis=2)

    def predict(self, x):
        return self.classes_[self.near(x).argmax(axis=1)]

    def decision_function(self, x):
        near = self.near(x)
        match self.by:
            case "square":
                return near
            case "second":
                return near[:, 1] - near[:, 0]
            case "column":
                return (near[:, 1] - near[:, 0])[:, None]
            case "first":
                return near[:, 0] - near[:, 1]
            case "pairs":
                return np.stack([near[:, a] - near[:, b] for a, b in ((0, 1), (0, 2), (1, 2))], axis=1)
            case "turned":
                return near[:, ::-1]
            case "list":
                return [near, near]


HERE = "tests.train.workloads.test_tabular:Scored"


@pytest.mark.parametrize(
    ("by", "labels"), [("square", (0, 1, 2)), ("square", ("a", "b")), ("second", (0, 1)), ("column", ("no", "yes"))]
)
def test_margins_agree_with_what_the_classifier_predicts(by, labels):
    data = blobs(labels, spread=range(len(labels)))
    trainer = build(data, kind="train", estimator=HERE, params={"by": by})
    model = trainer.train(np.arange(0, 80, 2), 0)
    np.testing.assert_array_equal(trainer.outputs(model) > 0, model.predict(data.x) == data.y)


@pytest.mark.parametrize(
    ("by", "labels", "fault"),
    [
        (
            "first",
            (0, 1),
            r"Scored: its decision_function and its predict name the same class for \d+% of \d+ examples",
        ),
        ("pairs", (0, 1, 2), r"its decision_function and its predict name the same class for \d+% of"),
        ("turned", (0, 1, 2), r"its decision_function and its predict name the same class for \d+% of"),
        ("second", (0, 1, 2), r"gives an array of shape \[\d+\] for \d+ examples of 3 classes: must have a column for"),
        ("list", (0, 1, 2), r"gives an array of shape \[2, \d+, 3\] for \d+ examples"),
    ],
)
def test_another_layout_of_scores_is_refused(by, labels, fault):
    data = blobs(labels)
    trainer = build(data, estimator=HERE, params={"by": by})
    with pytest.raises(SpecError, match=fault):
        trainer.outputs(trainer.train(np.arange(0, 80, 2), 0))


def test_a_support_vector_machine_of_pairs_is_told_what_to_set():
    options = {"estimator": "sklearn.svm:SVC", "params": {"decision_function_shape": "ovo"}}
    for labels in ((0, 1, 2), (0, 1, 2, 3)):
        trainer = build(blobs(labels), **options)
        with pytest.raises(SpecError, match="set decision_function_shape: ovr"):
            trainer.outputs(trainer.train(np.arange(0, 78, 2), 0))
    right = build(blobs((0, 1, 2, 3)), estimator="sklearn.svm:SVC")
    assert (right.outputs(right.train(np.arange(0, 78, 2), 0)) > 0).mean() >= 0.8


def test_a_classifier_without_scores_is_refused():
    params = {"estimators": [], "voting": "hard"}
    trainer = build(blobs(), estimator="sklearn.ensemble:VotingClassifier", params=params)
    with pytest.raises(SpecError, match="LabelOnly: has neither predict_proba nor decision_function"):
        trainer.outputs(LabelOnly())


class LabelOnly:
    classes_ = np.arange(3)

    def predict(self, x):
        return np.zeros(len(x), dtype=int)


def test_predictions_of_a_regressor_may_be_a_column():
    data = load_diabetes()
    trainer = build(data, estimator="sklearn.linear_model:Ridge")
    model = trainer.train(np.arange(150), 0)
    expected = trainer.outputs(model)
    plain = model.predict
    model.predict = lambda x: plain(x)[:, None]
    np.testing.assert_array_equal(trainer.outputs(model), expected)
    model.predict = lambda x: np.stack([plain(x)] * 2, axis=1)
    with pytest.raises(SpecError, match=r"Ridge: its predict gives an array of shape \[142, 2\] for 142 examples"):
        trainer.outputs(model)


@pytest.mark.parametrize(
    ("y", "estimator", "fault"),
    [
        (np.zeros((6, 2), int), "LogisticRegression", r"dataset: y has shape \[6, 2\]: must have one label for each"),
        (np.zeros((6, 2, 2)), "Ridge", r"dataset: y has shape \[6, 2, 2\]: .* or several in a row of y"),
        (["a", "b"] * 3, "Ridge", "dataset: y holds texts, but the estimator is a regressor; give numbers"),
        (
            [0.5, 1.0] * 3,
            "LogisticRegression",
            "dataset: y has 0.5, but the estimator is a classifier; give classes",
        ),
    ],
)
def test_labels_that_an_estimator_cannot_learn_are_refused(y, estimator, fault):
    data = Dataset(x=np.arange(6.0)[:, None], y=y, x_test=np.zeros((2, 1)), y_test=y[:2])
    with pytest.raises(SpecError, match=fault):
        build(data, estimator=f"sklearn.linear_model:{estimator}")
