"""Define messages about runs and their fits."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .base import Interval, Model


class OutputInfo(Model):
    """What the recorded number of a model and a target means."""

    name: str
    unit: str = Field(description="empty if it has none")
    higher_is_better: bool | None = Field(description="null if neither is better")
    threshold: float | None = Field(description="outputs worse than it are wrong; null if none is")
    lowest: float | None = Field(description="no output is below it; null if there is no such bound")
    highest: float | None = Field(description="no output is above it; null if there is no such bound")
    effects: tuple[str, str] = Field(
        description="what a column is called that improves the output, and one that worsens it"
    )


class LdsInfo(Model):
    """Quality of a fit on unseen subsets."""

    lds: float = Field(description="linear datamodeling score, a correlation: 1 is perfect")
    interval: Interval
    ceiling: float | None = Field(description="noise ceiling of the LDS")
    verdict: str = Field(description="what this means, in words")


class FitInfo(Model):
    """A finished fit."""

    fit: int = Field(description="number of the fit")
    estimator: str
    models: int = Field(description="models that it used")
    seconds: float = Field(description="time that it took, in seconds")
    predicted: OutputInfo = Field(description="what predictions by its weights mean")
    chosen: str = Field(description="what cross-validation chose, such as the share of the prior; empty if nothing")
    quality: LdsInfo | None = Field(description="null if it was not measured")


class TrainingInfo(Model):
    """What the training of a run takes: all trainers together, without their starts."""

    seconds: float = Field(description="for the committed models")
    expected: float = Field(description="seconds for all models, at the same pace")
    cost: float | None = Field(description="of the committed models; null if the explorer knows no price")
    expected_cost: float | None = Field(description="of all models; null if the explorer knows no price")


class RunInfo(Model):
    """A run, in short."""

    run: str
    examples: int = Field(description="training examples")
    columns: int = Field(description="columns of subsets: examples, or groups of them")
    grouped: bool = Field(description="whether columns are groups of examples")
    targets: int
    models: int = Field(description="models that the run trains, those for evaluation included")
    committed: int = Field(description="committed models")
    failed: int = Field(description="committed models that failed")
    stopped: list[str] = Field(description="why training ended early; empty if it did not")
    fits: int = Field(description="finished fits")
    quality: LdsInfo | None = Field(description="of the newest fit; null if it was not measured")
    training: TrainingInfo | None = Field(description="null if trainers did not say, as in version 0.2.0")
    output: OutputInfo
    looks: bool = Field(description="whether the store has pictures, texts or rows of the examples")


class RunPage(Model):
    """Some runs, by name."""

    runs: list[RunInfo]
    next: str | None = Field(description="`page` of the following runs; null on the last page")


class FeatureInfo(Model):
    """A number of a row."""

    name: str
    unit: str = Field(description="empty if it is not known")
    mean: float | None = Field(description="over the training examples, in its unit")
    deviation: float | None = Field(description="standard deviation over the training examples, in its unit")


class RunDetail(RunInfo):
    """A run, in full."""

    pictures: bool = Field(description="whether the looks of examples are pictures")
    spec: dict[str, Any] = Field(description="the spec with its defaults filled in")
    label_names: list[str]
    fit_list: list[FitInfo] = Field(description="all fits, oldest first")
    features: list[FeatureInfo] = Field(description="numbers of a row; empty if examples are shown in another way")


class ProgressInfo(Model):
    """How far a run is."""

    models: int
    committed: int
    failed: int
    stopped: list[str]
    fits: int
    fitted: int = Field(description="models of the newest fit")
    lds: tuple[float, float, float] | None = Field(description="LDS of the newest fit, and the ends of its interval")
    curve: list[tuple[int, float, float, float]] = Field(
        description="models, LDS and the ends of its interval, of each fit and of the learning curve"
    )
    training: TrainingInfo | None = Field(description="null if trainers did not say, as in version 0.2.0")
    rate: float | None = Field(description="models per second, as observed since the stream began")
    remaining: float | None = Field(description="seconds until all models are committed, at this rate")
    ended: bool = Field(description="whether training has ended, and a fit of all its models is finished and measured")
