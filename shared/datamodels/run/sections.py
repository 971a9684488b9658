"""Define the sections of a RunSpec. The string below a field says what it means, as in `specs`."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import Field
from pydantic_core import PydanticCustomError

from datamodels.outputs import Output
from datamodels.run import documents, faults, spellings
from datamodels.run.designs import KINDS
from datamodels.run.estimators import DEFAULT, ESTIMATORS, FLAT, GRAM, OF_SOLVERS, SOLVERS, TARGETS

Reference = Annotated[
    str,
    Field(pattern=faults.REFERENCE),
    pydantic.AfterValidator(spellings.today),
    pydantic.PlainSerializer(spellings.first),
]
"""`module:name`, written in its first spelling; see `spellings`."""


def _stored(options: Any) -> Any:
    """Return options as the store gives them back, so that trainers and loaders get the same everywhere."""
    try:
        return documents.plain(options)
    except documents.Unstorable as error:
        raise PydanticCustomError(faults.UNSTORABLE, "cannot be stored", {"faults": error.faults}) from None


Options = Annotated[dict[str, Any], pydantic.BeforeValidator(_stored)]
"""Free-form options: values that JSON gives back unchanged."""


# The values of these fields are the names in a table, of which a type checker knows nothing.
if TYPE_CHECKING:
    Kind = str
    Targets = str
    Estimator = str
    Solver = str
else:
    Kind = Literal[tuple(KINDS)]
    Targets = Literal[TARGETS]
    Estimator = Literal[tuple(ESTIMATORS)]
    Solver = Literal[tuple(SOLVERS)]


def _texts(table: Mapping[str, Any]) -> str:
    """Describe each value of a field by the text of its entry in a table; the reference shows it."""
    return " ".join(f"`{name}`: {entry.text}." for name, entry in table.items())


class Section(pydantic.BaseModel):
    """Base of a spec and its sections."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        serialize_by_alias=True,  # fields are hashed and stored under their first names
    )


class DatasetSpec(Section):
    """The data set: training examples and targets."""

    load: Reference
    """The function that returns a `datamodels.train.Dataset`, as `module:function`."""
    options: Options = Field(default_factory=dict)
    """Keyword arguments of that function: values that JSON can carry, so keys of mappings are texts."""
    relabel: dict[Annotated[int, Field(strict=False, ge=0)], Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict, exclude_if=operator.not_
    )
    """Classes that replace those of the data set, by the number of the training example. `datamodels explore` writes
    them from the verdicts of a review."""


class TrainerSpec(Section):
    """The learning algorithm."""

    cls: Reference = Field(alias="class")
    """The class that trains models, as `module:Class`. `datamodels.train.contract` says which methods it must have."""
    options: Options = Field(default_factory=dict)
    """Keyword arguments of that class: values that JSON can carry, so keys of mappings are texts."""

    @pydantic.field_validator("options")
    @classmethod
    def _today(cls, options: dict[str, Any], info: pydantic.ValidationInfo) -> dict[str, Any]:
        return spellings.renamed(spellings.OPTIONS.get(info.data.get("cls", ""), {}), options)

    @pydantic.field_serializer("options")
    def _first(self, options: dict[str, Any]) -> dict[str, Any]:
        return spellings.first_options(self.cls, options)


class DesignSpec(Section):
    """How subsets are drawn. A column is a training example, or a group of examples."""

    kind: Kind = Field(default="uniform", description=_texts(KINDS))
    """Which subsets there are, and how likely."""
    pinned_in: tuple[int, ...] = Field(default=(), strict=False)
    """Columns that are in every subset."""
    pinned_out: tuple[int, ...] = Field(default=(), strict=False)
    """Columns that are in no subset."""


class EvaluateSpec(Section):
    """Models trained on subsets that the fit never sees. LDS is measured on them."""

    subsets: int = Field(default=100, ge=0, le=1_000_000)
    """How many such subsets. 0 for no evaluation; otherwise at least 3."""
    models: int = Field(default=2, ge=2, le=10_000)
    """How many models are trained on each of them. Their mean output is compared with the prediction. The LDS of fewer
    than 20 is corrected to the mean of 20; more narrow its interval a little."""


class FitSpec(Section):
    """How one linear model per target is fitted. It is not part of the run's name: a run may have fits by several
    settings, and no model is trained again for them. A value other than the default is refused if the estimator does
    not use the field."""

    estimator: Estimator = Field(default=DEFAULT, description=_texts(ESTIMATORS))
    """How weights are made. If the section names a solver and no estimator, it is `lasso`, which alone has solvers."""
    features: Reference = FLAT
    """For estimators that compare examples: the function that turns inputs x[examples, ...] into features,
    float[examples, f], as `module:function`. `weighted` compares the cosines of features; `prior` fits small models to
    them, too."""
    gradients: int | None = Field(default=None, ge=0, le=1000, exclude_if=lambda given: given is None)
    """For `prior`: of how many of the run's models it uses gradients. These models are trained again from their seeds,
    once for a run. By default 20 if the trainer offers gradients, and none otherwise, or if the driver of a
    cluster trains no models. If a number is given, it is an error if they cannot be had. 0 for none."""
    solver: Solver = Field(default=GRAM, description=_texts(SOLVERS))
    """How the LASSO is solved."""
    lambdas: int = Field(default=20, ge=1, le=1000)
    """How many values of lambda are tried for each target."""
    lambda_ratio: float = Field(default=0.01, gt=0, lt=1)
    """The smallest lambda, as a fraction of lambda_max, above which all weights are 0. For the LASSO."""
    holdout: float = Field(default=0.1, gt=0, le=0.5)
    """The fraction of the m subsets that lambda is chosen on."""
    patience: int = Field(default=3, ge=1)
    """A target tries no smaller lambda after its held-out error has risen this often."""
    tolerance: float = Field(default=1e-3, ge=1e-6, lt=1)
    """The largest duality gap of a solution, relative to the objective at zero weights."""
    max_epochs: int = Field(default=200, ge=1)
    """The most passes over the rows for one lambda; for `gram`, steps."""
    batch_size: int = Field(default=256, ge=1, serialization_alias="batch")
    """Rows in one step of `saga` and `stream`."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _today(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        solved = {"estimator": OF_SOLVERS} if "solver" in given and "estimator" not in given else {}
        return spellings.renamed(spellings.FIT, given) | solved

    def unused(self) -> dict[str, list[str]]:
        """Return the fields that the estimator does not use, and that do not have their defaults: the estimators that
        use each of them."""
        users = {
            field: [name for name, known in ESTIMATORS.items() if field in known.settings]
            for field, info in type(self).model_fields.items()
            if getattr(self, field) != info.default
        }
        return {field: names for field, names in users.items() if names and self.estimator not in names}


class OutputSpec(Section):
    """What the number that is recorded of a model on a target means. Each field replaces what the trainer declares.

    It decides what is called helpful, harmful and wrong, but no model and no fit. So it is not part of the run's name:
    change it and run the spec again, and nothing is trained again.
    """

    name: str | None = None
    """What it is, such as `price error`, for texts and axes."""
    unit: str | None = None
    """Its unit, such as `euro`."""
    higher_is_better: bool | None = None
    """Whether larger values are better, as for margins, or smaller ones, as for losses; null if neither is."""
    threshold: float | None = None
    """Models whose output is worse than this get the target wrong; null if no output is wrong."""
    lowest: float | None = None
    """No output can be below this, such as 0 for an error; null if there is no such bound. Predictions and intervals
    end there."""
    highest: float | None = None
    """The same for outputs above it."""

    def over(self, output: Output) -> Output:
        """Return an output with the fields that are given here in place of its own. Raises SpecError."""
        return dataclasses.replace(output, **self.given())

    def given(self) -> dict[str, Any]:
        """Return the fields that were given; some may be None."""
        return self.model_dump(exclude_unset=True)


class UntilSpec(Section):
    """When training may end with fewer models than m: give one of the two fields. It is not part of the run's
    name."""

    lds: float | None = Field(default=None, gt=0, lt=1)
    """Stop as soon as the lower end of the 95% interval of LDS is at least this."""
    slope: float | None = Field(default=None, gt=0, lt=1)
    """Stop as soon as twice as many models would raise LDS by at most this, by the upper end of the 95% interval."""


class DisplaySpec(Section):
    """How the examples look in the explorer and in reports. Their looks are kept in the store, so that showing them
    needs neither the data set nor its code. It is not part of the run's name."""

    store: bool = True
    """Whether the looks of examples are kept in the store: labels, small pictures, texts and the numbers of rows. Turn
    it off if whoever may read the store may not see the data."""
    pixels: int = Field(default=64, ge=8, le=256)
    """The most pixels of the longer side of a picture; larger pictures are shrunk."""
    letters: int = Field(default=2000, ge=0, le=100_000)
    """The most letters of a text; the end of a longer one is cut off."""
