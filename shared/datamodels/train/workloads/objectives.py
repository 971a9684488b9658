"""Tell from the objective of an estimator what it predicts: y, a quantile of it, or scores on another scale."""

from __future__ import annotations

from typing import Any

import numpy as np

NAMES = ("objective", "objective_type", "application", "app", "loss")
"""Parameters that name the objective in XGBoost, in LightGBM with its aliases, and in scikit-learn."""
OTHER_SCALES = (
    *("survival:", "rank:", "lambdarank", "rank_xendcg", "binary:logitraw"),
    *("cross_entropy_lambda", "xentlambda"),
)
"""Beginnings of objectives whose predictions are no estimates of y, but scores, hazards or logits."""
QUANTILES = ("quantile", "reg:quantileerror")
"""Objectives whose predictions are a quantile of y."""
NUMBERS = ("quantile", "quantile_alpha", "alpha")
"""Parameters that say which; `alpha` is another thing if there is one of the others."""
DEFAULT = 0.9
"""The quantile of LightGBM and of scikit-learn's gradient boosting, if none is given."""


def of_other_scale(estimator: Any) -> str | None:
    """Return the objective of an estimator, or of one in it, if its predictions are no estimates of y."""
    found = (value for _, value in _objectives(estimator) if value.startswith(OTHER_SCALES))
    return next(found, None)


def quantile(estimator: Any) -> float | None:
    """Return which quantile of y an estimator predicts; None if it predicts something else."""
    params = estimator.get_params()
    objectives = _objectives(estimator)
    for prefix, objective in objectives:
        if objective in QUANTILES:
            numbers = [params[prefix + name] for name in NUMBERS if params.get(prefix + name) is not None]
            return float(np.ravel([*numbers, DEFAULT][0])[0])
    named = {prefix for prefix, _ in objectives}
    for name, value in params.items():  # scikit-learn's QuantileRegressor has no other objective
        prefix, last = _parts(name)
        if last == "quantile" and prefix not in named and prefix + "strategy" not in params:
            return float(value)
    return None


def _objectives(estimator: Any) -> list[tuple[str, str]]:
    """Return (the prefix of its parameters, the objective) of an estimator and of those in it."""
    found = ((*_parts(name), value) for name, value in estimator.get_params().items())
    return [(prefix, value) for prefix, last, value in found if last in NAMES and isinstance(value, str)]


def _parts(name: str) -> tuple[str, str]:
    """Split the name of a parameter after the estimator that it is of: `estimator__alpha`."""
    last = name.rpartition("__")[2]
    return name[: len(name) - len(last)], last
