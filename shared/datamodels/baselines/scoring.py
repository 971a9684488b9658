"""Compute the scores of each baseline by name."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Sequence

import numpy as np

from datamodels.baselines.context import Context
from datamodels.baselines.methods import COMMITTED, METHODS, NETWORKS, REPLAYS
from datamodels.errors import InputError


def random(context: Context) -> np.ndarray:
    """Return float32[n, examples]: random scores."""
    rng = np.random.default_rng(context.run.spec.seed)
    return rng.standard_normal((context.run.n, context.run.design.examples), dtype=np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class MethodScores:
    """The scores of a method.

    scores   float32[n, d]: by how much a column raises a target's output, up to a factor, as weights do
    models   number of models that were trained for the method
    seconds  time that the method took after training; with it for methods that go back through trainings
    doubt    why the scores should not be trusted; "" if nothing is known against them
    """

    name: str
    scores: np.ndarray
    models: int
    seconds: float
    doubt: str = ""


def chosen(names: Sequence[str] | None) -> list[str]:
    """Return names of METHODS, each once; all by default. Raises InputError for an unknown name."""
    unknown = [name for name in names or () if name not in METHODS]
    if unknown:
        raise InputError(f"baselines = {unknown[0]!r}: must be of {', '.join(METHODS)}")
    return list(dict.fromkeys(names or METHODS))


def compute(context: Context, name: str) -> MethodScores:
    """Compute the scores of a baseline.

    Raises InputError if it needs gradients and the trainer has none, or a threshold and the output has none.
    """
    method = METHODS[name]
    module, _, attribute = method.entry.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    if method.needs == COMMITTED:
        shares = context.shares
        return MethodScores(name, function(shares), shares.models, shares.seconds, shares.doubt(context.run.output))
    trained = context.trained if method.needs == NETWORKS else None
    started = time.perf_counter()
    found = function(trained or context)
    scores, doubt = found if isinstance(found, tuple) else (found, "")
    if method.helps:
        scores = context.run.output.sign * scores
    groups = context.run.design.column_of_each
    if groups is not None:
        scores = _of_groups(scores, groups, context.run.design.columns)
    models = len(trained.models) if trained else context.trainings if method.needs == REPLAYS else 0
    return MethodScores(name, scores, models, time.perf_counter() - started, doubt)


def _of_groups(scores: np.ndarray, groups: np.ndarray, columns: int) -> np.ndarray:
    """Return float32[n, d]: the score of a group is the sum over its examples."""
    found = np.zeros((columns, len(scores)), dtype=np.float32)
    np.add.at(found, groups, scores.T)
    return found.T
