"""Define what the explorer's JSON API sends and takes. `/api/v1/openapi.json` describes it."""

from __future__ import annotations

from typing import Any, Literal

import pydantic
from pydantic import Field

Index = int
Interval = tuple[float | None, float | None]
"""Lower and upper end at 95%; null if unknown."""


class Model(pydantic.BaseModel):
    """Base of all messages."""

    model_config = pydantic.ConfigDict(extra="forbid", protected_namespaces=())


class Problem(Model):
    """An error, as RFC 9457 describes it."""

    type: str = Field(description="identifies the kind of error")
    title: str = Field(description="class of the error")
    status: int = Field(description="status of HTTP")
    detail: str = Field(description="what is wrong, where, and what to do")
    code: str = Field(description="gRPC code of the same error")


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
    chosen: str = Field(description="what cross-validation chose, such as the share of the prior; empty if nothing")
    quality: LdsInfo | None = Field(description="null if it was not measured")


class RunInfo(Model):
    """A run, in short."""

    run: str
    examples: int = Field(description="training examples")
    columns: int = Field(description="columns of subsets: examples, or groups of them")
    grouped: bool = Field(description="whether columns are groups of examples")
    targets: int
    models: int = Field(description="models that the run trains, those for evaluation included")
    fits: int = Field(description="finished fits")
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
    committed: int = Field(description="committed models")
    failed: int = Field(description="committed models that failed")
    stopped: list[str] = Field(description="why training ended early; empty if it did not")
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
    curve: list[tuple[int, float, float, float]] = Field(description="models, LDS and the ends of its interval")
    rate: float | None = Field(description="models per second, as observed since the stream began")
    remaining: float | None = Field(description="seconds until all models are committed, at this rate")
    ended: bool = Field(description="whether training has ended and a fit is finished")


class Rows(Model):
    """Some rows of a list."""

    fit: int = Field(
        description="number of the fit that the rows are about; give it to get further rows of the same list"
    )
    total: int = Field(description="rows of the whole list")
    rows: list[dict[str, Any]] = Field(description="facts by the name of the field; see `fields`")
    next: int | None = Field(description="`offset` of the following rows; null at the end")
    fields: dict[str, str] = Field(description="what each field says")


class LookInfo(Model):
    """How an example looks. What it does not have is null or empty."""

    role: Literal["pool", "target"] = Field(description="pool for a training example")
    index: Index
    label: int | None
    label_name: str
    value: float | None = Field(description="its y, if that is a number and no class")
    title: str = Field(description="what its owner calls it")
    picture: str | None = Field(description="path of its picture, a PNG")
    text: str | None
    span: tuple[int, int] | None = Field(description="the letters first <= letter < last of the text are the target")
    row: list[float | None] | None = Field(description="numbers of a row; `features` of the run names them")
    members: int | None = Field(default=None, description="examples of the group, if it is one")


class Weighted(Model):
    """A column with its weight for a target, or a target with its weight on a column."""

    index: Index
    weight: float = Field(description="by how much the column raises the output of the target, in units of the output")
    look: LookInfo


class TargetDetail(Model):
    """One target of a fit."""

    fit: int
    facts: dict[str, Any] = Field(description="its row in the list of targets")
    fields: dict[str, str] = Field(description="what each fact says")
    look: LookInfo
    predicted_interval: Interval = Field(
        description="of the mean output of models trained on the whole pool, without the target itself"
    )
    helpful: list[Weighted] = Field(description="columns that help it most, or raise its output, strongest first")
    harmful: list[Weighted] = Field(description="columns that harm it most, or lower its output, strongest first")


class ColumnDetail(Model):
    """One column of a fit: which targets it moves."""

    fit: int
    facts: dict[str, Any] = Field(description="its row in the list of columns")
    fields: dict[str, str] = Field(description="what each fact says")
    look: LookInfo
    raises: list[Weighted] = Field(description="targets whose output it raises most, strongest first")
    lowers: list[Weighted] = Field(description="targets whose output it lowers most, strongest first")


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


class Neighbour(Model):
    """A target or column with similar weights."""

    index: Index
    score: float = Field(description="1 for the same weights")
    look: LookInfo


class Neighbours(Model):
    """Targets or columns, the most similar first."""

    fit: int
    neighbours: list[Neighbour]


class SuspectInfo(Model):
    """Something to review."""

    kind: str = Field(description="label, leak, duplicate or fragile: what may be wrong")
    index: Index = Field(description="the training example of label and duplicate; the target of leak and fragile")
    other: Index = Field(description="the training example of leak, the other one of duplicate; else -1")
    score: float = Field(
        description="larger is more suspect; for duplicate, 2 if the labels differ and 1 if not; "
        "for fragile, minus the number of examples that decide it"
    )
    suggested: int | None = Field(description="label that the weights suggest")
    suggested_name: str
    look: LookInfo
    other_look: LookInfo | None
    verdict: VerdictInfo | None = Field(description="null if nobody has decided")


class VerdictInfo(Model):
    """What somebody says of a suspect."""

    kind: str
    index: Index
    other: Index
    verdict: str = Field(description="keep, wrong, fix (the label) or open (which takes a verdict back)")
    label: int | None = Field(default=None, description="for fix: the right label")
    note: str = Field(default="", max_length=1000)
    who: str = Field(default="", description="set by the server: the user, if a proxy names one")
    when: float = Field(default=0.0, description="set by the server: seconds since 1970")


class QueueInfo(Model):
    """What to review of a run."""

    fit: int
    suspects: list[SuspectInfo]
    left_out: dict[str, str] = Field(description="kinds that the run cannot have, with the reason")


class Verdicts(Model):
    """All verdicts of a run that count, oldest first."""

    run: str
    verdicts: list[VerdictInfo]


class Leak(Model):
    """A pair that may be the same."""

    target: Index
    column: Index
    share: float = Field(description="share of the target's helpful weight that the column has")
    weight: float


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


class Analysis(Model):
    """The result of a long analysis."""

    fit: int
    models: int = Field(description="models of the fit")
    partial: bool = Field(description="whether the run is still training, so that the result may change")
    result: dict[str, Any] = Field(description="fields as in docs/reference/rpcs.md; arrays as lists")


class Side(Model):
    """One of two fits that are compared."""

    run: str
    fit: FitInfo


class ComparisonInfo(Model):
    """How alike two fits are."""

    one: Side
    other: Side
    differ: str = Field(description="why the weights cannot be compared; empty if they can")
    targets: int = Field(description="targets with weights in both")
    cosine: list[float | None] = Field(
        description="quantiles 0, 25, 50, 75 and 100% over targets of the cosine of weights"
    )
    shared: float | None = Field(description="mean share of the five strongest columns of a target that both fits have")
    least: list[tuple[Index, float]] = Field(description="the targets whose weights agree least, with the cosine")


SuspectInfo.model_rebuild()
