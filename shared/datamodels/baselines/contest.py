"""Compute the scores of each baseline by name."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np

from datamodels.baselines import influence, neighbours, tracin, trak
from datamodels.baselines.given import Given
from datamodels.baselines.methods import COMMITTED, METHODS, NETWORKS
from datamodels.errors import InputError


def _chance(given: Given) -> np.ndarray:
    draw = np.random.default_rng(given.run.spec.seed)
    return draw.standard_normal((given.run.n, given.run.design.examples), dtype=np.float32)


SCORES: dict[str, Callable[[Given], np.ndarray]] = {
    "feldman_zhang": lambda given: given.shares.attribution,
    "tracin": lambda given: tracin.attribution(given.trained),
    "last_layer": lambda given: influence.last_layer(given.trained),
    "ekfac": lambda given: influence.ekfac(given.trained),
    "influence": lambda given: influence.whole(given.trained),
    "trak": lambda given: trak.attribution(given.trained),
    "representations": lambda given: neighbours.representations(given, given.trained),
    "inputs": neighbours.inputs,
    "random": _chance,
}
"""Functions that return the scores of each method, float32[n, examples]; [n, d] if it needs `COMMITTED`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """The scores of a method.

    scores   float32[n, d]: by how much a column raises a target's output, up to a factor, as weights do
    models   number of models that were trained for the method
    seconds  time that the method took after training
    """

    name: str
    scores: np.ndarray
    models: int
    seconds: float


def chosen(names: Sequence[str] | None) -> list[str]:
    """Return names of METHODS, each once; all by default. Raises InputError for an unknown name."""
    unknown = [name for name in names or () if name not in METHODS]
    if unknown:
        raise InputError(f"baseline {unknown[0]!r}: must be one of {', '.join(METHODS)}")
    return list(dict.fromkeys(names or METHODS))


def enter(given: Given, name: str) -> Entry:
    """Compute the scores of a baseline. Raises InputError if it needs gradients and the trainer has none."""
    needs = METHODS[name].needs
    if needs == COMMITTED:
        return Entry(name, SCORES[name](given), given.shares.models, given.shares.seconds)
    models = len(given.trained.models) if needs == NETWORKS else 0
    started = time.perf_counter()
    scores = SCORES[name](given)
    groups = given.run.design.column_of_each
    if groups is not None:
        scores = _of_groups(scores, groups, given.run.design.columns)
    return Entry(name, scores, models, time.perf_counter() - started)


def _of_groups(scores: np.ndarray, groups: np.ndarray, columns: int) -> np.ndarray:
    """Return float32[n, d]: the score of a group is the sum over its examples."""
    found = np.zeros((columns, len(scores)), dtype=np.float32)
    np.add.at(found, groups, scores.T)
    return found.T
