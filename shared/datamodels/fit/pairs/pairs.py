"""Describe each pair of a target and a column by a few numbers, made from inputs and labels before any training.

Each is a guess at what adding the column to a subset does to the target's output, up to a factor:

- the influence of the example in a simple model of the labels (`influence`), averaged over random subsets: logistic
  regression on the inputs for several penalties, and on RBF features; for numbers as labels, ridge regression, for the
  prediction, its squared error and its absolute error;
- how similar the inputs are, separately for examples of the target's class and of others.

If the run has them, one number more is made from gradients of some of its models; see `gradients`.

A column that is a group of examples has the sums over its examples. A column that never varies has zeros.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from datamodels.errors import SpecError
from datamodels.fit.data.examples import Examples
from datamodels.fit.pairs import inputs
from datamodels.fit.pairs.gradients import GradientScores
from datamodels.fit.pairs.influence import Logistic, Ridge
from datamodels.run.runs import Run

COMPONENTS = 64
"""Most principal components of the features that models are fitted to."""
PARAMETERS = 1300
"""Most parameters of a model, which bounds its Hessian: with many classes, there are fewer components."""
LANDMARKS = 60
"""RBF features of the nonlinear model."""
LAMBDAS = (3e-3, 1e-3, 3e-4)
"""Penalties of the linear models, for inputs with a root mean squared length of 1."""
RBF_LAMBDA = 1e-3
"""Penalty of the nonlinear model."""
RBF_GAMMA = 0.3
"""Width of its kernel: exp(-gamma ||a - b||^2)."""
NEAR_GAMMA = 2.0
"""Width of the kernel that says how similar two inputs are; narrower, so that only neighbours count."""
SUBSETS = 6
"""Random subsets, with the run's alpha, over which influences are averaged. On digits, the influence by RBF
features has an LDS of .795 by 1 subset, .808 by 3, .813 by 6."""
TOGETHER = 2**24
"""Most inputs, float64, of the models that are fitted together."""
FEWEST = 20
"""Fewest examples of a subset."""
MOST_CLASSES = 200
"""Labels with more different values than this are no classes."""
FEW_EACH = 2
"""Integers with fewer examples for each value are numbers, not classes."""

MOST = 3 * (len(LAMBDAS) + 1) + 2 + 1
"""Most features of a pair: three ways for each ridge regression, two similarities, and scores by gradients."""
MODEL_BYTES = SUBSETS * 4 * (1 + len(LAMBDAS) // 4 + 1) * PARAMETERS**2
"""Most memory of the factorised Hessians: the linear models have half as many parameters as the nonlinear ones."""
SIMILAR = ["similar", "cosine"]
SIMILAR_BY_CLASS = ["similar, same class", "similar, other class", "cosine, same class", "same class"]

Block = Callable[[np.ndarray, ModuleType], np.ndarray]
"""Returns features [k, t, N] of targets int64[t] and all examples of the pool, as an array of an array module."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Features of pairs of targets and columns, computed when they are asked for.

    given      name of each feature that is made from inputs and labels
    blocks     functions that return one or more of them each; their numbers add up to the number of names
    columns    int64[N] and d: the column of each example, and the number of columns; None if each example is one
    varies     bool[d]; columns that are in some subsets only
    gradients  scores by the gradients of models, the last feature; None if there are none
    classes    int64[d]; the class of each column; None if labels are no classes, or columns are groups
    """

    given: tuple[str, ...]
    blocks: tuple[Block, ...]
    columns: tuple[np.ndarray, int] | None
    varies: np.ndarray
    gradients: GradientScores | None = None
    classes: np.ndarray | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each feature."""
        return self.given if self.gradients is None else (*self.given, self.gradients.name)

    def of(self, targets: np.ndarray, xp: ModuleType = np) -> np.ndarray:
        """Return float32[K, t, d] of targets int64[t], as an array of an array module."""
        parts = [block(targets, xp) for block in self.blocks]
        if self.columns is not None:
            parts = [summed(part, *self.columns, xp) for part in parts]
        if self.gradients is not None:
            parts.append(xp.asarray(self.gradients.of(targets)[None]))
        found = xp.concatenate(parts)
        found[:, :, xp.asarray(np.flatnonzero(~self.varies))] = 0
        return found

    def leave_out(self, features: np.ndarray, targets: np.ndarray, fold: int | None, xp: ModuleType = np) -> None:
        """Leave the models of a fold out of the features of `of`, in place; None to put all models in."""
        if self.gradients is not None:
            features[-1] = xp.asarray(self.gradients.of(targets, fold) * self.varies)


def of_run(run: Run, given: Examples) -> Pairs:
    """Return the features of a run. Raises SpecError if its examples have neither inputs nor labels."""
    if not given.x.shape[1] and not np.size(given.y):
        raise SpecError(f"run {run.name}: its examples have neither inputs nor labels")
    groups = run.design.column_of_each
    return of_arrays(
        given.x.astype(np.float64),
        given.y,
        given.x_targets.astype(np.float64),
        given.y_targets,
        alpha=run.spec.alpha,
        columns=None if groups is None else (np.asarray(groups), run.design.columns),
        varies=_varies(run),
    )


def with_gradients(given: Any, run: Run, scores: GradientScores) -> Pairs:
    """Return features of a run with scores by gradients: beside others, or alone if `given` is no Pairs."""
    pairs = given if isinstance(given, Pairs) else Pairs((), (), None, _varies(run))
    return dataclasses.replace(pairs, gradients=scores)


def _varies(run: Run) -> np.ndarray:
    inclusion = run.design.inclusion
    return (inclusion > 0) & (inclusion < 1)


def of_arrays(
    x: np.ndarray,
    y: np.ndarray,
    x_targets: np.ndarray,
    y_targets: np.ndarray,
    *,
    alpha: float,
    columns: tuple[np.ndarray, int] | None = None,
    varies: np.ndarray | None = None,
) -> Pairs:
    """Return the features of a pool [N, f] and of targets [n, f]; y may be classes, numbers or texts."""
    kind, labels, theirs = _labels(y, y_targets)
    rng = np.random.default_rng(0)
    d = len(x) if columns is None else columns[1]
    # Hot columns of a large number of classes leave little room for components.
    outputs = int(labels.max()) + 1 if kind == "classes" else 1
    components = max(4, min(COMPONENTS, PARAMETERS // (2 * outputs)))
    pool, others = inputs.prepared(x, x_targets, components)
    sizes = max(min(FEWEST, len(pool)), round(alpha * len(pool)))
    subsets = np.stack([np.sort(rng.choice(len(pool), sizes, replace=False)) for _ in range(SUBSETS)])
    landmarks = pool[np.sort(rng.choice(len(pool), min(LANDMARKS, len(pool), components + 1), replace=False))]
    curved = inputs.nystroem(pool, others, landmarks, RBF_GAMMA)
    linear = inputs.with_constant(pool), inputs.with_constant(others)
    nonlinear = inputs.with_constant(np.hstack([pool, curved[0]])), inputs.with_constant(np.hstack([others, curved[1]]))
    names: list[str] = []
    blocks: list[Block] = []
    maps = [("linear", linear, LAMBDAS), ("rbf", nonlinear, (RBF_LAMBDA,))]
    for name, given, lambdas in maps if kind != "none" else ():
        if kind == "classes":
            hot = (labels[:, None] == np.arange(outputs)).astype(np.float64)
            models = functools.cache(functools.partial(_logistic, given[0], hot, subsets, lambdas))
            names += [f"influence, {name}, {lambda_:g}" for lambda_ in lambdas]
            blocks.append(functools.partial(_logistic_block, models, given, (hot, theirs)))
        else:
            ridges = functools.cache(functools.partial(_ridge, given[0], labels, subsets, lambdas))
            ways = ("prediction", "squared error", "absolute error")
            names += [f"influence on {way}, {name}, {lambda_:g}" for lambda_ in lambdas for way in ways]
            blocks.append(functools.partial(_ridge_block, ridges, given, (labels, theirs)))
    classes = (labels, theirs) if kind == "classes" else None
    names += SIMILAR if classes is None else SIMILAR_BY_CLASS
    blocks.append(functools.partial(_similarity_block, pool, others, classes))
    varies = np.ones(d, dtype=bool) if varies is None else varies
    of_columns = labels if kind == "classes" and columns is None else None
    return Pairs(tuple(names), tuple(blocks), columns, varies, classes=of_columns)


def bytes_of(examples: int) -> int:
    """Return the most bytes of inputs and simple models of a pool, besides features, while the models are fitted."""
    inputs_of_each = COMPONENTS + LANDMARKS + 1
    together = min(TOGETHER, SUBSETS * examples // 2 * inputs_of_each)
    return MODEL_BYTES + 8 * (together + examples * (COMPONENTS + inputs_of_each))


def made_up(n: int, d: int) -> Pairs:
    """Return features of random inputs of 10 classes: n targets and d columns. They take as long as real ones."""
    rng = np.random.default_rng(0)
    x, theirs = (rng.normal(size=(size, COMPONENTS)) for size in (d, n))
    return of_arrays(x, np.arange(d) % 10, theirs, np.arange(n) % 10, alpha=0.5)


def _labels(y: np.ndarray, y_targets: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    """Return (`classes`, `numbers` or `none`, labels of the pool, labels of the targets).

    Classes are int64, numbered from 0; -1 for a target whose class is not in the pool. Numbers are float64[.., k],
    standardised.
    """
    if y.ndim == y_targets.ndim == 1 and y.dtype.kind in "iuUS":
        values, labels = np.unique(y, return_inverse=True)
        numeric = y.dtype.kind in "iu"
        if 1 < len(values) <= MOST_CLASSES and (not numeric or len(y) >= FEW_EACH * len(values)):
            place = np.clip(np.searchsorted(values, y_targets), 0, len(values) - 1)
            return "classes", labels, np.where(values[place] == y_targets, place, -1)
    if y.dtype.kind in "iuf" and y_targets.dtype.kind in "iuf" and y.shape[1:] == y_targets.shape[1:]:
        numbers, theirs = (part.reshape(len(part), -1).astype(np.float64) for part in (y, y_targets))
        center, spread = numbers.mean(axis=0), numbers.std(axis=0)
        spread = np.where(spread > 0, spread, 1)
        if np.isfinite(numbers).all() and np.isfinite(theirs).all():
            return "numbers", (numbers - center) / spread, (theirs - center) / spread
    return "none", np.zeros(len(y)), np.zeros(len(y_targets))


def _logistic(x: np.ndarray, hot: np.ndarray, subsets: np.ndarray, lambdas: tuple[float, ...]) -> list[list[Logistic]]:
    """Return a model of each subset for each lambda, from the largest; each starts where the previous one ended."""
    found: list[list[Logistic]] = [[] for _ in lambdas]
    for group in np.array_split(subsets, min(len(subsets), -(-subsets.size * x.shape[1] // TOGETHER))):
        models: list[Logistic] = []
        for of_lambda, lambda_ in zip(found, lambdas, strict=True):
            models = Logistic.fits(x, hot, group, lambda_, models)
            of_lambda += models
    return found


def _ridge(x: np.ndarray, y: np.ndarray, subsets: np.ndarray, lambdas: tuple[float, ...]) -> list[list[Ridge]]:
    """Return a model of each subset for each lambda."""
    return [[Ridge.fit(x[subset], y[subset], lambda_) for subset in subsets] for lambda_ in lambdas]


def _logistic_block(
    fitted: Callable[[], list[list[Logistic]]],
    given: tuple[np.ndarray, np.ndarray],
    classes: tuple[np.ndarray, np.ndarray],
    targets: np.ndarray,
    xp: ModuleType,
) -> np.ndarray:
    """Return the influences on margins, averaged over subsets, [lambdas, t, N].

    given    inputs of the pool and of all targets
    classes  hot classes of the pool, and labels of all targets
    """
    (x, x_targets), (hot, labels) = given, classes
    single, theirs = xp.asarray(x.astype(np.float32)), x_targets[targets].astype(np.float32)

    def parts(models: list[Logistic]) -> Iterator[np.ndarray]:
        for model in models:
            missing = xp.asarray((hot - model.probabilities(x)).astype(np.float32))
            yield model.influence(single, missing, theirs, labels[targets], xp)

    return xp.stack([_mean(parts(models), len(models)) for models in fitted()])


def _ridge_block(
    fitted: Callable[[], list[list[Ridge]]],
    given: tuple[np.ndarray, np.ndarray],
    numbers: tuple[np.ndarray, np.ndarray],
    targets: np.ndarray,
    xp: ModuleType,
) -> np.ndarray:
    """Return influences on predictions, squared and absolute errors, averaged over subsets, [3 lambdas, t, N].

    Predictions, and errors, of several numbers are added up.

    given, numbers  inputs and labels of the pool and of all targets
    """
    (x, x_targets), (y, y_targets) = given, numbers
    pool, theirs = xp.asarray(x), x_targets[targets]

    def parts(models: list[Ridge]) -> Iterator[np.ndarray]:
        for model in models:
            missing = xp.asarray((y - x @ model.weights).T.astype(np.float32))
            miss = theirs @ model.weights - y_targets[targets]
            ways = np.stack([np.ones_like(miss), 2 * miss, np.sign(miss)]).astype(np.float32)
            yield model.leverage(pool, theirs, xp) * (xp.asarray(ways) @ missing)

    return xp.concatenate([_mean(parts(models), len(models)) for models in fitted()])


def _similarity_block(
    x: np.ndarray,
    x_targets: np.ndarray,
    classes: tuple[np.ndarray, np.ndarray] | None,
    targets: np.ndarray,
    xp: ModuleType,
) -> np.ndarray:
    """Return similarities [k, t, N]: of all examples, or by class if there are classes (labels, their labels)."""
    theirs, pool = xp.asarray(x_targets[targets]), xp.asarray(x)
    near = inputs.rbf(theirs, pool, NEAR_GAMMA).astype(np.float32)
    cosine = inputs.cosine(theirs, pool).astype(np.float32)
    if classes is None:
        return xp.stack([near, cosine])
    same = (xp.asarray(classes[1][targets])[:, None] == xp.asarray(classes[0])).astype(np.float32)
    return xp.stack([near * same, near * (1 - same), cosine * same, same])


def _mean(parts: Iterable[np.ndarray], count: int) -> np.ndarray:
    total = functools.reduce(np.add, parts)
    return total / total.dtype.type(count)


def summed(features: np.ndarray, column_of_each: np.ndarray, columns: int, xp: ModuleType = np) -> np.ndarray:
    """Return the sums [k, t, columns] over the examples of each column. CuPy has no `reduceat`: NumPy adds them up."""
    features = np.asarray(features) if xp is np else xp.asnumpy(features)
    order = np.argsort(column_of_each, kind="stable")
    starts = np.searchsorted(column_of_each[order], np.arange(columns))
    filled = np.flatnonzero(np.bincount(column_of_each, minlength=columns))
    found = np.zeros((*features.shape[:2], columns), dtype=features.dtype)
    found[:, :, filled] = np.add.reduceat(features[:, :, order], starts[filled], axis=2)
    return xp.asarray(found)
