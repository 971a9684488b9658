"""Everything that a report says of a run, read from the object store: what there is, of a run at whatever stage."""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels import keys, records, sample
from datamodels.aggregate import manifest
from datamodels.aggregate.manifest import Snapshot
from datamodels.analyze import evaluate, stopping
from datamodels.analyze.evaluate import Evaluation
from datamodels.analyze.trend import Point, from_document
from datamodels.errors import NotReadyError, ObjectNotFoundError
from datamodels.fit import problem
from datamodels.fit import store as fits
from datamodels.fit.finished import FitRecord
from datamodels.fit.problem import Solution
from datamodels.query import Fitted
from datamodels.report.example import Examples
from datamodels.rivals.lime import Explanation
from datamodels.run import Run
from datamodels.storage import ObjectStore
from datamodels.train.data import Dataset


@dataclasses.dataclass(frozen=True, eq=False)
class Unseen:
    """Unseen subsets: what their models said, and what datamodels predict.

    outputs      float32[s, r, n]; NaN for models that failed or are not committed
    predictions  float32[s, n]
    counts       bool[s, n]; which subsets count for which target
    """

    outputs: np.ndarray
    predictions: np.ndarray
    counts: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """
    examples    what examples look like
    committed   models that the newest manifest lists
    failed      of them
    stopped     decisions to end training early
    fitted      the newest fit; None before the first
    unseen      None without a fit, or where the spec has no unseen subsets
    evaluation  None where too few models of unseen subsets are there
    curve       points of the learning curve up to that fit; none where it was not measured
    seconds     of each stage, where a road has just been taken
    explained   by LIME: a few targets, by number, where that was asked for
    """

    run: Run
    examples: Examples
    committed: int
    failed: int
    stopped: list[stopping.Stop] = dataclasses.field(default_factory=list)
    fitted: Fitted | None = None
    unseen: Unseen | None = None
    evaluation: Evaluation | None = None
    curve: list[Point] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    explained: dict[int, Explanation] = dataclasses.field(default_factory=dict)

    @property
    def partial(self) -> bool:
        """Whether training goes on, or was left: neither all models are there, nor was it decided to end."""
        return self.committed < self.run.spec.models and not self.stopped

    @property
    def output(self) -> str:
        """What the models' outputs are called."""
        default = "margin" if self.run.labels is not None else "output"
        return str(self.run.spec.trainer.options.get("output", default)).replace("_", " ")

    @property
    def margins(self) -> bool:
        """Whether outputs are margins: below 0 where models are wrong."""
        return self.output == "margin"


def gather(store: ObjectStore, run: Run, dataset: Dataset | None, seconds: dict[str, float] | None = None) -> Findings:
    """Reads what there is; evaluates the newest fit, once, where that was not done and its models are there.

    Raises ConflictError for another data set than the run's, CorruptObjectError.
    """
    snapshot = manifest.read_newest(store, run.name)
    found = Findings(
        run=run,
        examples=Examples(run, dataset),
        committed=snapshot.committed,
        failed=len(snapshot.failed),
        stopped=stopping.recorded(store, run.name),
        seconds=seconds or {},
    )
    record = fits.read_newest_fit(store, run.name)
    if record is None:
        return found
    solution = fits.load(store, record)
    found = dataclasses.replace(found, fitted=Fitted(run, record, solution, solution.theta, store))
    if not run.spec.evaluate.subsets:
        return found
    unseen = _unseen(store, run, snapshot, solution)
    return dataclasses.replace(
        found,
        unseen=unseen,
        evaluation=_evaluation(store, run, snapshot, record, unseen),
        curve=_curve(store, run, record),
    )


def _unseen(store: ObjectStore, run: Run, snapshot: Snapshot, solution: Solution) -> Unseen:
    masks = evaluate.unseen(run)
    predictions = solution.predict(sample.unpack(masks, run.design.columns))
    counts = evaluate.countable(run, masks, ~np.isin(solution.status, problem.UNFITTED))
    return Unseen(
        outputs=evaluate.gather(run, snapshot, store),
        predictions=predictions,
        counts=np.ones(predictions.shape, dtype=bool) if counts is None else counts,
    )


def _evaluation(
    store: ObjectStore, run: Run, snapshot: Snapshot, record: FitRecord, unseen: Unseen
) -> Evaluation | None:
    key = keys.evaluation(run.name, record.number)
    try:
        return evaluate.from_document(records.read(store, key))
    except ObjectNotFoundError:
        pass
    try:
        found = evaluate.evaluate(unseen.predictions, unseen.outputs, counts=unseen.counts, seed=run.spec.seed)
    except NotReadyError:
        return None
    if snapshot.committed == run.spec.models:
        records.create(store, key, found.document())
    return found


def _curve(store: ObjectStore, run: Run, record: FitRecord) -> list[Point]:
    try:
        return from_document(records.read(store, keys.curve(run.name, record.number)))
    except ObjectNotFoundError:
        return []
