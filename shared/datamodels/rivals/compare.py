"""The datamodels of a run beside their rivals: on the same unseen subsets, and by the same retrainings.

Two tests. LDS, see `analyze.evaluate`: the sum of a method's scores over a subset is its prediction, up to a factor.
And the flip rate at k (Ilyas et al. 2022, section 4.1; the review's Figure 5): take away the k columns that a method
says help a target most, train models without them, and see whether their mean output gets the target wrong. A method
that names fewer than k helpful columns has those taken away. Columns go only as long as no class is left empty.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodels.aggregate import manifest
from datamodels.analyze import interval, pool
from datamodels.analyze.evaluate import Evaluation
from datamodels.analyze.quality import Unseen
from datamodels.analyze.retrain import Retrainer, measure
from datamodels.analyze.support import before_a_class_is_empty
from datamodels.errors import InputError, NotReadyError
from datamodels.fit import store as fits
from datamodels.rivals.contest import Entry
from datamodels.rivals.given import Given
from datamodels.run import Run

DATAMODELS = "datamodels"
LDS, UNSURE = "lds", "unsure"
"""Names of figures; `flips_at` has the others."""
UNSURE_SHARES = (0.05, 0.95)
"""Share of models that are right about a target, for it to count as unsure."""
FEWEST = 5
"""Unsure targets that an LDS is told of."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """A method's figure less that of the datamodels, with its interval at `interval.LEVEL`."""

    value: float
    interval: tuple[float, float]


def of_datamodels(given: Given) -> tuple[Entry, np.ndarray]:
    """(the run's newest fit as an entry, bool[n] which targets have a model).

    Raises NotReadyError where the run has no fit, CorruptObjectError.
    """
    run = given.run
    record = fits.read_newest_fit(given.store, run.name)
    if record is None:
        raise NotReadyError(f"run {run.name}: has no weights yet; `datamodels fit` makes them")
    solution = fits.load(given.store, record)
    entry = Entry(DATAMODELS, solution.dense(range(run.n)), record.rows, record.seconds)
    return entry, solution.modelled


def difference(found: Evaluation, reference: Evaluation) -> Difference:
    """Of LDS. Both resampled the same subsets."""
    value = found.lds - reference.lds
    return Difference(value, interval.around(value, found.deviations - reference.deviations))


def unsure(given: Given, modelled: np.ndarray) -> np.ndarray:
    """int[t]: targets with a model that the run's models get now right, now wrong: where correctness tells anything."""
    low, high = UNSURE_SHARES
    return np.flatnonzero(modelled & (given.shares.right >= low) & (given.shares.right <= high))


@dataclasses.dataclass(frozen=True, eq=False)
class Flips:
    """How many targets models get wrong without the columns that a method says help them.

    targets  int[t]; right before
    flipped  bool[t]; the mean output is below the threshold then
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
        """Of the rates, on the same targets."""
        change = self.flipped.astype(np.float64) - other.flipped
        return Difference(float(change.mean()), interval.mean(change))


def right_targets(
    retrainer: Retrainer, run: Run, modelled: np.ndarray, count: int, threshold: float = 0.0
) -> np.ndarray:
    """int[t]: of `count` targets spread evenly over those with a model, the ones that models of the pool get right.

    Raises InputError for a count below 2 or beyond the targets, NotReadyError where fewer than 2 are right.
    """
    there = np.flatnonzero(modelled)
    if not 2 <= count <= len(there):
        raise InputError(f"targets = {count}: must be 2 to {len(there)}, the targets that have weights")
    candidates = there[np.linspace(0, len(there) - 1, count).astype(int)]
    base = pool.whole(run)
    found = measure(retrainer, run, [(target, base) for target in candidates.tolist()], threshold)
    right = candidates[[measured.mean >= threshold for measured in found]]
    if len(right) < 2:
        raise NotReadyError(
            f"run {run.name}: models of the whole pool get {len(right)} of {count} targets right; ask for more targets"
        )
    return right


def without_best(run: Run, scores: np.ndarray, target: int, k: int) -> np.ndarray:
    """bool[d]: the whole pool less the k columns of largest positive score, float[d]; and less the target itself."""
    base = pool.without_own(run, pool.whole(run), target)
    free = np.flatnonzero(base & (run.design.stratum >= 0) & (scores > 0))
    order = free[np.argsort(-scores[free], kind="stable")][:k]
    after = base.copy()
    after[order[: before_a_class_is_empty(run, base, order)]] = False
    return after


def flips(
    retrainer: Retrainer,
    run: Run,
    entry: Entry,
    targets: np.ndarray,
    sizes: Sequence[int],
    *,
    threshold: float = 0.0,
    tick: Callable[[], None] = lambda: None,
) -> dict[int, Flips]:
    """Of each number of columns taken away.

    targets    int[t], as of `right_targets`
    threshold  outputs below it are wrong
    tick       called after each of the sizes
    """
    found = {}
    for k in sizes:
        sets = [(target, without_best(run, entry.scores[target], target, k)) for target in targets.tolist()]
        means = [measured.mean for measured in measure(retrainer, run, sets, threshold)]
        found[k] = Flips(targets, np.array(means) < threshold)
        tick()
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """How a method did, beside the datamodels, whose row comes first and has no differences.

    lds         on all targets with a model
    unsure      LDS on those that some models get right and some wrong; None where they are fewer than FEWEST
    flips       by the number of columns taken away
    difference  of lds, unsure and flips
    """

    entry: Entry
    lds: Evaluation
    unsure: Evaluation | None
    flips: dict[int, Flips]
    difference: dict[str, Difference]

    def document(self) -> Document:
        """Return the row as JSON values."""
        figures = {LDS: self.lds.lds, UNSURE: None if self.unsure is None else self.unsure.lds}
        spans = {LDS: self.lds.interval, UNSURE: None if self.unsure is None else self.unsure.interval}
        for k, found in self.flips.items():
            figures[flips_at(k)], spans[flips_at(k)] = found.rate, found.interval
        return {
            "method": self.entry.name,
            "models": self.entry.models,
            "seconds": self.entry.seconds,
            "figures": {
                name: None
                if value is None
                else {"value": value, "interval": list(spans[name])}
                | ({"less_datamodels": _fields(self.difference[name])} if name in self.difference else {})
                for name, value in figures.items()
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

    Raises InputError if the file is nothing of the kind.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        for row in rows:
            str(row["method"]), int(row["models"]), float(row["seconds"])
            for figure in filter(None, row["figures"].values()):
                float(figure["value"]), *map(float, figure["interval"])
        same = all(row["figures"].keys() == rows[0]["figures"].keys() for row in rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not what `datamodels compare RUN --json` prints: {error}") from error
    if not rows or not same or LDS not in rows[0]["figures"]:
        raise InputError(f"{path}: is not what `datamodels compare RUN --json` prints: no rows of the same figures")
    return rows


def _fields(found: Difference) -> dict[str, Any]:
    return {"value": found.value, "interval": list(found.interval)}


class Comparison:
    """Runs the two tests for one entry after the other.

    retrainer  of the run
    targets    for flip rates, see `right_targets`
    sizes      numbers of columns to take away

    Raises what `of_datamodels`, `Unseen.read` and `right_targets` raise.
    """

    def __init__(
        self, given: Given, retrainer: Retrainer, targets: int, sizes: Sequence[int], *, threshold: float = 0.0
    ):
        self._given, self._retrainer, self._sizes, self._threshold = given, retrainer, sizes, threshold
        reference, self._modelled = of_datamodels(given)
        self._unseen = Unseen.read(given.run, manifest.read_newest(given.store, given.run.name), given.store)
        self._right = right_targets(retrainer, given.run, self._modelled, targets, threshold)
        self._unsure = unsure(given, self._modelled)
        self._reference: Row | None = None
        self.reference = reference

    def row(self, entry: Entry, tick: Callable[[], None] = lambda: None) -> Row:
        """That of `reference` must be asked for first. Raises what retraining raises."""
        lds = self._lds(entry, np.flatnonzero(self._modelled))
        unsure = self._lds(entry, self._unsure) if len(self._unsure) >= FEWEST else None
        found = flips(
            self._retrainer, self._given.run, entry, self._right, self._sizes, threshold=self._threshold, tick=tick
        )
        other, differences = self._reference, {}
        if other is not None:
            differences[LDS] = difference(lds, other.lds)
            if unsure is not None:
                differences[UNSURE] = difference(unsure, other.unsure)
            differences |= {flips_at(k): each.less(other.flips[k]) for k, each in found.items()}
        row = Row(entry, lds, unsure, found, differences)
        self._reference = other or row
        return row

    def _lds(self, entry: Entry, targets: np.ndarray) -> Evaluation:
        """Score an entry on the unseen subsets, for targets int[t]; `Evaluation.per_target` is of these."""
        predicted = self._unseen.members.astype(np.float32) @ entry.scores[targets].T
        return self._unseen.beside(predicted, self._modelled, targets).evaluate()
