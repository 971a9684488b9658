"""Explain outputs by parts of the input: LIME (Ribeiro et al. 2016, arXiv:1602.04938).

A datamodel explains a prediction by training examples; LIME explains it by pixels or features. It blanks parts of the
target at random, computes the outputs of the models, and finds by a weighted ridge regression what each part adds:

    minimise over w, b:   sum_s pi_s (output_s - w . z_s - b)^2  +  ||w||^2

Here z_s in {0, 1}^parts says which parts sample s keeps, and pi_s = exp(-distance^2 / WIDTH^2). The distance is one
minus the cosine of z_s and the vector of ones, as in the authors' code. The output is the mean of models that the run's
own trainer trains on the whole pool. A blank part has the pool's mean.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence

import numpy as np

from datamodels.analyze.quality.interval import Z
from datamodels.analyze.what_if import pool
from datamodels.baselines.methods import LIME_MODELS, LIME_SAMPLES
from datamodels.errors import InputError, StageError, TargetRangeError
from datamodels.run.dataset import NOT_IN_POOL, Dataset, Targets
from datamodels.run.runs import Run
from datamodels.train.batches import Batches, unusable
from datamodels.train.contract import load_trainer
from datamodels.train.observer import Observer

WIDTH = 0.25
"""Width of the kernel of distances."""
RIDGE = 1.0
"""Strength of the ridge penalty."""
SIDE = 8
"""Most parts of a picture along each side."""
MOST_PARTS = 1024
"""Most parts of an input."""


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """Explanation of the output for one target.

    parts     int32[features of x, flattened]: the part that each number of the input belongs to
    weights   float64[p]: how much each part adds to the output of the models
    interval  float64[p, 2]: of the weights, from the residuals of the regression
    r2        weighted R^2 of the regression: how far the output is a sum over parts
    output    mean output of the models for the complete input
    models    number of models, of which some may have failed
    samples   number of inputs with blanked parts
    """

    parts: np.ndarray
    weights: np.ndarray
    interval: np.ndarray
    r2: float
    output: float
    models: int
    samples: int

    @property
    def strongest(self) -> list[int]:
        """Parts, from the largest weight of either sign to the smallest."""
        return np.argsort(-np.abs(self.weights), kind="stable").tolist()


def explain(
    run: Run, dataset: Dataset, targets: Sequence[int], *, models: int = LIME_MODELS, samples: int = LIME_SAMPLES
) -> list[Explanation]:
    """Explain the output of each target by its parts.

    Trains models once for all targets that are not in the pool, and once more for each target that is, without it.

    models   number of models to train on the whole pool; their mean output is explained
    samples  number of inputs with blanked parts, for each target

    Raises TargetRangeError; InputError if x are not numbers, for more than MOST_PARTS parts, and for fewer samples than
    twice the parts; StageError if every model failed; and the errors of training.
    """
    for target in targets:
        if not 0 <= target < run.n:
            raise TargetRangeError(f"target {target}: must be 0 to {run.n - 1}")
    if dataset.x.dtype.kind not in "fiub":
        raise InputError(f"dataset: x is {dataset.x.dtype}, not numbers; only parts of numbers can be blanked")
    if not dataset.x.size:
        raise InputError(f"run {run.name}: its data set has no inputs, so there are no parts to blank")
    if models < 1:
        raise InputError(f"models = {models}: must be at least 1")
    parts = parts_of(dataset)
    count = int(parts.max()) + 1
    if count > MOST_PARTS:
        raise InputError(f"run {run.name}: its inputs have {count} parts, more than {MOST_PARTS}")
    if samples < 2 * count:
        raise InputError(f"samples = {samples}: must be at least {2 * count}, twice the parts of an input")
    whole = dataset.targets(run.spec.targets)
    kept = np.stack([_kept(run, target, samples, count) for target in targets])
    blanked = [_blanked(dataset, whole.x[j], parts, z) for j, z in zip(targets, kept, strict=True)]
    found = []
    for z, outputs in zip(kept, _outputs(run, dataset, targets, blanked, whole.y, models), strict=True):
        weights, interval, r2 = regress(z, outputs)
        found.append(Explanation(parts, weights, interval, r2, float(outputs[0]), models, samples))
    return found


def _kept(run: Run, target: int, samples: int, parts: int) -> np.ndarray:
    """Return bool[samples, parts]: which parts each sample keeps. The first sample keeps all."""
    kept = np.random.default_rng((run.spec.seed, target)).random((samples, parts)) < 0.5
    kept[0] = True
    return kept


def parts_of(dataset: Dataset) -> np.ndarray:
    """Return int32[features]: the part of each number: a square of a picture, or else the feature itself.

    A picture has SIDE squares along each side, or one for each pixel if it is smaller.
    """
    shape = dataset.image_shape
    if shape is None:
        return np.arange(int(np.prod(dataset.x.shape[1:])), dtype=np.int32)
    height, width = shape[:2]
    rows, columns = (np.arange(side) * min(side, SIDE) // side for side in (height, width))
    squares = rows[:, None] * min(width, SIDE) + columns
    channels = int(np.prod(shape[2:]))
    return np.repeat(squares.ravel(), channels).astype(np.int32)


def names_of(dataset: Dataset) -> list[str]:
    """Return the name of each part: its place in a picture, counted from 1, or the name of its feature."""
    if dataset.image_shape is None:
        return dataset.feature_labels
    rows, columns = (min(side, SIDE) for side in dataset.image_shape[:2])
    return [f"row {i + 1}, column {j + 1}" for i in range(rows) for j in range(columns)]


def square_of(shape: tuple[int, ...], part: int) -> list[float]:
    """Return [left, top, width, height] of a part of a picture (h, w, ...), as fractions of its width and height."""
    height, width = shape[:2]
    row, column = divmod(part, min(width, SIDE))
    (left, right), (top, bottom) = (
        (-(-i * side // count) / side, -(-(i + 1) * side // count) / side)
        for i, side, count in ((column, width, min(width, SIDE)), (row, height, min(height, SIDE)))
    )
    return [round(value, 4) for value in (left, top, right - left, bottom - top)]


def _blanked(dataset: Dataset, x: np.ndarray, parts: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return [samples, ...]: copies of the input, with the pool's mean in the parts that are not kept."""
    mean = dataset.x.reshape(len(dataset.x), -1).mean(axis=0)
    flat = np.where(kept[:, parts], x.reshape(-1), mean)
    return flat.astype(dataset.x.dtype).reshape(len(kept), *x.shape)


def _outputs(
    run: Run, dataset: Dataset, targets: Sequence[int], blanked: Sequence[np.ndarray], y: np.ndarray, models: int
) -> np.ndarray:
    """Return float64[targets, samples]: the mean output of the models for each input.

    The trainer gets all inputs as its targets. Models are trained once for each distinct set of members.
    """
    samples = len(blanked[0])
    own = np.full(len(targets) * samples, NOT_IN_POOL, dtype=np.int32)
    asked = Targets(np.concatenate(blanked), np.repeat(y[list(targets)], samples, axis=0), own)
    sets = [np.flatnonzero(pool.without_own(run, pool.whole(run), target)) for target in targets]
    distinct = list({members.tobytes(): members for members in sets}.values())
    trainer = load_trainer(run.spec, dataset, asked)
    batches = Batches(dataclasses.replace(run, own=own), trainer, threading.Event(), Observer())
    index = [run.spec.models + i for i in range(models)]
    outputs_of = {}
    for members in distinct:
        outputs = batches.train(index, [run.design.members(members)] * models)
        good = np.delete(outputs, sorted(i - run.spec.models for i in unusable(index, outputs, run.dtype)), axis=0)
        if not len(good):
            raise StageError("every model that was trained for this failed; `datamodels trainer check` says why")
        outputs_of[members.tobytes()] = good.mean(axis=0, dtype=np.float64).reshape(len(targets), samples)
    return np.stack([outputs_of[members.tobytes()][i] for i, members in enumerate(sets)])


def regress(kept: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Regress outputs float64[s] on kept parts bool[s, p].

    Returns (weights float64[p], interval float64[p, 2], weighted R^2).
    """
    share = kept.mean(axis=1)
    weight = np.exp(-((1 - np.sqrt(share)) ** 2) / WIDTH**2)
    weight *= len(weight) / weight.sum()
    z, y = kept.astype(np.float64), outputs - np.average(outputs, weights=weight)
    z -= np.average(z, axis=0, weights=weight)
    inverse = np.linalg.inv((weight[:, None] * z).T @ z + RIDGE * np.eye(z.shape[1]))
    found = inverse @ (z.T @ (weight * y))
    residual = y - z @ found
    left, total = (weight * residual**2).sum(), (weight * y**2).sum()
    shaken = inverse @ ((weight * residual)[:, None] * z).T
    error = np.sqrt((shaken**2).sum(axis=1))
    return (
        found,
        np.stack([found - Z * error, found + Z * error], axis=-1),
        float(1 - left / total) if total > 0 else 0.0,
    )
