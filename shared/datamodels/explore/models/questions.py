"""Define what questions to the weights take, and their answers."""

from __future__ import annotations

from pydantic import Field

from .base import Index, Interval, Model


class PredictRequest(Model):
    """Asks for outputs of models trained on some columns."""

    columns: list[Index] = Field(description="the columns to train on", max_length=10_000_000)
    targets: list[Index] | None = Field(default=None, description="null for all", max_length=400_000)


class Prediction(Model):
    """Predicted mean outputs."""

    fit: int
    targets: list[Index]
    predictions: list[float] = Field(
        description="mean outputs of models trained on the columns, in units of the output"
    )


class CounterfactualRequest(Model):
    """Asks what changes if examples are removed from the training set, added to it, or get another label."""

    targets: list[Index] = Field(min_length=1, max_length=10_000)
    remove: list[Index] = Field(default=[], max_length=1_000_000)
    add: list[Index] = Field(default=[], max_length=1_000_000)
    relabel: list[Index] = Field(
        default=[],
        max_length=1_000_000,
        description="examples that get another label; predicted to have twice the effect of removal",
    )
    base: list[Index] | None = Field(default=None, description="training set before; null for the whole pool")
    left_out: list[Index] = Field(
        default=[], max_length=1_000_000, description="examples of `base` that the training set before lacks"
    )


class Change(Model):
    """Prediction for one target."""

    target: Index
    before: float = Field(description="mean output of models trained on the set before, in units of the output")
    before_interval: Interval
    change: float = Field(description="predicted change of that mean")
    change_interval: Interval
    after: float = Field(description="mean output of models trained on the changed set")
    after_interval: Interval = Field(description="of the output of one model trained on the changed set")


class Counterfactual(Model):
    """Predictions of a change of the training set."""

    fit: int
    changes: list[Change]


class SupportInfo(Model):
    """The smallest set of examples whose removal, or relabelling, is predicted to make a target wrong."""

    fit: int
    target: Index
    status: str = Field(description="found, none, wrong (without any change) or no_weights")
    columns: list[Index] = Field(
        description="in the order of their change; if no support was found, those that were tried"
    )
    curve: list[float] = Field(description="predicted mean output after 0, 1, 2, ... of them")
    label: int | None = Field(description="label that they get; null if they are removed")
    label_name: str


class Leak(Model):
    """A pair that may be the same."""

    target: Index
    column: Index
    share: float = Field(description="share of the target's helpful weight that the column has")
    weight: float
    measured: float | None = Field(description="how much of the weight was measured; null as for weights of a target")


class Leaks(Model):
    """Suspected leaks, by weights, most suspect first."""

    fit: int
    leaks: list[Leak]


class Mislabel(Model):
    """Examples whose label is probably wrong, most suspect first."""

    fit: int
    by: str = Field(
        description="own: models that have not seen an example disagree; harm: it harms others as wrong labels do"
    )
    examples: list[Index]
    scores: list[float]


class VerificationRequest(Model):
    """Asks for models that are trained with and without a change of the training set."""

    target: Index
    remove: list[Index] = Field(default=[], max_length=10_000)
    add: list[Index] = Field(default=[], max_length=10_000, description="examples that the set before lacks")
    relabel: list[Index] = Field(default=[], max_length=10_000)
    label: int | None = Field(default=None, ge=0, description="class that relabelled examples get")
    left_out: list[Index] = Field(default=[], max_length=10_000, description="examples that both sets lack")
    models: int = Field(default=5, ge=2, le=1000, description="models to train on each of the two sets")


class VerificationCommand(Model):
    """How to verify a prediction by training."""

    command: str
    allowed: bool = Field(description="whether this explorer may run it")


class MeasuredInfo(Model):
    """Outputs of trained models for a target."""

    models: int = Field(description="models that did not fail")
    mean: float = Field(description="mean output")
    interval: Interval = Field(description="of the mean")
    flipped: int | None = Field(default=None, description="models that get it wrong; null without a threshold")
    share: float | None = Field(default=None, description="share of them")
    share_interval: Interval | None = None


class VerificationInfo(Model):
    """Models that are trained to verify a prediction."""

    id: str
    status: str = Field(description="running, done or failed")
    command: str
    seconds: float = Field(description="since it began, or that it took")
    fault: str = Field(description="why it failed; empty if it did not")
    before: MeasuredInfo | None = Field(description="of the unchanged set; null until it is done")
    after: MeasuredInfo | None = Field(description="of the changed set; null until it is done")
