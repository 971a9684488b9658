"""Who takes part, and what each says of a run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np

from datamodels.errors import InputError
from datamodels.rivals import influence, neighbours, tracin, trak
from datamodels.rivals.given import Given

NETWORKS = "networks"
"""Networks of the whole pool, and their gradients."""
COMMITTED = "committed"
"""The outputs of the run's own models."""
DATA = "data"
"""No model at all."""


@dataclasses.dataclass(frozen=True)
class Rival:
    """
    scores  Given -> float32[n, examples]; of `COMMITTED`, [n, d]
    needs   NETWORKS, COMMITTED or DATA
    what    for people
    """

    scores: Callable[[Given], np.ndarray]
    needs: str
    what: str


def _chance(given: Given) -> np.ndarray:
    draw = np.random.default_rng(given.run.spec.seed)
    return draw.standard_normal((given.run.n, given.run.design.examples), dtype=np.float32)


RIVALS = {
    "feldman_zhang": Rival(lambda given: given.shares.attribution, COMMITTED, "how much more often models are right"),
    "tracin": Rival(lambda given: tracin.attribution(given.trained), NETWORKS, "gradients at checkpoints"),
    "last_layer": Rival(lambda given: influence.last_layer(given.trained), NETWORKS, "influence, of the last layer"),
    "ekfac": Rival(lambda given: influence.ekfac(given.trained), NETWORKS, "influence, of all weights by EK-FAC"),
    "influence": Rival(
        lambda given: influence.whole(given.trained), NETWORKS, "influence, of all weights by conjugate gradients"
    ),
    "trak": Rival(lambda given: trak.attribution(given.trained), NETWORKS, "a linear model of projected gradients"),
    "representations": Rival(
        lambda given: neighbours.representations(given, given.trained), NETWORKS, "alike in the last hidden layer"
    ),
    "inputs": Rival(neighbours.inputs, DATA, "alike in the input"),
    "random": Rival(_chance, DATA, "chance"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """What a method says.

    scores   float32[n, d]: by how much a column raises a target's output, up to a factor, as theta
    models   that were trained for it
    seconds  it took once they were
    """

    name: str
    scores: np.ndarray
    models: int
    seconds: float


def chosen(names: Sequence[str] | None) -> list[str]:
    """Rivals by name, all by default. Raises InputError for one that there is not."""
    unknown = [name for name in names or () if name not in RIVALS]
    if unknown:
        raise InputError(f"rival {unknown[0]!r}: must be one of {', '.join(RIVALS)}")
    return list(dict.fromkeys(names or RIVALS))


def enter(given: Given, name: str) -> Entry:
    """Lets a rival say what it has to. Raises InputError where it needs gradients and the trainer has none."""
    rival = RIVALS[name]
    if rival.needs == COMMITTED:
        return Entry(name, rival.scores(given), given.shares.models, given.shares.seconds)
    models = len(given.trained.models) if rival.needs == NETWORKS else 0
    started = time.perf_counter()
    scores = rival.scores(given)
    groups = given.run.design.column_of_each
    if groups is not None:
        scores = _of_groups(scores, groups, given.run.design.columns)
    return Entry(name, scores, models, time.perf_counter() - started)


def _of_groups(scores: np.ndarray, groups: np.ndarray, columns: int) -> np.ndarray:
    """float32[n, d]: a group does what its examples do together."""
    found = np.zeros((columns, len(scores)), dtype=np.float32)
    np.add.at(found, groups, scores.T)
    return found.T
