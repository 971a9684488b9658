"""LightGBM and XGBoost by name, and what their estimators need to be trained on any subset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from datamodels.run.runs import reference

NAMES = {
    "lightgbm": ("lightgbm:LGBMClassifier", "lightgbm:LGBMRegressor"),
    "xgboost": ("xgboost:XGBClassifier", "xgboost:XGBRegressor"),
}
"""Names in `trainer.options.estimator`: the classifier, for labels that are integers or texts, and the regressor."""
DEFAULTS = {
    # Both start a thread for each core, although every core has a trainer process of its own.
    "lightgbm": {"n_jobs": 1, "verbose": -1},
    "xgboost": {"n_jobs": 1},
}
"""Keyword arguments that the user may override, by the package of the estimator."""


def estimator(name: str, y: np.ndarray) -> Callable[..., Any]:
    """Return the class of an estimator by its name here or by `module:Class`; y decides whether it classifies.

    Raises SpecError if it cannot be imported.
    """
    if name in NAMES:
        name = NAMES[name][y.dtype.kind == "f"]
    return reference("trainer.options.estimator", name)


def prepared(cls: Callable[..., Any], params: dict[str, Any], y: np.ndarray) -> Any:
    """Return an estimator, unfitted, that takes the labels of any subset, and several numbers per example.

    Raises TypeError for params that it does not take.
    """
    from sklearn.base import is_classifier

    package = getattr(cls, "__module__", "").partition(".")[0]
    made = cls(**DEFAULTS.get(package, {}) | params)
    if not hasattr(made, "get_params"):
        return made
    if is_classifier(made):
        return numbered(made) if package == "xgboost" else made
    if y.ndim == 2 and not _takes_several(made):
        from sklearn.multioutput import MultiOutputRegressor

        return MultiOutputRegressor(made)
    return made


def numbered(inner: Any) -> Any:
    """Return a classifier that gives another one the classes as 0, 1, ..., which XGBoost asks for.

    A subset may lack a class, so the numbers of a whole data set are not enough.
    """
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Numbered(ClassifierMixin, BaseEstimator):
        def __init__(self, inner: Any):
            self.inner = inner

        def fit(self, x: np.ndarray, y: np.ndarray) -> Numbered:
            self.classes_, codes = np.unique(y, return_inverse=True)
            self.inner.fit(x, codes)
            return self

        def predict(self, x: np.ndarray) -> np.ndarray:
            return self.classes_[self.inner.predict(x)]

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return self.inner.predict_proba(x)

    Numbered.__name__ = type(inner).__name__
    return Numbered(inner)


def _takes_several(made: Any) -> bool:
    from sklearn.utils import get_tags

    return bool(get_tags(made).target_tags.multi_output)
