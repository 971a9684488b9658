"""Compute MAGIC (Ilyas and Engstrom 2025, arXiv:2504.16430): derivatives of outputs through whole trainings.

The paper predicts one training with a fixed seed, on the whole pool with few examples less. Here scores are to predict
the mean output over seeds of models on the run's subsets. So they are means over several trainings, each with its own
seed and on one of the run's subsets, which is where the function that they are derivatives of is asked for.

An example's derivative depends on the minibatches that it happens to be in. So each training averages it over VISITS
random places in each epoch, where the example takes part with weight 0. That holds for members of the subset and for
all others. A target that is a training example itself counts on subsets without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datamodels.analyze.what_if import pool
from datamodels.baselines.context import SEED_OFFSET, Context
from datamodels.errors import InputError
from datamodels.run import designs
from datamodels.train.contract import model_seed
from datamodels.train.gradients import Replay, replayable

if TYPE_CHECKING:
    from datamodels.train.gradients.replay import State

VISITS = 4
"""LDS of one training on the digits is 0.75 with one place in each epoch, and 0.84 with 4 or 16."""
SAME = 0.05
"""The largest difference of a replay's outputs from the trainer's, in units of their spread over targets. Rounding
makes 0.01 where trainings are as sensitive as those of the digits."""
CHECKED = 64
"""Targets whose derivatives are checked."""
NUDGE = 1e-3
"""Size of the change of weights that derivatives of outputs are checked by, in units of the weights."""


AGREE = 0.5
"""Least reliability of scores. Below it, most of their variance comes from the subsets and seeds of the trainings.
Of nine networks and optimisers, the two below had an LDS of 0.57 and 0.00, and the others of 0.71 to 0.89
(docs/benchmarks/gradients.md)."""


def attribution(context: Context) -> tuple[np.ndarray, str]:
    """Return float32[n, examples]: the scores, and why they should not be trusted, or "".

    Raises InputError if the trainer has no replays, or some that do not agree with its models or its gradients; if
    derivatives overflow; and, unless `context.costly`, if it takes longer than the run.
    """
    from datamodels.train.gradients.metagradients import Metagradients

    run, spec = context.run, context.run.spec
    trainer = replayable(context.loaded)
    if trainer is None:
        raise InputError(f"trainer.class = {spec.trainer.cls!r}: has no trainings to differentiate: no method `replay`")
    work = context.trainings * run.n  # one target through one training takes about as long as that training
    if work > spec.m and not context.costly:
        raise InputError(
            f"takes as long as some {work:,} trainings, one by one, and the run has {spec.m:,}; name it in --baselines "
            "to run it all the same"
        )
    own = [pool.own_column(run, target) for target in range(run.n)]
    everyone = run.design.members(np.flatnonzero(pool.whole(run)))
    squares = np.zeros(run.n)
    total, counts = np.zeros((run.n, run.design.examples), dtype=np.float32), np.zeros(run.n, dtype=np.float32)
    for number in range(context.trainings):
        columns = designs.subset(run.design, number % spec.m)
        subset, seed = run.design.members(columns), model_seed(spec.seed, spec.models + SEED_OFFSET + number)
        replay = trainer.replay(subset, seed)
        found = Metagradients(replay, everyone, VISITS, seed=number)
        model = replay.model(found.last)
        if not number:
            _check_same(context, model, subset, seed)
            _check_order(context, replay, found.last)
        wanted = ~np.isin([-1 if column is None else column for column in own], columns)
        if number == context.trainings - 1:
            wanted |= counts == 0  # these are in all of the subsets
        scores = found.of(trainer.gradients(model).of_outputs, wanted, run.design.examples)
        squares += np.square(scores, dtype=np.float64).sum(axis=1)
        total += scores
        counts += wanted
    if not np.isfinite(total).all():
        raise InputError("trainer.options: derivatives through the training overflow; a smaller learning rate may help")
    return total / counts[:, None], _doubt(reliability(total, squares, counts))


def reliability(total: np.ndarray, squares: np.ndarray, counts: np.ndarray) -> float:
    """Return how much of the variance of mean scores is the same for other trainings, at most 1; NaN if unknown.

    total    [n, examples]; sums of scores over trainings
    squares  [n]; sums of their squared norms
    counts   [n]; trainings of each target

    This is the formula of Spearman and Brown for the mean correlation of two trainings, in the median over targets.
    """
    several = (counts > 1) & (squares > 0)
    if not several.any():
        return float("nan")
    among, own, each = np.square(total[several], dtype=np.float64).sum(axis=1), squares[several], counts[several]
    one = (among - own) / ((each - 1) * own)
    return float(np.median(each * one / np.maximum(1 + (each - 1) * one, 1e-9)))


def _doubt(reliable: float) -> str:
    if not reliable < AGREE:
        return ""
    return (
        f"derivatives of its trainings do not agree (reliability {reliable:.2f} of 1), so do not trust its scores: "
        "either they are too few (--trainings), or the network has kinks, such as max pooling, at which they mislead"
    )


def _check_same(context: Context, model: object, subset: np.ndarray, seed: int) -> None:
    """Raise InputError if a model is not that of the trainer."""
    trainer = context.loaded
    replayed = np.asarray(trainer.outputs_many([model]), dtype=np.float64)
    trained = np.asarray(trainer.outputs_many(trainer.train_many([subset], [seed])), dtype=np.float64)
    away = float(np.sqrt(np.mean((replayed - trained) ** 2)) / (trained.std() or 1.0))
    if not away <= SAME:
        raise InputError(
            f"trainer.class = {context.run.spec.trainer.cls!r}: its replay leads to another model than its training: "
            f"outputs differ by {away:.2g} of their spread; both must take the same steps"
        )


def _check_order(context: Context, replay: Replay, state: State) -> None:
    """Raise InputError if gradients are not by the weights of a state, in their order."""
    trainer = replayable(context.loaded)
    assert trainer is not None
    rows = slice(0, min(context.run.n, CHECKED))
    nudge = np.random.default_rng(0).standard_normal(len(state[0])) * NUDGE * float(state[0].square().mean().sqrt())
    moved = state[0] + state[0].new_tensor(nudge)
    before, after = (
        np.asarray(context.loaded.outputs_many([replay.model((weights, *state[1:]))]), dtype=np.float64)[0, rows]
        for weights in (state[0], moved)
    )
    slopes = np.asarray(trainer.gradients(replay.model(state)).of_outputs(rows))
    if (
        slopes.shape[1:] != nudge.shape
        or np.linalg.norm(after - before - slopes @ nudge) > np.linalg.norm(after - before) / 2
    ):
        raise InputError(
            f"trainer.class = {context.run.spec.trainer.cls!r}: gradients of outputs do not tell what a change of the "
            "replay's weights does: both must have the weights in one order"
        )
