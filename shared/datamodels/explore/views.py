"""Make the messages of the explorer's API from a run, a fit and its looks. Nothing here asks the store by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from datamodels.aggregate.manifest import Snapshot
from datamodels.analyze.patterns.results import Components
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.quality.verdict import of_evaluation
from datamodels.analyze.target import Weights
from datamodels.analyze.what_if import pool
from datamodels.analyze.what_if.counterfactual import weight_intervals
from datamodels.display.looks import POOL, TARGET, Look, Looks
from datamodels.explore import models
from datamodels.explore.opened import Opened
from datamodels.explore.progress import RunProgress
from datamodels.explore.queue import Suspect
from datamodels.explore.verdicts import LEAK, NO_OTHER, Verdict
from datamodels.fit.job.finished import FitRecord
from datamodels.outputs import Output
from datamodels.query.weights import Fitted
from datamodels.run.runs import Run

PREFIX = "/api/v1"
HOUR = 3600.0
MOST_BYTES = 2_000_000
"""Size of the rows of a page: a page with long titles has fewer rows than were asked for."""


def number(value: float | None) -> float | None:
    """Return a number for JSON: None if it is not finite."""
    return None if value is None or not np.isfinite(value) else float(value)


def pair(ends: Sequence[float]) -> tuple[float | None, float | None]:
    return number(ends[0]), number(ends[1])


def output(found: Output) -> models.OutputInfo:
    return models.OutputInfo(**found.document(), effects=found.effects)


def training(
    pace: float | None, committed: int, models_of_run: int, stopped: bool, price: float = 0.0
) -> models.TrainingInfo | None:
    """Return what training takes.

    pace     seconds that a trainer takes for a model; None if that is unknown
    stopped  whether it has ended early, so that no more models follow
    price    of one trainer for one hour; 0 if it is not known
    """
    if pace is None:
        return None
    seconds = [pace * committed, pace * (committed if stopped else max(committed, models_of_run))]
    costs = [taken * price / HOUR for taken in seconds] if price else [None, None]
    return models.TrainingInfo(seconds=seconds[0], expected=seconds[1], cost=costs[0], expected_cost=costs[1])


def run_fields(
    run: Run,
    snapshot: Snapshot,
    stopped: Sequence[object],
    *,
    fits: int,
    quality: models.LdsInfo | None,
    looks: bool,
    price: float = 0.0,
) -> dict[str, Any]:
    """Return the fields of a `models.RunInfo`.

    stopped  why training ended early; empty if it did not
    quality  of the newest fit
    price    of one trainer for one hour; 0 if it is not known
    """
    return {
        "run": run.name,
        "examples": run.design.examples,
        "columns": run.design.columns,
        "grouped": run.design.grouped,
        "targets": run.n,
        "models": run.spec.models,
        "committed": snapshot.committed,
        "failed": len(snapshot.failed),
        "stopped": list(map(str, stopped)),
        "fits": fits,
        "quality": quality,
        "training": training(snapshot.pace, snapshot.committed, run.spec.models, bool(stopped), price),
        "output": output(run.output),
        "looks": looks,
    }


def fit(run: Run, record: FitRecord, evaluation: Evaluation | None) -> models.FitInfo:
    return models.FitInfo(
        fit=record.number,
        estimator=record.estimator,
        models=record.rows,
        seconds=record.seconds,
        chosen=record.chosen,
        predicted=output(record.of(run).predicted),
        quality=quality(record, evaluation),
    )


def quality(record: FitRecord | None, evaluation: Evaluation | None) -> models.LdsInfo | None:
    if record is None or evaluation is None:
        return None
    return models.LdsInfo(
        lds=evaluation.lds,
        interval=pair(evaluation.interval),
        ceiling=number(evaluation.ceiling),
        verdict=str(of_evaluation(evaluation, record.rows)),
    )


def features(looks: Looks | None) -> list[models.FeatureInfo]:
    found = None if looks is None else looks.features
    if found is None:
        return []
    units = [*found.units, *[""] * len(found.names)]
    rows = zip(found.names, units, found.mean.tolist(), found.deviation.tolist(), strict=False)
    return [
        models.FeatureInfo(name=name, unit=unit, mean=number(mean), deviation=number(deviation))
        for name, unit, mean, deviation in rows
    ]


def progress(found: RunProgress, price: float = 0.0) -> models.ProgressInfo:
    return models.ProgressInfo(
        models=found.models,
        committed=found.committed,
        failed=found.failed,
        stopped=list(found.stopped),
        fits=found.fits,
        fitted=found.fitted,
        lds=found.lds,
        curve=list(found.curve),
        training=training(found.pace, found.committed, found.models, bool(found.stopped), price),
        rate=found.rate,
        remaining=None if found.trained else found.remaining,
        ended=found.ended,
    )


class Looker:
    """Shows the examples of a run: with its looks, or by label and number alone.

    address  returns where a page finds the picture of an example: given the role, the index and the PNG
    """

    def __init__(self, run: Run, looks: Looks | None, address: Callable[[str, int, bytes], str] | None = None):
        self._run, self._looks = run, looks
        self._address = address or self._path

    def column(self, column: int) -> models.LookInfo:
        if not self._run.design.grouped:
            return self.example(column)
        members = len(self._run.design.members(np.array([column])))
        return self._message(POOL, column, Look(title=f"group {column}"), members)

    def example(self, example: int) -> models.LookInfo:
        if self._looks is not None:
            return self._message(POOL, example, self._looks.pool(example))
        return self._message(POOL, example, _bare(self._run, self._run.labels, example))

    def target(self, target: int) -> models.LookInfo:
        look = _bare(self._run, self._run.target_labels, target) if self._looks is None else self._looks.target(target)
        if look.text is None and self._run.spans:
            text, first, last = self._run.spans[target]
            look = dataclasses.replace(look, text=text, span=(first, last))
        return self._message(TARGET, target, look)

    def _message(self, role: str, index: int, look: Look, members: int | None = None) -> models.LookInfo:
        return models.LookInfo(
            role="target" if role == TARGET else "pool",
            index=index,
            label=look.label,
            label_name=look.name,
            value=look.value,
            title=look.title,
            picture=None if look.picture is None else self._address(role, index, look.picture),
            text=look.text,
            span=look.span,
            row=None if look.row is None else [number(value) for value in look.row.tolist()],
            members=members,
        )

    def _path(self, role: str, index: int, png: bytes) -> str:
        return f"{PREFIX}/runs/{self._run.name}/{'targets' if role == TARGET else 'examples'}/{index}/picture"


def looker(opened: Opened) -> Looker:
    """Return what shows the examples of a fit's run."""
    return Looker(opened.fitted.run, opened.looks)


def _bare(run: Run, labels: np.ndarray | None, index: int) -> Look:
    return Look() if labels is None else Look(label=int(labels[index]), name=run.label_name(int(labels[index])))


def weighted(
    fitted: Fitted, show: Any, pairs: Weights, *, target: int | None = None, column: int | None = None
) -> list[models.Weighted]:
    """Return the weights of one target on the columns of the pairs, or of the targets of the pairs on one column."""
    index = np.array([index for index, _ in pairs], dtype=np.int64)
    of_pairs = (
        index if target is None else np.full(len(index), target),
        index if column is None else np.full(len(index), column),
    )
    weights = np.array([weight for _, weight in pairs])
    intervals = weight_intervals(fitted.run, fitted.noise, fitted.record.rows, *of_pairs, weights)
    parts = fitted.solution.measured_at(*of_pairs)
    measured = [None] * len(pairs) if parts is None else parts.tolist()
    return [
        models.Weighted(index=index, weight=weight, measured=part, interval=pair(ends), look=show(index))
        for (index, weight), part, ends in zip(pairs, measured, intervals, strict=True)
    ]


def verdict(found: Verdict) -> models.VerdictInfo:
    return models.VerdictInfo(**dataclasses.asdict(found))


def suspect(
    opened: Opened, look: Looker, found: Suspect, known: dict[tuple[str, int, int], Verdict]
) -> models.SuspectInfo:
    run = opened.fitted.run
    of_target = found.kind in (LEAK, "fragile")
    decided = known.get((found.kind, found.index, found.other))
    return models.SuspectInfo(
        kind=found.kind,
        index=found.index,
        other=found.other,
        score=found.score,
        why=found.why,
        suggested=found.suggested,
        suggested_name=run.label_name(found.suggested),
        look=look.target(found.index) if of_target else look.example(found.index),
        other_look=None if found.other == NO_OTHER else look.example(found.other),
        verdict=None if decided is None else verdict(decided),
    )


def check_subject(run: Run, found: Verdict) -> tuple[str, int] | None:
    """Return the name and the limit of an index of a verdict that the run does not have; None if it has all."""
    of_target = found.kind in (LEAK, "fragile")
    limit = run.n if of_target else run.design.examples
    if not 0 <= found.index < limit:
        return "index", limit
    if found.other != NO_OTHER and not 0 <= found.other < run.design.examples:
        return "other", run.design.examples
    labels = pool.column_labels(run) if found.label is not None else None
    if found.label is not None and (labels is None or found.label not in np.unique(labels)):
        return "label", 0 if labels is None else int(labels.max()) + 1
    return None


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """Where the vectors of a map are.

    x, y      float64[n]; scores of the first two components, rounded to DIGITS digits
    share     float64[2]; share of the variance that each of the components explains
    interval  float64[2, 2]; of the share, at 95%
    """

    x: np.ndarray
    y: np.ndarray
    share: np.ndarray
    interval: np.ndarray


DIGITS = 4
"""Digits of the numbers of a map: more cannot be seen, and take time to send."""


def drawn(found: Components) -> Drawn:
    """Return the map of the vectors of which the components are known."""
    x, y = (rounded(scores) for scores in found.scores.T.astype(np.float64))
    return Drawn(x, y, found.share, found.interval)


def rounded(values: np.ndarray) -> np.ndarray:
    """Return float64[n], rounded to DIGITS significant digits; what is not finite stays as it is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        power = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.abs(values))))
        found = np.round(values * power) / power
    return np.where(np.isfinite(found), found, values)


def plain(value: Any) -> Any:
    """Return a result of an analysis as JSON values: arrays as lists, numbers that are not finite as None."""
    match value:
        case np.ndarray():
            found = value.astype(object)
            if value.dtype.kind == "f":
                found[~np.isfinite(value)] = None
            return found.tolist()
        case float():
            return number(value)
        case tuple() | list():
            return [plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value
