"""Train any scikit-learn estimator, and load small tables that scikit-learn ships."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from datamodels.errors import SpecError
from datamodels.outputs import Output
from datamodels.run.dataset import Dataset, Targets, split
from datamodels.train import outputs
from datamodels.train.workloads import boosting, objectives

AGREE = 0.8
"""Fraction of examples on which a classifier must choose the class that its margins say. Calibration moves a few, and
another layout of the scores most."""
SEEDS = ("random_state", "estimator__random_state", "inner__random_state")
"""Parameters of estimators that take the seed: their own, or that of an estimator in them."""
COMPARED = 500
"""Most examples that are compared."""
ESTIMATOR = "sklearn.ensemble:HistGradientBoostingClassifier"
"""The default estimator."""
FLOOR = 1e-6
"""Smallest probability of a class, which bounds log-odds; also that of a class without examples in a subset."""


def load_breast_cancer(train: int = 400, seed: int = 0) -> Dataset:
    """Return 569 tumours with 30 measurements each, benign or malignant (Wolberg et al. 1995).

    train  examples in the pool; all others are test examples
    seed   of the order in which examples are shuffled

    x is float64[examples, 30], standardised to mean 0 and variance 1; y is int64.
    """
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    names = {"label_names": table.target_names, "feature_names": table.feature_names}
    names = {field: tuple(map(str, found)) for field, found in names.items()}
    return split(_standardised(table.data), table.target.astype(np.int64), train=train, seed=seed, **names)


def load_diabetes(train: int = 300, seed: int = 0) -> Dataset:
    """Return 442 patients with 10 measurements each; y is the progress of a disease after a year (Efron et al. 2004).

    train  examples in the pool; all others are test examples
    seed   of the order in which examples are shuffled

    x is float64[examples, 10] and y is float64. Both are standardised to mean 0 and variance 1, so that squared errors
    are about 1.
    """
    from sklearn.datasets import load_diabetes

    table = load_diabetes()
    names = tuple(map(str, table.feature_names))
    return split(_standardised(table.data), _standardised(table.target), train=train, seed=seed, feature_names=names)


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / x.std(axis=0)


class Tabular:
    """Trains a scikit-learn estimator, one model at a time.

    estimator  its class as module:Class, or lightgbm or xgboost
    params     keyword arguments of the estimator
    output     what is recorded: margin (the default) or loss for classifiers; squared_error (the default) or prediction
               for regressors; pinball, which has no default, or one of these if they predict a quantile of y. If y has
               several numbers per example, it is their mean

    Logits are the log of `predict_proba`, or `decision_function` if the estimator has no `predict_proba`. If the
    estimator has a `random_state`, it is set to the model's seed. LightGBM and XGBoost run on one thread, unless
    `params` has `n_jobs`.

    The first model of a process is compared with its own `predict`; SpecError if its margins say other classes.
    """

    def __init__(
        self,
        dataset: Dataset,
        targets: Targets,
        *,
        estimator: str = ESTIMATOR,
        params: dict[str, Any] | None = None,
        output: str | None = None,
    ):
        from sklearn.base import clone, is_classifier

        self._estimator = _made(estimator, params, dataset.y)
        self._clone = clone
        self._seeds = [name for name in SEEDS if name in self._estimator.get_params()]
        self._classifies = is_classifier(self._estimator)
        _require_predictions(self._estimator, output)
        self._output = outputs.choose(*_choice(self._estimator, output))
        self._x, self._y = dataset.x.reshape(len(dataset.x), -1), dataset.y
        self._x_targets, self._y_targets = targets.x.reshape(len(targets.x), -1), targets.y
        _check_labels(dataset.y, self._classifies)
        self._compared = False
        if self._classifies:
            self._classes = np.unique(np.concatenate([dataset.y, targets.y]))
            self._y_targets = np.searchsorted(self._classes, targets.y)
            if len(self._classes) < 2:
                raise SpecError(
                    f"dataset: all examples are of class {self._classes[0]}; a classifier needs two classes"
                )

    @staticmethod
    def output(
        dataset: Dataset,
        *,
        estimator: str = ESTIMATOR,
        params: dict[str, Any] | None = None,
        output: str | None = None,
    ) -> Output:
        """Return what outputs mean: a margin for classifiers and a squared error for regressors, by default."""
        return outputs.meaning(*_choice(_made(estimator, params, dataset.y), output))

    def train(self, subset: np.ndarray, seed: int) -> Any:
        """Return a fitted estimator, or a model that always predicts one class if the subset has only that class."""
        x, y = self._x[subset], self._y[subset]
        if self._classifies and len(y) and (y == y[0]).all():
            return _OneClass(y[0])
        estimator = self._clone(self._estimator)
        estimator.set_params(**dict.fromkeys(self._seeds, seed % 2**32))
        return estimator.fit(x, y)

    def outputs(self, model: Any) -> np.ndarray:
        """Return outputs, float64[n]."""
        if not self._classifies:
            errors = self._output(_predictions(model, self._x_targets, self._y_targets.shape), self._y_targets)
            return errors.reshape(len(errors), -1).mean(axis=1)
        if not self._compared and not isinstance(model, _OneClass):
            self._compare(model)
            self._compared = True
        return self._output(_logits(model, self._x_targets, self._classes), self._y_targets)

    def _compare(self, model: Any) -> None:
        """Raise SpecError if the logits of some examples say other classes than `predict`."""
        x = np.concatenate([self._x_targets[: COMPARED // 2], self._x[: COMPARED // 2]])
        logits, chosen = _logits(model, x, self._classes), np.asarray(model.predict(x)).reshape(len(x), -1)[:, 0]
        column = np.searchsorted(self._classes, chosen).clip(max=len(self._classes) - 1)
        right = logits[np.arange(len(x)), column] >= logits.max(axis=1)  # several classes may have the largest
        share = np.mean(right & (self._classes[column] == chosen))
        if share < AGREE and np.isfinite(logits).all():
            raise SpecError(
                f"{_name(model)}: its {_source(model)} and its predict name the same class for {share:.0%} of "
                f"{len(x)} examples, so its margins would be wrong; {_advice(model)}"
            )


def _check_labels(y: np.ndarray, classifies: bool) -> None:
    if y.ndim != 1 and (classifies or y.ndim > 2):
        several = (
            "; for several labels of 0 and 1 give y as floats to a regressor, or take "
            "datamodels.train.torch:TorchTrainer with the loss binary_cross_entropy"
            if classifies
            else ", or several in a row of y"
        )
        raise SpecError(f"dataset: y has shape {list(y.shape)}: must have one label for each example{several}")
    if not classifies and y.dtype.kind not in "fiu":
        raise SpecError("dataset: y holds texts, but the estimator is a regressor; give numbers, or name a classifier")
    if classifies and y.dtype.kind == "f" and (y != np.round(y)).any():
        odd = y[y != np.round(y)][0]
        raise SpecError(f"dataset: y has {odd:g}, but the estimator is a classifier; give classes, or name a regressor")


def _require_predictions(estimator: Any, output: str | None) -> None:
    """Raise SpecError if an estimator neither classifies nor predicts y, so that its outputs would mean nothing."""
    from sklearn.base import is_classifier
    from sklearn.utils import get_tags

    # The type is None for estimators that do not say what they are.
    learns = get_tags(estimator).estimator_type in ("classifier", "regressor", None)
    if not learns or not hasattr(estimator, "predict"):
        raise SpecError(f"{_name(estimator)}: learns no labels: name a classifier or a regressor")
    other = None if is_classifier(estimator) else objectives.of_other_scale(estimator)
    if other and output != "prediction":
        raise SpecError(
            f"{_name(estimator)}: its predictions for the objective {other} are on another scale than y, so their "
            "squared error means nothing; set trainer.options.output: prediction"
        )


def _predictions(model: Any, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the predictions of a regressor in the shape of the labels. Raises SpecError for another shape."""
    found = np.asarray(model.predict(x))
    if found.shape not in (shape, (*shape, 1)):
        numbers = "a number" if len(shape) == 1 else f"{shape[1]} numbers"
        raise SpecError(
            f"{_name(model)}: its predict gives {_shape(found)} for {len(x)} examples: must be {numbers} for each"
        )
    return found.reshape(shape)


def _logits(model: Any, x: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return logits float64[n, classes] of a classifier; a class that the model has not seen has the lowest.

    Raises SpecError if the scores of the model have no column for each of its classes.
    """
    known = np.asarray(getattr(model, "classes_", None))
    column = np.searchsorted(classes, known).clip(max=len(classes) - 1) if known.ndim == 1 else np.array([0])
    if known.ndim != 1 or (classes[column] != known).any():
        raise SpecError(
            f"{_name(model)}: its classes_ are {known.tolist()!r:.100}: must be the labels that it was trained on"
        )
    scores = _scores(model, x, len(known))
    if _source(model) == "predict_proba":
        if (scores < -FLOOR).any() or (scores > 1 + FLOOR).any():
            raise SpecError(
                f"{_name(model)}: its predict_proba gives {scores.min():g} to {scores.max():g}: must be 0 to 1"
            )
        logits = np.full((len(x), len(classes)), np.log(FLOOR))
        logits[:, column] = np.log(np.clip(scores, FLOOR, 1))
        return logits
    logits = np.repeat(scores.min(axis=1, keepdims=True) + np.log(FLOOR), len(classes), axis=1)
    logits[:, column] = scores
    return logits


def _scores(model: Any, x: np.ndarray, classes: int) -> np.ndarray:
    """Return what `_source` names of each class of the model, float64[n, classes]."""
    source = _source(model)
    found = getattr(model, source)(x)
    scores = np.stack(found) if isinstance(found, list) else np.asarray(found, dtype=np.float64)
    if classes == 2 and scores.shape in ((len(x),), (len(x), 1)):  # of the second class
        second = scores.reshape(len(x))
        pair = (1 - second, second) if source == "predict_proba" else (-second / 2, second / 2)
        return np.stack(pair, axis=1)
    if scores.shape != (len(x), classes):
        raise SpecError(
            f"{_name(model)}: its {source} gives {_shape(scores)} for {len(x)} examples of {classes} classes: must "
            f"have a column for each class; {_advice(model)}"
        )
    return scores


def _source(model: Any) -> str:
    """Return the method that gives the scores of the classes. Raises SpecError if the model has none."""
    for name in ("predict_proba", "decision_function"):
        if hasattr(model, name):
            return name
    raise SpecError(f"{_name(model)}: has neither predict_proba nor decision_function, so there are no margins")


def _advice(model: Any) -> str:
    if getattr(model, "decision_function_shape", "ovr") == "ovo":
        return "set decision_function_shape: ovr in trainer.options.params"
    return "name another estimator, or write a trainer class of your own"


def _name(model: Any) -> str:
    return f"trainer.options.estimator: {type(model).__name__}"


def _shape(array: np.ndarray) -> str:
    return f"an array of shape {list(array.shape)}"


def _made(estimator: str, params: dict[str, Any] | None, y: np.ndarray) -> Any:
    """Return the scikit-learn estimator that the options name. Raises SpecError if they name none."""
    cls = boosting.estimator(estimator, y)
    fault = f"trainer.options.estimator = {estimator!r}, params = {params!r}"
    try:
        made = boosting.prepared(cls, params or {}, y)
    except TypeError as error:
        raise SpecError(f"{fault}: {error}") from error
    if not hasattr(made, "get_params"):
        raise SpecError(f"{fault}: makes a {type(made).__name__}, not a scikit-learn estimator; name one")
    return made


def _choice(estimator: Any, output: str | None) -> tuple[str, dict[str, Any]]:
    """Return (the name of the output, the outputs that the estimator can have)."""
    from sklearn.base import is_classifier

    if is_classifier(estimator):
        return output or "margin", outputs.OF_LOGITS
    if (quantile := objectives.quantile(estimator)) is None:
        return output or "squared_error", outputs.OF_PREDICTIONS
    if not output:
        raise SpecError(
            f"trainer.options.output: is missing: {type(estimator).__name__} predicts the {quantile:g} quantile of y, "
            "and models near the mean would have the least squared error; set it to pinball, the loss of quantiles, "
            "or to prediction"
        )
    return output, outputs.OF_PREDICTIONS | {"pinball": functools.partial(outputs.pinball, quantile=quantile)}


class _OneClass:
    """A classifier that has seen one class, and always predicts it with probability 1."""

    def __init__(self, label: Any):
        self.classes_ = np.array([label])

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return np.ones((len(x), 1))
