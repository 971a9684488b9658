"""Explain outputs by parts of the input: LIME (Ribeiro et al. 2016, arXiv:1602.04938).

A datamodel explains a prediction by training examples; LIME explains it by pixels, features or tokens. It blanks parts
of the target at random, computes the outputs of the models, and finds by a weighted ridge regression what each part
adds:

    minimise over w, b:   sum_s pi_s (output_s - w . z_s - b)^2  +  ||w||^2

Here z_s in {0, 1}^parts says which parts sample s keeps, and pi_s = exp(-distance^2 / WIDTH^2). The distance is one
minus the cosine of z_s and the vector of ones, as in the authors' code. The output is the mean of models that the run's
own trainer trains on the whole pool. A blank part has the pool's mean. A blank token is the data set's `blank_token`,
and 0 in other fields of x, such as an attention mask.
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
from datamodels.screen import plain
from datamodels.train.batches import Batches, unusable
from datamodels.train.contract import load_trainer
from datamodels.train.observer import Counter

WIDTH = 0.25
"""Width of the kernel of distances."""
RIDGE = 1.0
"""Strength of the ridge penalty."""
SIDE = 8
"""Most parts of a picture along each side."""
MOST_PARTS = 1024
"""Most parts of an input."""
TOKENS = "input_ids"
"""Field of x that has the numbers of tokens, if x has fields."""


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """Explanation of the output for one target.

    parts     int32[features of x, flattened]: the part that each number of the input belongs to; of tokens, int32[t]:
              the part that each token is, or -1 if it is blank in the input already
    names     name of each part
    weights   float64[p]: how much each part adds to the output of the models
    interval  float64[p, 2]: of the weights, from the residuals of the regression
    r2        weighted R^2 of the regression: how far the output is a sum over parts
    output    mean output of the models for the complete input
    models    number of models, of which some may have failed
    samples   number of inputs with blanked parts
    """

    parts: np.ndarray
    names: Sequence[str]
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
    run: Run,
    dataset: Dataset,
    targets: Sequence[int],
    *,
    models: int = LIME_MODELS,
    samples: int = LIME_SAMPLES,
    counter: Counter | None = None,
) -> list[Explanation]:
    """Explain the output of each target by its parts.

    Trains models once for all targets that are not in the pool, and once more for each target that is, without it.

    models   number of models to train on the whole pool; their mean output is explained
    samples  number of inputs with blanked parts, for each target
    counter  counts the models as they are trained

    Raises TargetRangeError; InputError if x are neither numbers nor tokens, for more than MOST_PARTS parts, and for
    fewer samples than twice the parts; StageError if every model failed; and the errors of training.
    """
    for target in targets:
        if not 0 <= target < run.n:
            raise TargetRangeError(f"target {target}: must be 0 to {run.n - 1}")
    if not len(dataset.token_names) and dataset.x.dtype.kind not in "fiub":
        what = "has fields" if dataset.x.dtype.names else f"is {dataset.x.dtype}, not numbers"
        raise InputError(
            f"dataset: x {what}; LIME blanks parts of numbers, and tokens if the data set has their `token_names`"
        )
    if not dataset.x.size:
        raise InputError(f"run {run.name}: its data set has no inputs, so there are no parts to blank")
    if models < 1:
        raise InputError(f"models = {models}: must be at least 1")
    whole = dataset.targets(run.spec.targets)
    parts = [parts_of(dataset, whole.x[target]) for target in targets]
    counts = [_count(run, target, numbers, samples) for target, (numbers, _) in zip(targets, parts, strict=True)]
    kept = [_kept(run, target, samples, count) for target, count in zip(targets, counts, strict=True)]
    blanked = [_blanked(dataset, whole.x[j], p, z) for j, (p, _), z in zip(targets, parts, kept, strict=True)]
    found = []
    outputs_of = _outputs(run, dataset, targets, blanked, whole.y, models, counter or Counter())
    for (numbers, names), z, outputs in zip(parts, kept, outputs_of, strict=True):
        weights, interval, r2 = regress(z, outputs)
        found.append(Explanation(numbers, names, weights, interval, r2, float(outputs[0]), models, samples))
    return found


def _count(run: Run, target: int, parts: np.ndarray, samples: int) -> int:
    """Return the number of parts of a target. Raises InputError for none, too many, or too few samples."""
    count = int(parts.max()) + 1
    if not count:
        raise InputError(f"target {target}: all its tokens are blank")
    if count > MOST_PARTS:
        raise InputError(f"run {run.name}: its inputs have {count} parts, more than {MOST_PARTS}")
    if samples < 2 * count:
        raise InputError(f"samples = {samples}: must be at least {2 * count}, twice the parts of an input")
    return count


def _kept(run: Run, target: int, samples: int, parts: int) -> np.ndarray:
    """Return bool[samples, parts]: which parts each sample keeps. The first sample keeps all."""
    kept = np.random.default_rng((run.spec.seed, target)).random((samples, parts)) < 0.5
    kept[0] = True
    return kept


def parts_of(dataset: Dataset, x: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the part of each number of an input x, as `Explanation.parts` has it, and the name of each part.

    A part is a square of a picture, a token that is not blank, or else a number. A picture has SIDE squares along each
    side, or one for each pixel if it is smaller. Their names are places, counted from 1, and names of features.
    """
    if len(dataset.token_names):
        return _tokens_of(dataset, x)
    shape = dataset.image_shape
    if shape is None:
        return np.arange(int(np.prod(dataset.x.shape[1:])), dtype=np.int32), dataset.feature_labels
    height, width = shape[:2]
    rows, columns = (np.arange(side) * min(side, SIDE) // side for side in (height, width))
    squares = rows[:, None] * min(width, SIDE) + columns
    channels = int(np.prod(shape[2:]))
    names = [f"row {i + 1}, column {j + 1}" for i in range(rows[-1] + 1) for j in range(columns[-1] + 1)]
    return np.repeat(squares.ravel(), channels).astype(np.int32), names


def _tokens_of(dataset: Dataset, x: np.ndarray) -> tuple[np.ndarray, list[str]]:
    tokens = _token_field(x)
    if tokens.ndim != 1:
        raise InputError(f"dataset: the tokens of an example have shape {list(tokens.shape)}: must be [positions]")
    places = np.flatnonzero(tokens != dataset.blank_token)
    parts = np.full(len(tokens), -1, dtype=np.int32)
    parts[places] = np.arange(len(places))
    known = dataset.token_names
    spelled = (known[token] if 0 <= token < len(known) else str(token) for token in tokens[places].tolist())
    return parts, [f"{place + 1} {plain(name)}" for place, name in zip(places.tolist(), spelled, strict=True)]


def _token_field(x: np.ndarray) -> np.ndarray:
    """Return the numbers of tokens in x. Raises InputError if its fields do not say where they are."""
    names = x.dtype.names
    if names is not None and TOKENS not in names:
        raise InputError(f"dataset: x has the fields {', '.join(names)}, but not {TOKENS!r}, so LIME finds no tokens")
    return x if names is None else x[TOKENS]


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
    """Return [samples, ...]: copies of the input, with parts that are not kept blank."""
    if len(dataset.token_names):
        blank = np.repeat(x[None], len(kept), axis=0)
        gone = ~kept[:, parts] & (parts >= 0)
        for name in x.dtype.names or ():
            blank[name][gone] = 0
        _token_field(blank)[gone] = dataset.blank_token
        return blank
    mean = dataset.x.reshape(len(dataset.x), -1).mean(axis=0)
    flat = np.where(kept[:, parts], x.reshape(-1), mean)
    return flat.astype(dataset.x.dtype).reshape(len(kept), *x.shape)


def _outputs(
    run: Run,
    dataset: Dataset,
    targets: Sequence[int],
    blanked: Sequence[np.ndarray],
    y: np.ndarray,
    models: int,
    counter: Counter,
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
    batches = Batches(dataclasses.replace(run, own=own), trainer, threading.Event(), counter)
    counter.expect(len(distinct) * models)
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
