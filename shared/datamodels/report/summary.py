"""The result of a pipeline run in a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from datamodels.analyze.quality.interval import LEVEL
from datamodels.fit.data.problem import OK
from datamodels.report.example import label_name
from datamodels.runners.pipeline import Journey
from datamodels.v1 import query_pb2

TARGETS, TOP = 3, 5
"""Targets in the summary, and influences of each."""


def text(journey: Journey) -> str:
    """Render the summary, without a final line break."""
    return "\n".join(_lines(journey))


def rate(journey: Journey) -> float:
    """Return models committed per second of the train stage, this time."""
    return journey.trained / journey.seconds["train"] if journey.seconds.get("train") else 0.0


def _lines(journey: Journey) -> Iterator[str]:
    spec, evaluation = journey.run.spec, journey.evaluation
    yield f"run        {journey.run.name}"
    if "train" in journey.seconds:
        now = f"{journey.trained:,} trained at {rate(journey):.1f} models/s, " if journey.trained else ""
        earlier = journey.committed - journey.trained
        before = f"{earlier:,} committed before, " if earlier else ""
        yield f"models     {now}{before}{journey.failed} failed"
    if journey.stopped:
        saved = spec.models - journey.committed
        yield f"stopped    {saved:,} of {spec.models:,} models saved: {journey.stopped}"
    if evaluation:
        low, high = evaluation.interval
        yield (
            f"LDS        {evaluation.lds:.3f}  ({LEVEL:.0%} interval {low:.3f} to {high:.3f}; "
            f"{evaluation.subsets} unseen subsets x {evaluation.models} models, {evaluation.targets} targets)"
        )
        yield (
            f"ceiling    {evaluation.ceiling:.3f}  (about the best LDS that noise allows: the correlation of "
            f"two halves of the {evaluation.models} models)"
        )
    unusual = {status: count for status, count in journey.statuses.items() if status != OK}
    if unusual:
        yield f"targets    {journey.run.n:,}, of them " + ", ".join(f"{n} {status}" for status, n in unusual.items())
    seconds = "  ".join(f"{stage} {value:.1f}" for stage, value in journey.seconds.items())
    yield f"seconds    {seconds}  total {sum(journey.seconds.values()):.1f}"
    for answer in _few(journey.influences):
        yield ""
        yield f"target {answer.target.target}{_label(journey, answer.target.label)}"
        yield f"  helpful  {_influences(journey, answer.helpful[:TOP])}"
        yield f"  harmful  {_influences(journey, answer.harmful[:TOP])}"


def _few(influences: list[query_pb2.TopInfluencesResponse]) -> list[query_pb2.TopInfluencesResponse]:
    """Choose some targets, evenly spread, the first and the last among them."""
    count = min(TARGETS, len(influences))
    return [influences[i * (len(influences) - 1) // max(1, count - 1)] for i in range(count)]


def _label(journey: Journey, label: int) -> str:
    name = label_name(journey.dataset, label)
    return f" ({name})" if name else ""


def _influences(journey: Journey, influences: list[query_pb2.Influence]) -> str:
    shown = (f"#{i.column}{_label(journey, i.label)} {i.weight:+.3f}" for i in influences)
    return "  ".join(shown) or "none"
