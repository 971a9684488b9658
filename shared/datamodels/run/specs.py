"""Define RunSpec: everything that decides what a run computes. It is frozen, and validated before anything starts.

A run is named by the hash of what decides its models. How they are fitted is not in it: one run has fits of several
settings, and no model is trained again for them.

Where things run, and with what limits, is not in here but in `settings`. The string below a field says what it means;
`make reference` collects them in docs/reference/spec.md.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pydantic
from pydantic import Field

from datamodels.errors import SpecError
from datamodels.outputs import Output
from datamodels.run import documents, examples, faults, spellings
from datamodels.run.estimators import DEFAULT, ESTIMATORS
from datamodels.run.sections import (
    DatasetSpec,
    DesignSpec,
    DisplaySpec,
    EvaluateSpec,
    FitSpec,
    OutputSpec,
    Section,
    Targets,
    TrainerSpec,
    UntilSpec,
)
from datamodels.storage import records

MAX_CHUNKS = 100_000
"""The Kubernetes Job API's limit on completions of an Indexed Job."""

NOT_STORED = {"until", "output", "display"}
"""Sections that decide no model and no fit. A run's record does not have them, so they may change."""


class RunSpec(Section):
    """What a run computes.

    Model indices: models 0..m-1 are trained on subsets 0..m-1 and feed the fit. They are followed by
    `evaluate.subsets` x `evaluate.models` more, `evaluate.models` of them on each of the subsets m, m+1, ...
    """

    name: str = Field(pattern=f"^{faults.NAME}$")
    """A label of your choice, of at most 40 lower-case letters, digits and hyphens. The run's name is this label and a
    hash of the spec."""
    dataset: DatasetSpec
    """The data set."""
    trainer: TrainerSpec
    """The learning algorithm."""
    targets: Targets = "test"
    """Which examples of the data set are targets. A target that is a training example is fitted on the subsets without
    it."""
    alpha: float = Field(default=0.5, gt=0, lt=1)
    """The fraction of the columns in each subset, without the pinned ones."""
    m: int = Field(ge=10, le=100_000_000)
    """How many subsets the fit may use; one model is trained on each. With `until` it is the maximum."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """The seed of the subsets and of the models."""
    design: DesignSpec = DesignSpec()
    """How subsets are drawn."""
    chunk: int = Field(default=1000, ge=1)
    """Models of one index of the trainer Job."""
    sub_chunk: int = Field(default=100, ge=1)
    """Models of one commit: what a killed trainer may lose. It must divide `chunk`."""
    evaluate: EvaluateSpec = EvaluateSpec()
    """Models for evaluation."""
    fit: FitSpec = FitSpec()
    """How weights are fitted."""
    until: UntilSpec | None = None
    """When training may end early. By default, all models are trained."""
    output: OutputSpec | None = None
    """What the recorded number means. By default as the trainer declares it."""
    display: DisplaySpec = DisplaySpec()
    """How the examples look in the explorer and in reports, and whether the store keeps that."""

    @property
    def hash(self) -> str:
        """64 hexadecimal digits; equal for specs that train the same models: `fit` and NOT_STORED are not in it."""
        return records.digest(self.model_dump(mode="json", exclude={"fit", *NOT_STORED}))

    @property
    def run(self) -> str:
        """The run's name."""
        return f"{self.name}-{self.hash[:12]}"

    def earlier(self) -> RunSpec | None:
        """Return the spec as versions before 0.3 read it: `evaluate.models` was 20 by default. None if it is given."""
        if "models" in self.evaluate.model_fields_set:
            return None
        return self.model_copy(update={"evaluate": self.evaluate.model_copy(update={"models": 20})})

    @property
    def models(self) -> int:
        """Number of models to train, those for evaluation included."""
        return self.m + self.evaluate.subsets * self.evaluate.models

    @property
    def chunks(self) -> int:
        return -(-self.models // self.chunk)

    def subset_index(self, model: int) -> int:
        """Return the index of the subset that a model is trained on. It does not fall as `model` grows."""
        return model if model < self.m else self.m + (model - self.m) // self.evaluate.models

    def chunk_range(self, chunk: int) -> range:
        """Return the models of a chunk. Raises SpecError if there is no such chunk."""
        if not 0 <= chunk < self.chunks:
            raise SpecError(f"chunk = {chunk}: must be 0 to {self.chunks - 1} in run {self.run}")
        return range(chunk * self.chunk, min((chunk + 1) * self.chunk, self.models))

    def sub_chunks(self, models: range) -> list[range]:
        """Return the sub-chunks of a chunk, in order. A sub-chunk is committed as a whole."""
        return [
            range(first, min(first + self.sub_chunk, models.stop))
            for first in range(models.start, models.stop, self.sub_chunk)
        ]

    def sub_chunk_of(self, first: int) -> range | None:
        """Return the sub-chunk that starts at model `first`, or None if none does."""
        if not 0 <= first < self.models or (first % self.chunk) % self.sub_chunk:
            return None
        stop = min(first + self.sub_chunk, self.chunk_range(first // self.chunk).stop)
        return range(first, stop)

    def document(self) -> dict[str, Any]:
        """Return the spec with its defaults filled in, as JSON values in their first spelling; `parse` reads it back.

        `until` is left out: it decides when training ends, but not what any model or fit is. So a run that was stopped
        continues under another rule, or none, and no model is trained twice. `output` and `display` are left out,
        because a run has its own records of what its outputs mean, and of how its examples look.
        """
        return self.model_dump(mode="json", exclude=NOT_STORED)

    def request(self) -> dict[str, Any]:
        """Return the document with `until`, `output` and `display`, for a driver elsewhere; `parse` reads it back."""
        until = {} if self.until is None else {"until": self.until.model_dump(exclude_none=True)}
        output = {} if self.output is None else {"output": self.output.given()}
        display = self.display.model_dump(exclude_unset=True)
        return self.document() | until | output | ({"display": display} if display else {})

    def with_fit(self, settings: Any) -> RunSpec:
        """Return the spec with another `fit` section, given as JSON values. Raises SpecError."""
        return parse(self.request() | {"fit": settings})


def is_run(name: str) -> bool:
    """Return whether a text has the form of a run's name."""
    return re.fullmatch(f"{faults.NAME}-[0-9a-f]{{12}}", name) is not None


def parse(document: Any) -> RunSpec:
    """Return a RunSpec from YAML or JSON values, in old or new spelling. Raises SpecError with one line per fault."""
    if not isinstance(document, dict):
        raise SpecError(f"the spec is a {type(document).__name__}: must be a mapping of fields")
    try:
        spec = RunSpec.model_validate(document)
    except pydantic.ValidationError as error:
        raise SpecError(list(faults.of_fields(error, RunSpec))) from None
    if crossed := list(_cross_faults(spec)):
        raise SpecError(crossed)
    return spec


def parse_fit(given: dict[str, Any], base: FitSpec | None = None) -> FitSpec:
    """Parse fields of the section `fit` as a user gives them.

    base  has the other fields, except those that the estimator does not use; by default, these have their defaults

    Raises SpecError with one line per fault: also for given fields that the estimator does not use.
    """
    kept = {} if base is None else base.model_dump(mode="json", by_alias=False)
    try:
        given = spellings.renamed(spellings.FIT, given)
        found = FitSpec.model_validate(kept | given)
    except pydantic.ValidationError as error:
        raise SpecError([f"fit.{fault}" for fault in faults.of_fields(error, FitSpec)]) from None
    except ValueError as error:
        raise SpecError(f"fit: {error}") from None
    unused = found.unused()
    if wrong := [fault for field, fault in _unused_faults(found) if field in given]:
        raise SpecError(wrong)
    return found.model_copy(update={field: FitSpec.model_fields[field].default for field in unused})


def _unused_faults(fit: FitSpec):
    """Yield (field, fault) of the fields that the estimator does not use."""
    for field, names in fit.unused().items():
        yield (
            field,
            f"fit.{field} = {getattr(fit, field)!r}: the estimator {fit.estimator!r} does not use it; leave it out, or "
            f"take the estimator {' or '.join(names)}, which does",
        )


def _cross_faults(spec: RunSpec):
    if spec.sub_chunk > spec.chunk or spec.chunk % spec.sub_chunk:
        yield f"sub_chunk = {spec.sub_chunk}: must divide chunk = {spec.chunk}"
    if spec.chunks > MAX_CHUNKS:
        yield (
            f"chunk = {spec.chunk}: makes {spec.chunks:,} chunks of {spec.models:,} models, at most {MAX_CHUNKS:,} "
            "allowed"
        )
    if 0 < spec.evaluate.subsets < 3:
        yield f"evaluate.subsets = {spec.evaluate.subsets}: must be 0, for no evaluation, or at least 3"
    taken = ESTIMATORS[spec.fit.estimator].targets
    if spec.targets not in taken:
        yield (
            f"fit.estimator = {spec.fit.estimator!r}: takes targets: {' or '.join(taken)}, and not {spec.targets!r}; "
            f"or take the estimator {DEFAULT}"
        )
    if spec.until is not None:
        if (spec.until.lds is None) == (spec.until.slope is None):
            yield "until: must have one field, lds or slope"
        if not spec.evaluate.subsets:
            yield "until: needs evaluate.subsets, to measure LDS on; they are 0"
    yield from _output_faults(spec.output or OutputSpec())
    if spec.m * spec.fit.holdout < 2:
        yield f"fit.holdout = {spec.fit.holdout}: holds out less than 2 of m = {spec.m} subsets; raise it or m"


def _output_faults(output: OutputSpec):
    try:  # over an output that takes any threshold; whether it fits that of the trainer shows when the run is resolved
        output.over(Output("output", higher_is_better=True))
    except SpecError as error:
        yield from error.faults


def load(path: str | Path) -> RunSpec:
    """Read a RunSpec from a YAML file. A plain name without such a file is that of an example; see `run.examples`.

    Raises SpecError with one line per fault: also for fields of the fit that its estimator does not use. Those of
    stored runs are ignored, because earlier versions took them.
    """
    if is_run(str(path)) and not Path(path).is_file():
        raise SpecError(
            f"{path}: is the name of a run, and this command needs a spec, a YAML file; `datamodels fit {path}` fits "
            "what the run has committed"
        )
    try:
        is_name = re.fullmatch(r"[\w-]+", str(path)) and not Path(path).is_file()
        text = examples.text(str(path)) if is_name else Path(path).read_text(encoding="utf-8")
        document = documents.load(text)
    except OSError as error:
        close = examples.similar(Path(path).stem) if isinstance(error, FileNotFoundError) else []
        hint = f"; did you mean the example {' or '.join(close)}?" if close else ""
        raise SpecError(f"{path}: {error.strerror}{hint}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: is not UTF-8 text") from None
    except ValueError as error:
        raise SpecError(f"{path}: {error}") from None
    spec = parse(document)
    if wrong := [fault for _, fault in _unused_faults(spec.fit)]:
        raise SpecError(wrong)
    return spec
