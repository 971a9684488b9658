"""Check predictions of an analysis: train models with the run's own trainer on the sets that the analysis is about."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence

import numpy as np

from datamodels.analyze.quality import interval
from datamodels.analyze.what_if import pool
from datamodels.errors import InputError, StageError
from datamodels.outputs import Output
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.train.batches import Batches, unusable
from datamodels.train.contract import load_trainer
from datamodels.train.observer import Counter

MOST_MODELS = 10_000
"""Most models to train on each set."""


class Retrainer:
    """Trains models of a run on given sets of columns.

    Model r of each set has the seed of model `spec.models + r`, which the run does not use. All sets have the same
    seeds, which makes differences between sets less noisy. The outputs of a set are remembered, so it is trained once.

    dataset  data set of the run
    models   number of models to train on each set, at least 2
    counter  counts the models as they are trained

    Raises InputError, and the errors of loading and running the trainer.
    """

    def __init__(self, run: Run, dataset: Dataset, models: int, counter: Counter | None = None):
        if not 2 <= models <= MOST_MODELS:
            raise InputError(f"models = {models}: must be 2 to {MOST_MODELS}")
        self._run, self._models, self._dataset, self._counter = run, models, dataset, counter or Counter()
        self._batches = self._trained_on(dataset)
        self._known: dict[bytes, np.ndarray] = {}

    def outputs(self, sets: Sequence[np.ndarray]) -> np.ndarray:
        """Return float[s, r, n]: outputs of models trained on s sets bool[d]; NaN for models that failed twice.

        A model that fails is trained once more with another seed. Raises InputError for a set without examples.
        """
        keys = [members.tobytes() for members in sets]
        new = {key: members for key, members in zip(keys, sets, strict=True) if key not in self._known}
        if new:
            self._known |= dict(zip(new, self._train(list(new.values()), self._batches), strict=True))
        return np.stack([self._known[key] for key in keys])

    def relabelled(self, members: np.ndarray, columns: np.ndarray, label: int) -> np.ndarray:
        """Return float[r, n]: outputs of models trained on a set bool[d] in which columns int[k] have another label.

        Targets keep their labels, also if they are in the pool.
        """
        y = self._dataset.y.copy()
        y[self._run.design.members(columns)] = label
        return self._train([members], self._trained_on(dataclasses.replace(self._dataset, y=y)))[0]

    def singles(self, sets: Sequence[np.ndarray]) -> np.ndarray:
        """Return float[s, n]: outputs of one model on each set bool[d], each with its own seed; NaN as `outputs`."""
        return self._each([self._run.spec.models + i for i in range(len(sets))], list(sets), self._batches)

    def _trained_on(self, dataset: Dataset) -> Batches:
        targets = self._dataset.targets(self._run.spec.targets)
        return Batches(self._run, load_trainer(self._run.spec, dataset, targets), threading.Event(), self._counter)

    def _train(self, sets: list[np.ndarray], batches: Batches) -> np.ndarray:
        r, n = self._models, self._run.n
        models = [self._run.spec.models + i for _ in sets for i in range(r)]
        return self._each(models, [members for members in sets for _ in range(r)], batches).reshape(len(sets), r, n)

    def _each(self, models: list[int], sets: list[np.ndarray], batches: Batches) -> np.ndarray:
        """Train one model on each set, and return their outputs, float[s, n]."""
        subsets = [self._run.design.members(np.flatnonzero(members)) for members in sets]
        if not all(len(subset) for subset in subsets):
            raise InputError("a set to train on has no examples")
        self._counter.expect(len(models))
        outputs = batches.train(models, subsets)
        again = sorted(unusable(range(len(models)), outputs, self._run.dtype))
        if again:
            self._counter.expect(len(again))
            found = batches.train([models[i] for i in again], [subsets[i] for i in again], attempt=1)
            found[sorted(unusable(range(len(again)), found, self._run.dtype))] = np.nan
            outputs[again] = found
        return outputs


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """Outputs of retrained models for one target.

    outputs         float64[r]; of the models that did not fail
    output          what they mean
    interval        interval of the mean output, at `interval.LEVEL`
    flipped         number of outputs that are wrong; None if the output has no threshold, as the next two
    share           fraction of outputs that are wrong
    share_interval  its interval, at `interval.LEVEL`; empty if the seed changes nothing
    """

    outputs: np.ndarray
    output: Output

    def __post_init__(self) -> None:
        if not len(self.outputs):
            raise StageError("every model that was trained to check this failed; `datamodels trainer check` says why")

    @property
    def mean(self) -> float:
        return float(self.outputs.mean())

    @property
    def interval(self) -> tuple[float, float]:
        low, high = self.output.within(np.array(interval.mean(self.outputs))).tolist()
        return low, high

    @property
    def flipped(self) -> int | None:
        return None if self.output.threshold is None else int(np.count_nonzero(self.output.wrong(self.outputs)))

    @property
    def share(self) -> float | None:
        return None if self.flipped is None else self.flipped / len(self.outputs)

    @property
    def certain(self) -> bool:
        """Whether the seed changes nothing, so that further models would have the same outputs, too.

        Whole numbers, as hits and ranks, may be the same by chance.
        """
        first = self.outputs[0]
        return len(self.outputs) > 1 and first != np.rint(first) and bool((self.outputs == first).all())

    @property
    def share_interval(self) -> tuple[float, float] | None:
        if self.flipped is None or self.share is None:
            return None
        return (self.share, self.share) if self.certain else interval.share(self.flipped, len(self.outputs))


CONFIRMED, REFUTED, UNCLEAR = "confirmed", "refuted", "unclear"
"""Conclusions: most models without a support get the target wrong, or right, or there are too few models to say."""
WRONG_BEFORE, RIGHT_BEFORE = "wrong_before", "right_before"
"""Conclusions from models with nothing removed: a target that is wrong already has no support to verify; and one that
is predicted to be wrong already is not."""


def conclusion(before: Measured, after: Measured | None) -> str:
    """Say what models say of a support, from those with nothing removed and, if one was found, those without it.

    The output must have a threshold.
    """
    assert before.share is not None, "a support needs a threshold"
    if before.share > 0.5:
        return WRONG_BEFORE
    if after is None or after.share_interval is None:
        return RIGHT_BEFORE
    low, high = after.share_interval
    return CONFIRMED if low > 0.5 else REFUTED if high < 0.5 else UNCLEAR


def measure(retrainer: Retrainer, run: Run, sets: Sequence[tuple[int, np.ndarray]]) -> list[Measured]:
    """Retrain models for each (target, set bool[d]), without the target itself, and measure their outputs.

    Raises StageError if all models of a set failed.
    """
    found = retrainer.outputs([pool.without_own(run, members, target) for target, members in sets])
    return [_measured(outputs, target, run) for outputs, (target, _) in zip(found, sets, strict=True)]


def measure_relabelled(
    retrainer: Retrainer, run: Run, target: int, columns: np.ndarray, label: int, members: np.ndarray | None = None
) -> Measured:
    """Do the same with another label for columns int[k] of a set bool[d], by default of the whole pool."""
    chosen = pool.without_own(run, pool.whole(run) if members is None else members, target)
    return _measured(retrainer.relabelled(chosen, columns, label), target, run)


def _measured(outputs: np.ndarray, target: int, run: Run) -> Measured:
    chosen = outputs[:, target].astype(np.float64)
    return Measured(chosen[~np.isnan(chosen)], run.output)
