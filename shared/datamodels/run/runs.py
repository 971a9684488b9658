"""Create and read runs. A run is a spec and what its data set decides; it is created before its first stage."""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from datamodels import outputs, words
from datamodels.errors import (
    ConflictError,
    DatamodelsError,
    InputError,
    ObjectNotFoundError,
    RunNotFoundError,
    SettingsError,
    SpecError,
)
from datamodels.labels import fault_of_classes
from datamodels.outputs import Output
from datamodels.run import designs, faults, precision, spellings, trust, user_code
from datamodels.run import specs as spec
from datamodels.run.dataset import NOT_IN_POOL, Dataset
from datamodels.run.designs import KINDS, Design
from datamodels.run.designs.masks import Masks
from datamodels.run.estimators import EARLIER, ESTIMATORS
from datamodels.run.specs import RunSpec
from datamodels.run.user_code import of_environment, why
from datamodels.spans import Span
from datamodels.storage import ObjectStore, decode, keys, records


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run: a spec, and what its data set decides. No stage needs more.

    spec           the RunSpec
    design         how subsets are drawn
    own            int32[n]; index of the training example that each target is, or -1
    labels         int32[examples] or None; class labels for display
    target_labels  int32[n] or None
    dtype          the type that outputs are stored in, one of `precision.DTYPES`; see there
    declared       what outputs mean, if the spec or the trainer says so; else None, see `output`
    label_names    name of each class; empty if classes have none
    spans          what people see of each target, if targets are parts of texts; else empty
    """

    spec: RunSpec
    design: Design
    own: np.ndarray
    labels: np.ndarray | None = None
    target_labels: np.ndarray | None = None
    dtype: str = precision.DTYPE
    declared: Output | None = None
    label_names: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()

    @functools.cached_property
    def name(self) -> str:
        return self.spec.run

    @property
    def n(self) -> int:
        """Number of targets."""
        return len(self.own)

    @functools.cached_property
    def output(self) -> Output:
        """What the outputs of models mean: as declared, else as `outputs.assumed` guesses."""
        return self.declared or outputs.assumed(self.spec.trainer.options, classes=self.labels is not None)

    @functools.cached_property
    def predicted(self) -> Output:
        """What predictions by the weights of the spec's estimator mean: the output, or a fraction of models."""
        return outputs.of_shares(self.output) if ESTIMATORS[self.spec.fit.estimator].shares else self.output

    def as_declared(self, other: Run) -> Run:
        """Return this run with what another record of it declares of outputs and classes."""
        return dataclasses.replace(self, declared=other.declared, label_names=other.label_names)

    def judged(self, threshold: float | None) -> Run:
        """Return this run with another threshold of its output; as it is if none is given. Raises InputError."""
        return self if threshold is None else dataclasses.replace(self, declared=self.output.judged(threshold))

    @property
    def meaning(self) -> str:
        """What outputs mean, in words, and how to declare it if it is only assumed."""
        return str(self.output) if self.declared else f"{self.output} (assumed; if it is not so, {outputs.DECLARE})"

    def label_name(self, label: int | None) -> str:
        """Return the name of a class, or its number if it has none; empty for None and for a label below 0."""
        return words.label(label, self.label_names)

    def target_name(self, target: int) -> str:
        """Return what tells a target from others beside its number: its text with the span marked, else its class."""
        if self.spans:
            return str(self.spans[target])
        return "" if self.target_labels is None else self.label_name(int(self.target_labels[target]))

    def document(self) -> dict[str, Any]:
        """Return the run as JSON values; `from_document` reads them back."""
        design = {f.name: getattr(self.design, f.name) for f in dataclasses.fields(self.design)}
        stored, unseen = design.pop("masks"), design.pop("unseen_from")
        # What a run does not have is absent, as in runs of earlier versions.
        given = {} if stored is None else {"masks": stored.document()}
        given |= {} if unseen is None else {"unseen_from": unseen}
        document = {
            "spec": self.spec.document(),
            "design": design | {"groups": decode.packed(self.design.groups)} | given,
            "own": decode.packed(self.own),
            "labels": decode.packed(self.labels),
            "target_labels": decode.packed(self.target_labels),
            "dtype": self.dtype,
        }
        if self.spans:
            document["spans"] = decode.packed_text(json.dumps(self.spans))
        return document | self._meaning()

    def _meaning(self) -> dict[str, Any]:
        """Return what may be said anew of a run: no model and no fit depends on it."""
        return {
            "output": None if self.declared is None else self.declared.document(),
            "label_names": list(self.label_names),
        }

    def with_fit(self, settings: Any) -> Run:
        """Return the run with another fit section in its spec.

        settings  the fit section, as JSON values

        Raises SpecError.
        """
        return dataclasses.replace(self, spec=self.spec.with_fit(settings))


def from_document(document: dict[str, Any], store: ObjectStore | None = None) -> Run:
    """Return the run that `Run.document` described.

    store  where its masks are, if it was imported
    """
    design, dtype = document["design"], document.get("dtype", precision.FIRST)
    if dtype not in precision.DTYPES:
        raise ValueError(f"dtype is {dtype!r}, must be {' or '.join(precision.DTYPES)}")
    pins = {pin: tuple(design[pin]) for pin in ("pinned_in", "pinned_out")}
    parsed = spec.parse(document["spec"])
    arrays = {
        "groups": decode.unpacked_optional(design["groups"]),
        "masks": Masks.from_document(design.get("masks"), parsed.run, store),
    }
    found = Run(
        spec=parsed,
        design=decode.build(Design, design | pins | arrays),
        own=decode.unpacked_array(document["own"]),
        labels=decode.unpacked_optional(document["labels"]),
        target_labels=decode.unpacked_optional(document["target_labels"]),
        dtype=dtype,
        spans=_spans(document.get("spans")),
        **_decode_meaning(document),
    )
    decode.check_length("labels", found.labels, found.design.examples)
    decode.check_length("target_labels", found.target_labels, found.n)
    decode.check_length("spans", found.spans, found.n)
    if ((found.own < NOT_IN_POOL) | (found.own >= found.design.examples)).any():
        raise ValueError(f"own: has {found.own.min()} to {found.own.max()}, must be an example or {NOT_IN_POOL}")
    return found


def _spans(text: str | None) -> tuple[Span, ...]:
    return () if text is None else tuple(Span(*span) for span in json.loads(decode.unpacked_text(text)))


def _decode_meaning(document: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a Run that `Run._meaning` describes. Records of early versions have none of them."""
    output = document.get("output")
    return {
        "declared": None if output is None else outputs.from_document(output),
        "label_names": tuple(map(str, document.get("label_names", ()))),
    }


def reference(field: str, text: str) -> Callable[..., Any]:
    """Return what `module:name`, in any spelling, refers to. Raises SpecError, also if `run.trust` refuses it."""
    today = spellings.today(text)
    trust.require(field, today)
    module, _, name = today.partition(":")
    try:
        found = importlib.import_module(module)
    except user_code.ANYTHING as error:
        user_code.pass_on(error)
        if fault := of_environment(error):
            raise SettingsError(fault) from error
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        hint = "; if it is in this folder, put PYTHONPATH=. before the command" if missing else ""
        raise SpecError(f"{field} = {text!r}: cannot be imported: {why(error)}{hint}") from error
    if not hasattr(found, name):
        raise SpecError(f"{field} = {text!r}: module {module} has no {name}")
    trust.require_object(field, today, getattr(found, name))
    return getattr(found, name)


def load_dataset(spec: RunSpec) -> Dataset:
    """Load the data set of a run. Raises SpecError if that fails."""
    load = reference("dataset.load", spec.dataset.load)
    faults.check_options("dataset.options", spec.dataset.load, load, spec.dataset.options)
    try:
        dataset = load(**copy.deepcopy(spec.dataset.options))  # the user's code may change them
    except DatamodelsError:
        raise
    except user_code.ANYTHING as error:
        user_code.pass_on(error)
        if fault := of_environment(error):
            raise SettingsError(fault) from error
        raise SpecError(f"dataset.load = {spec.dataset.load!r}: raised {why(error)}") from error
    if not isinstance(dataset, Dataset):
        raise SpecError(f"dataset.load = {spec.dataset.load!r}: returned {type(dataset).__name__}, must be a Dataset")
    return dataset.relabelled(spec.dataset.relabel)


def resolve(spec: RunSpec, dataset: Dataset, masks: Masks | None = None, *, declared: Output | None = None) -> Run:
    """Return the run of a spec on its data set.

    masks     of a run that is imported
    declared  what outputs mean, as the trainer declares it; the spec's section `output` goes before

    Raises SpecError if they do not fit each other.
    """
    targets = dataset.targets(spec.targets)
    labels, target_labels = _labels("y", dataset.y), _labels("y of the targets", targets.y)
    groups, kind = None, KINDS[spec.design.kind]
    if kind.groups:
        groups = labels if dataset.groups is None and kind.labels else dataset.groups
        if groups is None:
            raise SpecError(f"design.kind = {spec.design.kind!r}: the data set gives no groups")
        groups = np.unique(groups, return_inverse=True)[1].astype(np.int32)
    try:
        design = Design(
            kind=spec.design.kind,
            seed=spec.seed,
            alpha=spec.alpha,
            examples=len(dataset.y),
            groups=groups,
            pinned_in=spec.design.pinned_in,
            pinned_out=spec.design.pinned_out,
            masks=masks,
            unseen_from=designs.unseen_from(spec.design.kind, spec.m),
        )
    except InputError as error:
        raise SpecError(str(error).split("; ")) from None
    run = Run(
        spec,
        design,
        targets.own,
        labels,
        target_labels,
        declared=declared,
        label_names=names_of(dataset, labels),
        spans=dataset.spans(spec.targets),
    )
    if spec.output is not None:
        run = dataclasses.replace(run, declared=spec.output.over(run.output))
    require_threshold(run)
    taken = ESTIMATORS[spec.fit.estimator].targets
    if "train" not in taken and (run.own != NOT_IN_POOL).any():
        raise SpecError(
            f"fit.estimator = {spec.fit.estimator!r}: takes no targets that are training examples (own_test)"
        )
    return run


def names_of(dataset: Dataset, labels: np.ndarray | None) -> tuple[str, ...]:
    """Return the names of a data set's classes; empty if labels are no classes."""
    return () if labels is None else tuple(map(str, dataset.label_names))


def require_threshold(run: Run) -> None:
    """Raise SpecError if the estimator counts models that are right, and no threshold says which are."""
    if not ESTIMATORS[run.spec.fit.estimator].shares:
        return
    try:
        run.output.judged()
    except InputError as error:
        raise SpecError(f"fit.estimator = {run.spec.fit.estimator!r}: counts models that are right; {error}") from None


def _labels(name: str, y: np.ndarray) -> np.ndarray | None:
    if y.dtype.kind not in "iub" or y.ndim != 1:
        return None
    if fault := fault_of_classes(y):
        raise SpecError(f"dataset: {name} {fault}")
    return y.astype(np.int32)


def create(store: ObjectStore, run: Run) -> bool:
    """Write a run to the store, unless it exists. The existing run may have another fit section or type of outputs.

    If what outputs mean, or the names of classes, has changed since, this is written beside the run.

    Returns whether the run was written. Raises ConflictError if the run in the store has the same spec but another data
    set.
    """
    document = run.document()
    if records.create(store, keys.run(run.name), document):
        return True
    created = records.read(store, keys.run(run.name))
    with decode.decoding(f"{store.url}/{keys.run(run.name)}", "a run"):
        changed = changes(created, document)
    if changed:
        raise ConflictError(
            f"run {run.name}: {', '.join(changed)} is not what the run was created with, so the data set has "
            "changed under the same spec; give the spec another name, or restore the data"
        )
    _declare(store, run)
    return False


def changes(created: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Return the fields in which a run's document, `here`, differs from the one that the run was created with.

    Leaves out the fit, of which a run may have several, the type of outputs, which a run keeps, and what may be said
    anew: what outputs mean, and the names of classes.
    """
    found, wanted = (_of_data(records.plain(document)) for document in (created, here))
    return [field for field in wanted | found if found.get(field) != wanted.get(field)]


def _of_data(document: dict[str, Any]) -> dict[str, Any]:
    spec = {field: value for field, value in document["spec"].items() if field != "fit"}
    left_out = ("dtype", "output", "label_names")
    return {field: value for field, value in document.items() if field not in left_out} | {"spec": spec}


def _declare(store: ObjectStore, run: Run) -> None:
    """Write what a run says of its outputs and classes if it says anything new."""
    while True:
        known, number = read(store, run.name), newest_meaning(store, run.name)
        declared = known.declared if run.declared in (None, known.output) else run.declared
        new = dataclasses.replace(known, declared=declared, label_names=run.label_names or known.label_names)
        if new._meaning() == known._meaning():
            return
        if records.create(store, keys.meaning(run.name, number + 1), new._meaning()):
            return  # else another writer was first: compare with what it wrote


def continued(store: ObjectStore, wanted: RunSpec) -> RunSpec:
    """Return the spec of the run to continue: `wanted`, or what an earlier version made of the same file.

    The two have different names. The earlier one is taken if the store has it, and does not have `wanted`. If the spec
    names no estimator, and the run was created when another was the default, it keeps that one.
    """
    there = next((s for s in (wanted, wanted.earlier()) if s and store.exists(keys.run(s.run))), None)
    if there is None or {"estimator", "solver"} & there.fit.model_fields_set:
        return there or wanted
    if read(store, there.run).spec.fit.estimator != EARLIER:
        return there
    return there.with_fit(there.fit.model_dump(mode="json") | {"estimator": EARLIER})


def newest_meaning(store: ObjectStore, name: str, known: int = -1) -> int:
    """Return the number of the newest declaration beside a run, -1 if there is none; `known` is known to exist."""
    return store.newest(keys.meanings(name), known)


def names(store: ObjectStore) -> list[str]:
    """Return the names of all runs of a store, in order."""
    return sorted(filter(spec.is_run, map(keys.run_of, store.list(keys.RUNS))))


def read(store: ObjectStore, name: str) -> Run:
    """Read a run from the store, with the newest declaration of what its outputs mean.

    Raises RunNotFoundError or CorruptObjectError.
    """
    absent = f"no such run: {name[:100]!r} in {store.url}; `datamodels status` lists the runs"
    if not spec.is_run(name):
        raise RunNotFoundError(absent)
    key = keys.run(name)
    try:
        document = records.read(store, key)
    except ObjectNotFoundError:
        raise RunNotFoundError(absent) from None
    with decode.decoding(f"{store.url}/{key}", "a run"):
        run = from_document(document, store)
    number = newest_meaning(store, name)
    if number < 0:
        return run
    key = keys.meaning(name, number)
    document = records.read(store, key)
    with decode.decoding(f"{store.url}/{key}", "a declaration of outputs"):
        return dataclasses.replace(run, **_decode_meaning(document))
