"""Compute scores by gradients of a run's first models, for the prior of its fits, and commit them.

The models are trained again from their seeds: 20 trainings are few beside those of a run, and gradients are far larger
than what trainers send. Their subsets are among those that fits use, so unseen subsets stay unseen.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from datamodels.errors import DatamodelsError, InputError, SpecError
from datamodels.fit.data.examples import require_same
from datamodels.fit.data.problem import FOLDS, NO_COLUMN, fold_of, pair_of
from datamodels.fit.job import gradients
from datamodels.fit.job.gradients import GradientRecord
from datamodels.fit.pairs.pairs import summed
from datamodels.run import designs
from datamodels.run.dataset import NOT_IN_POOL, Dataset
from datamodels.run.runs import Run
from datamodels.run.user_code import ANYTHING, pass_on, why
from datamodels.settings import TrainerSettings
from datamodels.storage import ObjectStore
from datamodels.telemetry import logger
from datamodels.train import device
from datamodels.train.contract import load_trainer, model_seed
from datamodels.train.gradients import offered
from datamodels.train.gradients.influence import scores

log = logger(__name__)

Tell = Callable[[int, int], None]


def ensure(
    run: Run, load: Callable[[], Dataset], store: ObjectStore, tell: Tell = lambda done, of: None
) -> GradientRecord | None:
    """Return the scores that fits of a run use; compute and commit them if they are not in the store.

    load  returns the data set of the run; called if scores are computed
    tell  called with (models done, number of models)

    Returns None if fits use none, or if data set and trainer give none here. Raises SpecError if they give none and the
    spec asks for them by a number, and the errors of the store.
    """
    models = gradients.wanted(run)
    if not models:
        return None
    found = gradients.read(store, run, models)
    if found is not None:
        return found
    started = time.monotonic()
    try:
        made = compute(run, load(), models, tell)
    except ANYTHING as error:
        pass_on(error)
        reason = str(error) if isinstance(error, DatamodelsError) else why(error)
        if run.spec.fit.gradients is not None:
            raise SpecError(f"fit.gradients = {run.spec.fit.gradients}: {reason}; or leave it out") from error
        log.info("no gradients", run=run.name, reason=reason)
        return None
    return gradients.write(store, run, models, made, time.monotonic() - started)


def require_stored(run: Run, store: ObjectStore) -> None:
    """Raise SpecError if the spec asks for gradients by a number, and the store does not have them.

    For drivers that train no models themselves, because trainers run on other machines.
    """
    models = gradients.wanted(run)
    if run.spec.fit.gradients is not None and models and gradients.read(store, run, models) is None:
        fit = f"`datamodels fit {run.name} --fit estimator={run.spec.fit.estimator}`"
        raise SpecError(
            f"fit.gradients = {run.spec.fit.gradients}: the driver of this cluster trains no models, and the store has "
            f"no gradients of run {run.name}; set jobs.driver.gradients in the chart, or leave it out, and when the "
            f"models are committed, {fit} computes them on a machine that can train models"
        )


def compute(run: Run, dataset: Dataset, models: int, tell: Tell = lambda done, of: None) -> np.ndarray:
    """Return scores float32[folds, n, d] of the first models of a run, as `GradientScores` describes them.

    Raises InputError if the trainer offers no gradients, SpecError if it does not load or the data set has changed.
    """
    targets = require_same(run, dataset)
    trainer = load_trainer(run.spec, dataset, targets)
    source = offered(trainer)
    if source is None:
        raise InputError(f"trainer.class = {run.spec.trainer.cls!r}: offers no gradients")
    total = _Total(run)
    with device.limit_threads(TrainerSettings.load().threads):
        for first in range(0, models, trainer.models_at_once):
            numbers = range(first, min(first + trainer.models_at_once, models))
            columns = [designs.subset(run.design, number) for number in numbers]
            subsets = [run.design.members(some) for some in columns]
            trained = trainer.train_many(subsets, [model_seed(run.spec.seed, number) for number in numbers])
            for place, number in enumerate(numbers):
                tell(number, models)
                given = source.gradients(trained[place])
                if (given.targets, given.examples) != (run.n, run.design.examples):
                    raise InputError(
                        f"trainer.class = {run.spec.trainer.cls!r}: its gradients are of {given.examples} examples and "
                        f"{given.targets} targets; the run has {run.design.examples} and {run.n}"
                    )
                total.add(number, columns[place], scores(given, subsets[place], number))
    tell(models, models)
    if not total.counts.any():
        raise InputError(f"trainer.class = {run.spec.trainer.cls!r}: none of its gradients are finite")
    return total.means()


class _Total:
    """Adds up the scores of models, fold by fold.

    counts  int64[folds, n]; number of models that count for each target
    """

    def __init__(self, run: Run):
        self._design = run.design
        self._own = np.array(
            [NO_COLUMN if example == NOT_IN_POOL else run.design.column_of(int(example)) for example in run.own]
        )
        self._sums = np.zeros((FOLDS, run.n, run.design.columns), dtype=np.float32)
        self.counts = np.zeros((FOLDS, run.n), dtype=np.int64)

    def add(self, model: int, columns: np.ndarray, found: np.ndarray) -> None:
        """Add the scores [n, examples] of a model that was trained on some columns, if they are finite.

        They do not count for targets that the model was trained on: its loss there is nearly 0, and the fits of these
        targets leave the model out, too.
        """
        if not np.isfinite(found).all():
            return
        groups = self._design.column_of_each
        if groups is not None:
            found = summed(found[None], np.asarray(groups), self._design.columns)[0]
        fold, counts = int(fold_of(pair_of(np.array(model)))), ~np.isin(self._own, columns)
        self._sums[fold, counts] += found[counts]
        self.counts[fold] += counts

    def means(self) -> np.ndarray:
        """Return float32[folds, n, d]: means over the models of each fold; NaN for targets without any."""
        self._sums[self.counts == 0] = np.nan
        self._sums /= np.maximum(self.counts, 1)[:, :, None].astype(np.float32)
        return self._sums
