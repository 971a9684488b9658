"""Define messages about targets, columns and what they look like."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .base import Index, Interval, Model
from .runs import FitInfo


class Rows(Model):
    """Some rows of a list."""

    fit: int = Field(
        description="number of the fit that the rows are about; give it to get further rows of the same list"
    )
    total: int = Field(description="rows of the whole list")
    rows: list[dict[str, Any]] = Field(description="facts by the name of the field; see `fields`")
    next: int | None = Field(description="`offset` of the following rows; null at the end")
    fields: dict[str, str] = Field(description="what each field says")


class Values(Model):
    """One field of all targets or columns, for a map."""

    fit: int
    field: str
    text: str = Field(description="what the field says")
    values: list[float | str | None] = Field(description="by number of the target or column; null for what is unknown")


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
    measured: float | None = Field(
        default=None,
        description="how much of the weight was measured, to a sixteenth of the weight; the rest is the prior. null if "
        "the fit has no prior, or an earlier version made it",
    )
    interval: Interval = Field(description="of the weight; null if too few models are committed to estimate it")
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


class Neighbour(Model):
    """A target or column with similar weights."""

    index: Index
    score: float = Field(description="1 for the same weights")
    look: LookInfo


class Neighbours(Model):
    """Targets or columns, the most similar first."""

    fit: int
    neighbours: list[Neighbour]


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
