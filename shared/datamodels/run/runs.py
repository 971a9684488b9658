"""Create and read runs. A run is a spec and what its data set decides; it is created before its first stage."""

from __future__ import annotations

import base64
import copy
import dataclasses
import importlib
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from datamodels.errors import (
    ConflictError,
    CorruptObjectError,
    DatamodelsError,
    InputError,
    ObjectNotFoundError,
    RunNotFoundError,
    SpecError,
)
from datamodels.run import faults, precision, spellings
from datamodels.run import specs as spec
from datamodels.run.dataset import Dataset
from datamodels.run.designs import KINDS, Design
from datamodels.run.masks import Masks
from datamodels.run.specs import RunSpec
from datamodels.run.user_code import why
from datamodels.storage import ObjectStore, keys, records


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run: a spec, and what its data set decides. No stage needs more.

    spec           the RunSpec
    design         how subsets are drawn
    own            int32[n]; index of the training example that each target is, or -1
    labels         int32[examples] or None; class labels for display
    target_labels  int32[n] or None
    dtype          the type that outputs are stored in, one of `precision.DTYPES`; see there
    """

    spec: RunSpec
    design: Design
    own: np.ndarray
    labels: np.ndarray | None = None
    target_labels: np.ndarray | None = None
    dtype: str = precision.DTYPE

    @property
    def name(self) -> str:
        return self.spec.run

    @property
    def n(self) -> int:
        """Number of targets."""
        return len(self.own)

    def document(self) -> dict[str, Any]:
        """Return the run as JSON values; `from_document` reads them back."""
        design = {f.name: getattr(self.design, f.name) for f in dataclasses.fields(self.design)}
        stored = design.pop("masks")
        masks = (
            {} if stored is None else {"masks": stored.document()}
        )  # otherwise absent, as in runs of earlier versions
        return {
            "spec": self.spec.document(),
            "design": design | {"groups": _encode_optional(self.design.groups)} | masks,
            "own": _encode(self.own),
            "labels": _encode_optional(self.labels),
            "target_labels": _encode_optional(self.target_labels),
            "dtype": self.dtype,
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
        "groups": _decode_optional(design["groups"]),
        "masks": Masks.from_document(design.get("masks"), parsed.run, store),
    }
    return Run(
        spec=parsed,
        design=Design(**design | pins | arrays),
        own=_decode(document["own"]),
        labels=_decode_optional(document["labels"]),
        target_labels=_decode_optional(document["target_labels"]),
        dtype=dtype,
    )


def _encode(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.astype("<i4").tobytes())).decode()


def _encode_optional(array: np.ndarray | None) -> str | None:
    return None if array is None else _encode(array)


def _decode(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<i4")


def _decode_optional(text: str | None) -> np.ndarray | None:
    return None if text is None else _decode(text)


def reference(field: str, text: str) -> Callable[..., Any]:
    """Return the object that `module:name` refers to, in old or new spelling. Raises SpecError naming the field."""
    module, _, name = spellings.today(text).partition(":")
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's module does
        raise SpecError(f"{field} = {text!r}: cannot be imported: {why(error)}") from error
    if not hasattr(found, name):
        raise SpecError(f"{field} = {text!r}: module {module} has no {name}")
    return getattr(found, name)


def load_dataset(spec: RunSpec) -> Dataset:
    """Load the data set of a run. Raises SpecError if that fails."""
    load = reference("dataset.load", spec.dataset.load)
    faults.check_options("dataset.options", spec.dataset.load, load, spec.dataset.options)
    try:
        dataset = load(**copy.deepcopy(spec.dataset.options))  # the user's code may change them
    except DatamodelsError:
        raise
    except (Exception, SystemExit) as error:
        raise SpecError(f"dataset.load = {spec.dataset.load!r}: raised {why(error)}") from error
    if not isinstance(dataset, Dataset):
        raise SpecError(f"dataset.load = {spec.dataset.load!r}: returned {type(dataset).__name__}, must be a Dataset")
    return dataset


def resolve(spec: RunSpec, dataset: Dataset, masks: Masks | None = None) -> Run:
    """Return the run of a spec on its data set. Raises SpecError if they do not fit each other.

    masks  of a run that is imported
    """
    targets = dataset.targets(spec.targets)
    labels, target_labels = _labels(dataset.y), _labels(targets.y)
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
        )
    except InputError as error:
        raise SpecError(str(error).split("; ")) from None
    return Run(spec, design, targets.own, labels, target_labels)


def _labels(y: np.ndarray) -> np.ndarray | None:
    return y.astype(np.int32) if y.dtype.kind in "iub" and y.ndim == 1 else None


def create(store: ObjectStore, run: Run) -> bool:
    """Write a run to the store, unless it exists. The existing run may have another fit section or type of outputs.

    Returns whether it was written. Raises ConflictError if the run in the store has the same spec but another data set.
    """
    document = run.document()
    if records.create(store, keys.run(run.name), document):
        return True
    changed = changes(records.read(store, keys.run(run.name)), document)
    if changed:
        raise ConflictError(
            f"run {run.name}: {', '.join(changed)} is not what the run was created with, so the data set has "
            "changed under the same spec; give the spec another name, or restore the data"
        )
    return False


def changes(created: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Return the fields in which a run's document, `here`, differs from the one that the run was created with.

    Leaves out the fit, of which a run may have several, and the type of outputs: a run keeps the one that it has.
    """
    found, wanted = (_of_data(records.plain(document)) for document in (created, here))
    return [field for field in wanted if found.get(field) != wanted[field]]


def _of_data(document: dict[str, Any]) -> dict[str, Any]:
    spec = {field: value for field, value in document["spec"].items() if field != "fit"}
    return {field: value for field, value in document.items() if field != "dtype"} | {"spec": spec}


def names(store: ObjectStore) -> list[str]:
    """Return the names of all runs of a store, in order."""
    return sorted(filter(spec.is_run, map(keys.run_of, store.list(keys.RUNS))))


def read(store: ObjectStore, name: str) -> Run:
    """Read a run from the store. Raises RunNotFoundError or CorruptObjectError."""
    absent = f"no such run: {name[:100]!r} in {store.url}; `datamodels status` lists the runs"
    if not spec.is_run(name):
        raise RunNotFoundError(absent)
    try:
        document = records.read(store, keys.run(name))
    except ObjectNotFoundError:
        raise RunNotFoundError(absent) from None
    try:
        return from_document(document, store)
    except (SpecError, InputError, KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise CorruptObjectError(
            f"{store.url}/{keys.run(name)}: is not a run as this version of datamodels writes it: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
