"""Render the result of a pipeline run in a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from datamodels import words
from datamodels.analyze.quality.interval import LEVEL
from datamodels.fit.data.problem import OK
from datamodels.runners.pipeline import Result
from datamodels.v1 import query_pb2

TARGETS, TOP = 3, 5
"""Targets in the summary, and influences of each."""


def text(result: Result) -> str:
    """Render the summary, without a final line break."""
    return "\n".join([*brief(result), *_examples(result)])


def rate(result: Result) -> float:
    """Return models committed per second of the train stage of this pipeline run."""
    return result.trained / result.seconds["train"] if result.seconds.get("train") else 0.0


def brief(result: Result) -> Iterator[str]:
    """Yield the lines of the summary about the run as a whole."""
    spec, evaluation = result.run.spec, result.evaluation
    yield f"run        {result.run.name}"
    if result.run.declared is None:
        yield f"output     {result.run.meaning}"
    if "train" in result.seconds:
        now = f"{result.trained:,} trained at {rate(result):.1f} models/s, " if result.trained else ""
        earlier = result.committed - result.trained
        before = f"{earlier:,} committed before, " if earlier else ""
        yield f"models     {now}{before}{result.failed} failed"
        if result.failed:
            yield f"failed     {words.LEFT_OUT}; `datamodels status {result.run.name}` says why"
    if result.stopped:
        saved = spec.models - result.committed
        yield f"stopped    {saved:,} of {spec.models:,} models saved: {result.stopped}"
    if result.chosen:
        yield f"weights    {words.CHOSEN} {result.chosen}"
    if evaluation:
        low, high = evaluation.interval
        yield (
            f"LDS        {evaluation.lds:.3f}  ({LEVEL:.0%} interval {low:.3f} to {high:.3f}; "
            f"{evaluation.size}, {evaluation.targets} targets)"
        )
        yield (
            f"ceiling    {evaluation.ceiling_text}  (noise ceiling: the correlation of two halves of "
            f"{evaluation.mean_of} models; noise allows an LDS of {evaluation.best:.3f} at best)"
        )
        yield f"verdict    {result.verdict}"
    unusual = {status: count for status, count in result.statuses.items() if status != OK}
    if unusual:
        yield f"targets    {result.run.n:,}, of them " + ", ".join(f"{n} {status}" for status, n in unusual.items())
    seconds = "  ".join(f"{stage} {value:.1f}" for stage, value in result.seconds.items())
    yield f"seconds    {seconds}  total {sum(result.seconds.values()):.1f}"


def _examples(result: Result) -> Iterator[str]:
    """Yield the strongest influences on a few targets."""
    for answer in _few(result.influences):
        yield ""
        yield words.target(answer.target.target, result.run.target_name(answer.target.target))
        for effect, listed in zip(result.run.predicted.effects, (answer.helpful, answer.harmful), strict=True):
            yield f"  {effect:<8} {_influences(result, listed[:TOP])}"


def _few(influences: list[query_pb2.TopInfluencesResponse]) -> list[query_pb2.TopInfluencesResponse]:
    """Choose some targets, evenly spread, the first and the last among them."""
    count = min(TARGETS, len(influences))
    return [influences[i * (len(influences) - 1) // max(1, count - 1)] for i in range(count)]


def _influences(result: Result, influences: list[query_pb2.Influence]) -> str:
    named = (words.example(i.column, result.run.label_name(i.label)) for i in influences)
    weights = (words.weight(i.weight, i.measured if i.HasField("measured") else None) for i in influences)
    shown = (f"{name} {weight}" for name, weight in zip(named, weights, strict=True))
    return "  ".join(shown) or "none"
