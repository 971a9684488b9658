"""Train any scikit-learn estimator, and load small tables that scikit-learn ships."""

from __future__ import annotations

from typing import Any

import numpy as np

from datamodels.errors import SpecError
from datamodels.run.dataset import Dataset, Targets, split
from datamodels.run.runs import reference
from datamodels.train import outputs

FLOOR = 1e-6
"""Smallest probability of a class, which bounds log-odds; also that of a class without examples in a subset."""


def load_breast_cancer(train: int = 400, seed: int = 0) -> Dataset:
    """Return 569 tumours with 30 measurements each, benign or malignant (Wolberg et al. 1995).

    x is float64[examples, 30], standardised to mean 0 and variance 1; y is int64.
    """
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    names = {"label_names": table.target_names, "feature_names": table.feature_names}
    names = {field: tuple(map(str, found)) for field, found in names.items()}
    return split(_standardised(table.data), table.target.astype(np.int64), train=train, seed=seed, **names)


def load_diabetes(train: int = 300, seed: int = 0) -> Dataset:
    """Return 442 patients with 10 measurements each; y is the progress of a disease after a year (Efron et al. 2004).

    x is float64[examples, 10] and y is float64. Both are standardised to mean 0 and variance 1, so that squared errors
    fit float16.
    """
    from sklearn.datasets import load_diabetes

    table = load_diabetes()
    names = tuple(map(str, table.feature_names))
    return split(_standardised(table.data), _standardised(table.target), train=train, seed=seed, feature_names=names)


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / x.std(axis=0)


class Tabular:
    """Trains a scikit-learn estimator, one model at a time.

    Options: `estimator`, its class as module:Class; `params`, its keyword arguments; `output`: squared_error for
    regressors, margin or loss for classifiers. Logits are the log of `predict_proba`, or `decision_function` if the
    estimator has no `predict_proba`. If the estimator has a `random_state`, it is set to the model's seed.
    """

    def __init__(
        self,
        dataset: Dataset,
        targets: Targets,
        *,
        estimator: str = "sklearn.ensemble:HistGradientBoostingClassifier",
        params: dict[str, Any] | None = None,
        output: str | None = None,
    ):
        from sklearn.base import clone, is_classifier

        cls = reference("trainer.options.estimator", estimator)
        fault = f"trainer.options.estimator = {estimator!r}, params = {params!r}"
        try:
            self._estimator = cls(**(params or {}))
        except TypeError as error:
            raise SpecError(f"{fault}: {error}") from error
        if not hasattr(self._estimator, "get_params"):
            raise SpecError(
                f"{fault}: makes a {type(self._estimator).__name__}, not a scikit-learn estimator; name one"
            )
        self._clone = clone
        self._seeded = "random_state" in self._estimator.get_params()
        self._classifies = is_classifier(self._estimator)
        allowed = outputs.OF_LOGITS if self._classifies else outputs.OF_PREDICTIONS
        self._output = outputs.choose(output or next(iter(allowed)), allowed)
        self._x, self._y = dataset.x.reshape(len(dataset.x), -1), dataset.y
        self._x_targets, self._y_targets = targets.x.reshape(len(targets.x), -1), targets.y
        if self._classifies:
            self._classes = np.unique(np.concatenate([dataset.y, targets.y]))
            self._y_targets = np.searchsorted(self._classes, targets.y)
            if len(self._classes) < 2:
                raise SpecError(
                    f"dataset: all examples are of class {self._classes[0]}; a classifier needs two classes"
                )

    def train(self, subset: np.ndarray, seed: int) -> Any:
        """Return a fitted estimator, or a model that always predicts one class if the subset has only that class."""
        x, y = self._x[subset], self._y[subset]
        if self._classifies and len(y) and (y == y[0]).all():
            return _OneClass(y[0])
        estimator = self._clone(self._estimator)
        if self._seeded:
            estimator.set_params(random_state=seed % 2**32)
        return estimator.fit(x, y)

    def outputs(self, model: Any) -> np.ndarray:
        """Return outputs, float64[n]."""
        made_from = self._logits(model) if self._classifies else np.asarray(model.predict(self._x_targets))
        return self._output(made_from, self._y_targets)

    def _logits(self, model: Any) -> np.ndarray:
        """Return the logits of the targets, float64[n, classes]; classes that the model has not seen come last."""
        seen = np.searchsorted(self._classes, model.classes_)
        if hasattr(model, "predict_proba"):
            probability = np.zeros((len(self._x_targets), len(self._classes)))
            probability[:, seen] = model.predict_proba(self._x_targets)
            return np.log(np.clip(probability, FLOOR, 1))
        scores = np.asarray(model.decision_function(self._x_targets), dtype=np.float64)
        if scores.ndim == 1:  # of the second class against the first
            scores = np.stack([-scores / 2, scores / 2], axis=1)
        logits = np.repeat(scores.min(axis=1, keepdims=True) + np.log(FLOOR), len(self._classes), axis=1)
        logits[:, seen] = scores
        return logits


class _OneClass:
    """A classifier that has seen one class, and always predicts it with probability 1."""

    def __init__(self, label: Any):
        self.classes_ = np.array([label])

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return np.ones((len(x), 1))
