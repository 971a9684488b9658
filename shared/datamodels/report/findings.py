"""Everything that a report says of a run, read from the object store: what there is, of a run at whatever stage."""

from __future__ import annotations

import dataclasses

from datamodels import keys, records
from datamodels.aggregate import manifest
from datamodels.analyze import curve, quality, stopping
from datamodels.analyze.curve import Point
from datamodels.analyze.evaluate import Evaluation
from datamodels.analyze.quality import Predictions, Unseen
from datamodels.errors import NotReadyError, ObjectNotFoundError
from datamodels.fit import store as fits
from datamodels.fit.store import FitRecord
from datamodels.query import Fitted
from datamodels.report.example import Examples
from datamodels.rivals.lime import Explanation
from datamodels.run import Run
from datamodels.storage import ObjectStore
from datamodels.train.data import Dataset


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """
    examples    what examples look like
    committed   models that the newest manifest lists
    failed      of them
    stopped     decisions to end training early
    fitted      the newest fit; None before the first
    unseen      predictions for unseen subsets; None without a fit, or if the spec has no unseen subsets
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
    unseen: Predictions | None = None
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
    predictions = Unseen.read(run, snapshot, store).predicted_by(solution)
    return dataclasses.replace(
        found,
        unseen=predictions,
        evaluation=_evaluation(store, record, predictions, final=snapshot.committed == run.spec.models),
        curve=_curve(store, run, record),
    )


def _evaluation(store: ObjectStore, record: FitRecord, predictions: Predictions, *, final: bool) -> Evaluation | None:
    """Read the evaluation of a fit, or compute it, and record it if it is final; None if too few models are trained."""
    found = quality.recorded(store, record.run, record.number)
    if found is not None:
        return found
    try:
        found = predictions.evaluate()
    except NotReadyError:
        return None
    if final:
        quality.record(store, record.run, record.number, found)
    return found


def _curve(store: ObjectStore, run: Run, record: FitRecord) -> list[Point]:
    try:
        return curve.from_document(records.read(store, keys.curve(run.name, record.number)))
    except ObjectNotFoundError:
        return []
