"""Compare the datamodels of a run with other methods, on the same unseen subsets and by the same retrainings.

There are two tests. The first is LDS, see `quality.evaluate`: the prediction of a method for a subset is the sum of its
scores over the subset, up to a factor. The second is the flip rate at k (Ilyas et al. 2022, section 4.1; the review's
Figure 5): remove the k columns that help a target most according to the method, train models without them, and check
whether their mean output is wrong. If a method has fewer than k helpful columns, all of them are removed. Removal stops
before a class becomes empty. Without a threshold of the output nothing is wrong, and only LDS is measured.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodels.aggregate import manifest
from datamodels.analyze.quality import interval
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.quality.unseen import Unseen
from datamodels.analyze.what_if import pool
from datamodels.analyze.what_if.retrain import Retrainer, measure
from datamodels.analyze.what_if.support import before_a_class_is_empty
from datamodels.baselines.context import Context
from datamodels.baselines.scoring import MethodScores
from datamodels.errors import InputError, NotReadyError
from datamodels.fit.job import fits, gradients
from datamodels.fit.job.finished import require_fit
from datamodels.run.runs import Run

DATAMODELS = "datamodels"
LDS, UNSURE = "lds", "unsure"
"""Names of figures; `flips_at` returns the others."""
UNSURE_SHARES = (0.05, 0.95)
"""Between these shares of models that are right, a target counts as unsure."""
FEWEST = 5
"""Fewest unsure targets that an LDS is computed for."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """Difference of a method's figure from that of the datamodels, with its interval at `interval.LEVEL`."""

    value: float
    interval: tuple[float, float]


def of_datamodels(context: Context) -> tuple[MethodScores, np.ndarray]:
    """Return (weights of the run's newest fit as scores, bool[n]: which targets have weights).

    Its seconds include those of the gradients that the fit has weighed, as those of other methods include theirs.
    Raises NotReadyError if the run has no fit, CorruptObjectError.
    """
    run = context.run
    record = require_fit(context.store, run.name)
    solution = fits.load(context.store, record)
    weighed = gradients.used_by(context.store, record.of(run), record)
    seconds = record.seconds + (0.0 if weighed is None else weighed.seconds)
    entry = MethodScores(DATAMODELS, solution.dense(range(run.n)), record.rows, seconds)
    return entry, solution.modelled


def difference(found: Evaluation, reference: Evaluation) -> Difference:
    """Return the difference of two LDS that resampled the same subsets. Too few subsets tell nothing of it."""
    value = found.lds - reference.lds
    if found.few:
        return Difference(value, (-2.0, 2.0))
    return Difference(value, interval.around(value, found.deviations - reference.deviations))


def unsure(context: Context, modelled: np.ndarray) -> np.ndarray:
    """Return int[t]: targets with weights that some of the run's models get right and some wrong."""
    low, high = UNSURE_SHARES
    return np.flatnonzero(modelled & (context.shares.right >= low) & (context.shares.right <= high))


@dataclasses.dataclass(frozen=True, eq=False)
class Flips:
    """Targets that models get wrong without the columns that help most according to a method.

    targets  int[t]; models of the whole pool get them right
    flipped  bool[t]; whether the mean output is wrong without the columns
    """

    targets: np.ndarray
    flipped: np.ndarray

    @property
    def rate(self) -> float:
        return float(self.flipped.mean())

    @property
    def interval(self) -> tuple[float, float]:
        return interval.share(int(self.flipped.sum()), len(self.flipped))

    def less(self, other: Flips) -> Difference:
        """Return the difference of two rates on the same targets."""
        change = self.flipped.astype(np.float64) - other.flipped
        low, high = interval.mean(change)
        return Difference(float(change.mean()), (max(low, -1.0), min(high, 1.0)))


def right_targets(retrainer: Retrainer, run: Run, modelled: np.ndarray, count: int) -> np.ndarray:
    """Spread `count` targets evenly over all with weights. Return int[t]: those that models of the pool get right.

    Raises InputError for a count below 2 or above the number of targets, and if the output has no threshold;
    NotReadyError if fewer than 2 are right.
    """
    there = np.flatnonzero(modelled)
    if not 2 <= count <= len(there):
        raise InputError(f"targets = {count}: must be 2 to {len(there)}, the targets that have weights")
    candidates = there[np.linspace(0, len(there) - 1, count).astype(int)]
    base = pool.whole(run)
    found = measure(retrainer, run, [(target, base) for target in candidates.tolist()])
    right = candidates[~run.output.wrong(np.array([measured.mean for measured in found]))]
    if len(right) < 2:
        more = "; ask for more targets" if count < len(there) else ""
        raise NotReadyError(
            f"run {run.name}: models of the whole pool get {len(right)} of {count} targets right, and flip rates need "
            f"2{more}"
        )
    return right


def without_best(run: Run, scores: np.ndarray, target: int, k: int) -> np.ndarray:
    """Return bool[d]: the whole pool without the target itself and the k columns that help it most by their scores.

    scores  float[d]; by how much a column raises the output
    """
    base, gain = pool.without_own(run, pool.whole(run), target), run.output.sign * scores
    free = np.flatnonzero(base & (run.design.stratum >= 0) & (gain > 0))
    order = free[np.argsort(-gain[free], kind="stable")][:k]
    after = base.copy()
    after[order[: before_a_class_is_empty(run, base, order)]] = False
    return after


def flips(
    retrainer: Retrainer,
    run: Run,
    entry: MethodScores,
    targets: np.ndarray,
    sizes: Sequence[int],
    *,
    tick: Callable[[], None] = lambda: None,
) -> dict[int, Flips]:
    """Measure flips for each number of removed columns.

    targets  int[t], as `right_targets` returns them
    tick     called after each of the sizes
    """
    found = {}
    for k in sizes:
        sets = [(target, without_best(run, entry.scores[target], target, k)) for target in targets.tolist()]
        means = [measured.mean for measured in measure(retrainer, run, sets)]
        found[k] = Flips(targets, run.output.wrong(np.array(means)))
        tick()
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """The figures of a method. The row of the datamodels comes first and has no differences.

    lds         on all targets with a model
    unsure      LDS on targets that some models get right and some wrong; None for fewer than FEWEST of them
    flips       by the number of removed columns; empty if the output has no threshold
    difference  differences from the datamodels' figures, by name
    """

    entry: MethodScores
    lds: Evaluation
    unsure: Evaluation | None
    flips: dict[int, Flips]
    difference: dict[str, Difference]

    def document(self) -> Document:
        """Return the row as JSON values."""
        figures = {
            LDS: (self.lds.lds, self.lds.interval),
            UNSURE: None if self.unsure is None else (self.unsure.lds, self.unsure.interval),
        }
        figures |= {flips_at(k): (found.rate, found.interval) for k, found in self.flips.items()}
        return {
            "method": self.entry.name,
            "models": self.entry.models,
            "seconds": self.entry.seconds,
            "few": self.lds.few or None,
            "doubt": self.entry.doubt or None,
            "figures": {
                name: None
                if figure is None
                else {"value": figure[0], "interval": list(figure[1])}
                | ({"less_datamodels": _fields(self.difference[name])} if name in self.difference else {})
                for name, figure in figures.items()
            },
            "targets": {
                LDS: self.lds.targets,
                UNSURE: 0 if self.unsure is None else self.unsure.targets,
                "flips": len(next(iter(self.flips.values())).targets) if self.flips else 0,
            },
        }


def flips_at(k: int) -> str:
    """Return the name of the flip rate at k."""
    return f"flips_at_{k}"


Document = dict[str, Any]
"""What `Row.document` returns."""


def read_documents(path: Path) -> list[Document]:
    """Read the rows that `datamodels compare RUN --json` printed; the datamodels come first.

    Raises InputError if the file is anything else.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        for row in rows:
            str(row["method"]), int(row["models"]), float(row["seconds"])
            for figure in filter(None, row["figures"].values()):
                float(figure["value"]), *map(float, figure["interval"])
        same = all(row["figures"].keys() == rows[0]["figures"].keys() for row in rows[1:])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not what `datamodels compare RUN --json` prints: {error}") from error
    if not rows:
        raise InputError(f"{path}: is empty; `datamodels compare RUN --json > {path}` writes it")
    if not same or LDS not in rows[0]["figures"]:
        raise InputError(f"{path}: is not what `datamodels compare RUN --json` prints: no rows of the same figures")
    return rows


def _fields(found: Difference) -> dict[str, Any]:
    return {"value": found.value, "interval": list(found.interval)}


class Comparison:
    """Runs the two tests for one method at a time.

    retrainer  of the run; None to measure LDS only, as if the output had no threshold
    targets    number of targets for flip rates, see `right_targets`
    sizes      numbers of columns to remove

    Raises the errors of `of_datamodels`, `Unseen.read` and `right_targets`.
    """

    def __init__(self, context: Context, retrainer: Retrainer | None, targets: int, sizes: Sequence[int]):
        self._context, self._retrainer, self._sizes = context, retrainer, sizes
        reference, self._modelled = of_datamodels(context)
        self._unseen = Unseen.read(context.run, manifest.read_newest(context.store, context.run.name), context.store)
        self._right = self._unsure = np.zeros(0, dtype=np.int64)
        if retrainer is not None:
            self._right = right_targets(retrainer, context.run, self._modelled, targets)
            self._unsure = unsure(context, self._modelled)
        self._reference: Row | None = None
        self.reference = reference

    def row(self, entry: MethodScores, tick: Callable[[], None] = lambda: None) -> Row:
        """Return the row of a method. The first call must be for `reference`. Raises the errors of retraining."""
        lds = self._lds(entry, np.flatnonzero(self._modelled))
        unsure = self._lds(entry, self._unsure) if len(self._unsure) >= FEWEST else None
        found = {}
        if self._retrainer is not None:
            found = flips(self._retrainer, self._context.run, entry, self._right, self._sizes, tick=tick)
        else:
            tick()
        other, differences = self._reference, {}
        if other is not None:
            differences[LDS] = difference(lds, other.lds)
            if unsure is not None and other.unsure is not None:
                differences[UNSURE] = difference(unsure, other.unsure)
            differences |= {flips_at(k): each.less(other.flips[k]) for k, each in found.items()}
        row = Row(entry, lds, unsure, found, differences)
        self._reference = other or row
        return row

    def _lds(self, entry: MethodScores, targets: np.ndarray) -> Evaluation:
        """Evaluate scores on the unseen subsets for targets int[t], each of which has a value in `per_target`."""
        predicted = self._unseen.members.astype(np.float32) @ entry.scores[targets].T
        return self._unseen.with_predictions(predicted, self._modelled, targets).evaluate()
