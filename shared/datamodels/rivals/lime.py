"""LIME (Ribeiro et al. 2016, arXiv:1602.04938): which parts of an input made the models say this?

The other question: a datamodel explains a prediction by training examples, LIME by pixels. Parts of the target are
blanked at random, the models are asked again, and a weighted ridge regression says what each part adds to the output:

    minimise over w, b:   sum_s pi_s (output_s - w . z_s - b)^2  +  ||w||^2

where z_s in {0, 1}^parts says which parts sample s keeps and pi_s = exp(-distance^2 / WIDTH^2), the distance being one
less the cosine of z_s and all ones, as in the authors' own code. The output is the mean of models trained on the whole
pool by the run's own trainer, whatever it is; a blank part has the pool's mean.
"""

from __future__ import annotations

import dataclasses
import threading

import numpy as np

from datamodels.analyze import pool
from datamodels.analyze.interval import Z
from datamodels.errors import InputError, StageError, TargetRangeError
from datamodels.run import Run
from datamodels.train.batches import Batches, unusable
from datamodels.train.contract import load_trainer
from datamodels.train.data import NOT_IN_POOL, Dataset, Targets
from datamodels.train.observer import Observer

WIDTH = 0.25
RIDGE = 1.0
SIDE = 8
"""Parts of a picture along each side, at most."""
MOST_PARTS = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """
    parts     int32[features of x, flattened]: the part that each number of the input belongs to
    weights   float64[p]: what each part adds to the output of the models
    interval  float64[p, 2]: of the weights, by the residuals of the regression
    r2        of the regression, weighted: how far the output is a sum of its parts at all
    output    the models' mean output of the input as it is
    """

    parts: np.ndarray
    weights: np.ndarray
    interval: np.ndarray
    r2: float
    output: float

    @property
    def of_features(self) -> np.ndarray:
        """float64[features]: the weight of the part that each belongs to, to be drawn over the picture."""
        return self.weights[self.parts]


def explain(run: Run, dataset: Dataset, target: int, *, models: int = 10, samples: int = 1000) -> Explanation:
    """What the parts of a target add to its output.

    models   trained on the whole pool (without the target), whose mean output is explained
    samples  inputs with blanked parts

    Raises TargetRangeError; InputError where x is no numbers, where there are more than MOST_PARTS parts, and for fewer
    samples than twice the parts; StageError where every model failed; what training raises.
    """
    if not 0 <= target < run.n:
        raise TargetRangeError(f"target {target}: must be 0 to {run.n - 1}")
    if dataset.x.dtype.kind not in "fiub":
        raise InputError(f"dataset: x is {dataset.x.dtype}, no numbers; only parts of numbers can be blanked")
    if models < 1:
        raise InputError(f"models = {models}: must be at least 1")
    parts = parts_of(dataset)
    count = int(parts.max()) + 1
    if count > MOST_PARTS or samples < 2 * count:
        raise InputError(
            f"target {target}: has {count} parts: must be at most {MOST_PARTS}, and half of the {samples} samples"
        )
    whole = dataset.targets(run.spec.targets)
    kept = np.random.default_rng((run.spec.seed, target)).random((samples, count)) < 0.5
    kept[0] = True
    outputs = _outputs(run, dataset, target, _blanked(dataset, whole.x[target], parts, kept), whole.y[target], models)
    weights, interval, r2 = regress(kept, outputs)
    return Explanation(parts, weights, interval, r2, float(outputs[0]))


def parts_of(dataset: Dataset) -> np.ndarray:
    """int32[features]: squares of a picture, SIDE along each side or as many as it has pixels; else each feature."""
    shape = dataset.image_shape
    if shape is None:
        return np.arange(int(np.prod(dataset.x.shape[1:])), dtype=np.int32)
    height, width = shape[:2]
    rows, columns = (np.arange(side) * min(side, SIDE) // side for side in (height, width))
    squares = rows[:, None] * min(width, SIDE) + columns
    channels = int(np.prod(shape[2:]))
    return np.repeat(squares.ravel(), channels).astype(np.int32)


def _blanked(dataset: Dataset, x: np.ndarray, parts: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """[samples, ...]: the input with the pool's mean where a part is not kept."""
    mean = dataset.x.reshape(len(dataset.x), -1).mean(axis=0)
    flat = np.where(kept[:, parts], x.reshape(-1), mean)
    return flat.astype(dataset.x.dtype).reshape(len(kept), *x.shape)


def _outputs(run: Run, dataset: Dataset, target: int, x: np.ndarray, y: np.ndarray, models: int) -> np.ndarray:
    """float64[samples]: the models' mean output of each input; the contract is asked with these as its targets."""
    own = np.full(len(x), NOT_IN_POOL, dtype=np.int32)
    asked = Targets(x, np.repeat(np.asarray(y)[None], len(x), axis=0), own)
    trainer = load_trainer(run.spec, dataset, asked)
    members = pool.without_own(run, pool.whole(run), target)
    batches = Batches(dataclasses.replace(run, own=own), trainer, threading.Event(), Observer())
    index = [run.spec.models + i for i in range(models)]
    outputs = batches.train(index, [run.design.members(np.flatnonzero(members))] * models)
    good = np.delete(outputs, sorted(i - run.spec.models for i in unusable(index, outputs)), axis=0)
    if not len(good):
        raise StageError("every model that was trained for this failed; `datamodels trainer check` says why")
    return good.mean(axis=0, dtype=np.float64)


def regress(kept: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(weights float64[p], interval float64[p, 2], weighted R^2) of kept parts bool[s, p] and outputs float64[s]."""
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
        float(1 - left / total) if total > 1e-12 * len(y) else 0.0,
    )
