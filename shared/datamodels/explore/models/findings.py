"""Define messages about what a run has found: quality, fragility, conflicts, and outputs of single targets."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .base import Index, Interval, Model

Value = float | None
"""null if it is unknown."""


class Histogram(Model):
    """Counts of targets."""

    edges: list[float] = Field(description="one more than counts; bin i is from edge i to edge i + 1")
    counts: list[int]


class PointsInfo(Model):
    """Pairs of an unseen subset and a target, drawn at random."""

    target: list[Index]
    predicted: list[Value]
    single: list[Value] = Field(description="output of one model of the subset")
    mean: list[Value] = Field(description="mean output of all models of the subset")


class QualityInfo(Model):
    """How well weights predict outputs on unseen subsets."""

    text: list[str] = Field(description="in words; `code` is between backticks")
    word: str = Field(description="the verdict in one word or two; empty if quality was not measured")
    lds: Value
    scores: Histogram | None = Field(description="of the correlations of targets")
    points: PointsInfo | None


class CurveInfo(Model):
    """The LDS by number of models."""

    text: list[str]
    measured: list[tuple[int, Value, Value, Value]] = Field(description="models, LDS and the ends of its interval")
    ahead: list[tuple[float, Value, Value, Value]] = Field(description="the same, forecast for more models")


class FragilityInfo(Model):
    """On how many columns a prediction depends."""

    text: list[str]
    removed: list[int] = Field(description="most helpful columns removed")
    share: list[float] = Field(description="share of targets that are then predicted to be wrong")
    interval: list[Interval] = Field(description="of the shares")


class ConflictInfo(Model):
    """Two classes: examples of the first surely harm targets of the second."""

    source: str
    target: str
    effect: float = Field(description="mean effect on the targets, in units of the output")
    interval: Interval = Field(description="at 95% for all pairs of classes at once")
    harmed: float = Field(description="share of the targets that are harmed")


class ConflictsInfo(Model):
    """Classes that harm each other, the surest first."""

    text: list[str]
    pairs: list[ConflictInfo]


class FindingsInfo(Model):
    """What a run has found as a whole. A part that the run does not have is null."""

    fit: int | None = Field(description="number of the fit; null before the first")
    text: list[str] = Field(description="what the run computes, and how far it is, in words")
    figures: list[tuple[str, str]] = Field(description="the figures that matter most, each with what it is")
    quality: QualityInfo | None
    curve: CurveInfo | None
    fragility: FragilityInfo | None
    conflicts: ConflictsInfo | None
    baselines: list[dict[str, Any]] | None = Field(
        description="rows of `datamodels compare --json`; only the file that `datamodels report` writes has them"
    )
    first: Index | None = Field(description="a target to begin with: predicted well, and models get it right")
    explained: list[Index] = Field(description="targets that LIME explains; none but in such a file")
    seconds: dict[str, float] = Field(description="that training and the fit took, as far as the store says")
    spec: str = Field(description="the spec with its defaults filled in, as YAML")


class UnseenInfo(Model):
    """Outputs of models for a target on unseen subsets."""

    predicted: list[Value] = Field(description="mean outputs that the weights predict, one for each subset")
    means: list[Value] = Field(description="mean outputs of the models of each subset")
    models: int = Field(description="number of models")
    mean: tuple[Value, Value, Value] = Field(description="mean of `means`, and the ends of its interval")
    wrong: tuple[Value, Value, Value] | None = Field(
        description="share of models that are wrong, with its interval; null without a threshold"
    )
    score: tuple[Value, Value, Value] | None = Field(
        description="rank correlation of predictions with means, with its interval; null if it is not scored"
    )


class RemovalInfo(Model):
    """What is predicted of a target as its most helpful columns are removed from the pool, one after the other."""

    removed: list[int] = Field(description="numbers of columns removed")
    mean: list[Value] = Field(description="predicted mean output")
    error: list[Value] = Field(description="half the width of the interval of each, but for the error at the start")
    single: Value = Field(description="half the width of the interval of the output of one model around the mean")
    start: Interval = Field(description="of the mean output with nothing removed")
    support: str | None = Field(description="found, none or wrong, as of the support; null without a threshold")
    size: int | None = Field(description="columns of the support; null if none was found")
    limit: int = Field(description="most columns that a support may have")


class LimeInfo(Model):
    """How much each part of a target adds to its output, by LIME."""

    parts: list[tuple[str, Value, Value, Value]] = Field(description="name, weight and the ends of its interval")
    squares: list[tuple[float, float, float, float]] | None = Field(
        description="x, y, width and height of each part in the picture, as fractions of its size"
    )
    aspect: float | None = Field(description="height of the picture over its width")
    tokens: bool = Field(description="whether parts are tokens of a text")
    r2: Value
    output: Value = Field(description="mean output of the models that were explained")
    models: int
    samples: int


class TargetFindings(Model):
    """What models said of a target, and what is predicted of it. A part that it does not have is null."""

    fit: int
    unseen: UnseenInfo | None
    removal: RemovalInfo | None
    lime: LimeInfo | None
