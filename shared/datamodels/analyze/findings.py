"""Gather all that a report shows of a run, at any stage: read what the store has, and compute the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from datamodels.aggregate import manifest
from datamodels.aggregate.manifest import Snapshot
from datamodels.analyze.patterns import conflicts, leakage, review
from datamodels.analyze.patterns.clusters import clusters
from datamodels.analyze.patterns.components import components
from datamodels.analyze.patterns.leakage import Pairs
from datamodels.analyze.patterns.results import Clusters, Components, Conflicts
from datamodels.analyze.patterns.review import Fragility
from datamodels.analyze.quality import evaluate, noise, stopping, trend
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.quality.interval import Estimate
from datamodels.analyze.quality.noise import Noise
from datamodels.analyze.quality.trend import Point
from datamodels.analyze.quality.unseen import Predictions, Unseen
from datamodels.analyze.quality.verdict import Verdict, of_evaluation
from datamodels.analyze.target import Targets
from datamodels.analyze.what_if import mislabel, relabel
from datamodels.analyze.what_if.mislabel import Suspects
from datamodels.display import stored
from datamodels.display.looks import Features, Loaded, Looks
from datamodels.errors import ConflictError, InputError, NotReadyError, SpecError
from datamodels.fit.data import problem
from datamodels.fit.data.problem import Solution
from datamodels.fit.job import fits
from datamodels.fit.job.fits import FitRecord
from datamodels.outputs import Output
from datamodels.run import runs
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore

T = TypeVar("T")

SUSPECTED = 12
"""Most suspected leaks, and most suspected labels, that are listed."""
COMPARISONS = 2e10
"""Most comparisons of inputs, which are targets times examples. They take about ten seconds of a core."""
GROUPED = 5000
"""Most targets that a report groups, which takes seconds; `datamodels clusters` and `components` group more."""
AXES, ENDS = 5, 7
"""Principal components, and targets at each end of one."""
SUPPORTS = 2000
"""Most targets whose supports are searched for. If there are more, a random sample is taken."""


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Clusters and principal components of targets."""

    clusters: Clusters
    components: Components


@dataclasses.dataclass(frozen=True, eq=False)
class FitFindings:
    """Findings from the newest fit.

    predicted    what predictions by the weights mean
    weights      median number of weights of a target
    unusual      number of targets whose fit did not end as OK
    predictions  for unseen subsets; None if the spec has none
    evaluation   of `predictions`; None if too few models of unseen subsets are trained
    curve        points of the learning curve up to this fit; empty if it was not measured
    ahead        forecasts (models, LDS) for more models; empty if there are too few points
    fragility    None if the output has no threshold
    groups       None if there are more than GROUPED targets, or too few have weights
    conflicts    between classes; None if there are none, neither direction of the output is better, or there are more
                 than GROUPED targets
    leaks        None if no target could have leaked, or if neither inputs nor weights can show it
    suspects     None if neither direction of the output is better, examples have no labels, or no target has weights
    suggested    for each suspect, the label that the weights suggest, or None
    """

    record: FitRecord
    predicted: Output
    solution: Solution
    targets: Targets
    weights: float
    unusual: int
    predictions: Predictions | None
    evaluation: Evaluation | None
    curve: list[Point]
    ahead: list[tuple[float, Estimate]]
    fragility: Fragility | None
    groups: Groups | None
    conflicts: Conflicts | None
    leaks: Pairs | None
    suspects: Suspects | None
    suggested: list[int | None]

    @property
    def verdict(self) -> Verdict | None:
        """Judge the evaluation; None if there is none."""
        return None if self.evaluation is None else of_evaluation(self.evaluation, self.record.rows)


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """A run and its findings.

    dataset    None if it cannot be loaded
    looks      how its examples look: as the store has it, else as the data set does; None if neither is there
    snapshot   the newest manifest
    store      the store that it was read from
    stopped    decisions to end training early
    fitted     None before the first fit
    """

    run: Run
    dataset: Dataset | None
    looks: Looks | None
    snapshot: Snapshot
    store: ObjectStore
    stopped: list[stopping.Stop] = dataclasses.field(default_factory=list)
    fitted: FitFindings | None = None

    @property
    def committed(self) -> int:
        """Number of committed models, including failed ones."""
        return self.snapshot.committed

    @property
    def failed(self) -> int:
        """Number of committed models that failed."""
        return len(self.snapshot.failed)

    @property
    def features(self) -> Features | None:
        """What is known of the numbers of rows; None if examples are not shown as rows."""
        return None if self.looks is None else self.looks.features

    @property
    def partial(self) -> bool:
        """Whether models are missing, unless a decision ended training early."""
        return self.committed < self.run.spec.models and not self.stopped

    @property
    def evaluation(self) -> Evaluation | None:
        """The evaluation of the newest fit; None if there is none."""
        return None if self.fitted is None else self.fitted.evaluation

    @property
    def predicted(self) -> Output:
        """What predictions by the weights of the newest fit mean; what the models' outputs mean if there is no fit."""
        return self.run.output if self.fitted is None else self.fitted.predicted


def gather(
    store: ObjectStore,
    run: Run,
    dataset: Dataset | None,
    known: tuple[FitRecord, Targets] | None = None,
) -> Findings:
    """Read a run's records from the store, and compute what follows from its newest fit.

    known  the fit to use in its place, if it is described already

    Records the evaluation of the fit if it is final and none is recorded. Raises ConflictError if the data set is not
    the one that the run was created with, CorruptObjectError.
    """
    if dataset is not None:
        _require_same(run, dataset)
        if not run.label_names:  # as of runs that version 0.1.0 created
            run = dataclasses.replace(run, label_names=runs.names_of(dataset, run.labels))
    snapshot = manifest.read_newest(store, run.name)
    record = None if known else fits.read_newest_fit(store, run.name)
    if record is not None:
        known = record, describe(store, record.of(run), record, fits.load(store, record), snapshot)
    return Findings(
        run=run,
        dataset=dataset,
        looks=stored.open_looks(store, run) or (None if dataset is None else Loaded(run, dataset)),
        snapshot=snapshot,
        store=store,
        stopped=stopping.recorded(store, run.name),
        fitted=None if known is None else _of_fit(store, dataset, *known),
    )


def _require_same(run: Run, dataset: Dataset) -> None:
    same = len(dataset.y) == run.design.examples and len(dataset.targets(run.spec.targets)) == run.n
    same = same and run.spans == dataset.spans(run.spec.targets)
    if not same or (run.labels is not None and not np.array_equal(run.labels, dataset.y)):
        raise ConflictError(
            f"run {run.name}: its data set now has other examples than the run was created with; restore the data"
        )


def describe(
    store: ObjectStore,
    run: Run,
    record: FitRecord,
    solution: Solution,
    snapshot: Snapshot,
    deviations: Noise | None = None,
) -> Targets:
    """Return what describes each target of a fit; reads the outputs on unseen subsets.

    run         with the settings of the fit in its spec
    deviations  the noise of the outputs, if it is known

    Records the evaluation of the fit if it is final and none is recorded. Raises CorruptObjectError.
    """
    predictions, evaluation = None, None
    if run.spec.evaluate.subsets:
        predictions = Unseen.read(run, snapshot, store).predicted_by(solution)
        evaluation = _evaluation(store, record, predictions, final=snapshot.committed == run.spec.models)
    return Targets(
        run,
        solution,
        rows=record.rows,
        noise=deviations or noise.measure(run, snapshot, store, solution),
        predictions=predictions,
        evaluation=evaluation,
    )


def _of_fit(store: ObjectStore, dataset: Dataset | None, record: FitRecord, targets: Targets) -> FitFindings:
    run, solution = targets.run, targets.solution
    points = _curve(store, record) if run.spec.evaluate.subsets else []
    output, few = run.predicted, run.n <= GROUPED
    suspects = _if_any(lambda: mislabel.suspects(run, solution, SUSPECTED))
    return FitFindings(
        record=record,
        predicted=output,
        solution=solution,
        targets=targets,
        weights=float(np.median(np.diff(solution.indptr))) if solution.n else 0.0,
        unusual=sum(status != problem.OK for status in solution.status),
        predictions=targets.predictions,
        evaluation=targets.evaluation,
        curve=points,
        ahead=trend.ahead(points) if points else [],
        fragility=None if output.threshold is None else review.fragility(run, solution, _sample(run.n, SUPPORTS)),
        groups=groups(run, solution) if few else None,
        conflicts=_if_any(lambda: _conflicts(run, solution)) if few else None,
        leaks=leaks(run, dataset, solution),
        suspects=suspects,
        suggested=[] if suspects is None else relabel.suggested(run, solution, suspects),
    )


def _conflicts(run: Run, solution: Solution) -> Conflicts | None:
    return conflicts.of_fit(run, solution, groups="classes") if run.predicted.directed else None


def _sample(count: int, most: int) -> list[int]:
    return np.random.default_rng(0).permutation(count)[:most].tolist()


def _if_any(find: Callable[[], T]) -> T | None:
    """Return the result of a function; None if it raises an error because the run cannot have such a result."""
    try:
        return find()
    except (InputError, NotReadyError, SpecError):
        return None


def _evaluation(store: ObjectStore, record: FitRecord, predictions: Predictions, *, final: bool) -> Evaluation | None:
    """Read the evaluation of a fit, or compute it, and record it if it is final; None if too few models are trained."""
    found = evaluate.recorded(store, record.run, record.number)
    if found is not None:
        return found
    try:
        found = predictions.evaluate()
    except NotReadyError:
        return None
    if final:
        evaluate.record(store, record.run, record.number, found)
    return found


def _curve(store: ObjectStore, record: FitRecord) -> list[Point]:
    return trend.recorded(store, record.run, record.number) or []


def groups(run: Run, solution: Solution) -> Groups | None:
    """Group the targets of a fit; None if too few have weights."""
    theta, seed = solution.theta, run.spec.seed
    try:
        found = clusters(theta, seed=seed)
        axes = components(theta, k=min(AXES, min(theta.shape) - 1), extremes=min(ENDS, run.n // 2), seed=seed)
    except InputError:
        return None
    return Groups(found, axes)


def leaks(run: Run, dataset: Dataset | None, solution: Solution) -> Pairs | None:
    """Find suspected leaks: by inputs if the data set can be loaded and is not too large, else by weights.

    Returns None if columns are groups of examples, no target could have leaked, or no example helps any target.
    """
    if run.design.grouped:
        return None
    values = 0.0 if dataset is None else float(run.n) * len(dataset.y) * np.prod(dataset.x.shape[1:])
    if dataset is None or not 0 < values <= COMPARISONS:
        return _if_any(lambda: leakage.by_weights(run, solution, SUSPECTED))
    return _if_any(lambda: leakage.by_inputs(run, dataset, solution, SUSPECTED))
