"""Keep the features and labels of a run's examples in the store, for estimators that compare examples.

Whoever asks for a fit computes them, from the data set and `fit.features`, and writes them once. So the fitter, which
serves many users, reads numbers and runs no code that a run names.

Each array is stored in blocks of rows, as `.npy` files whose names are their contents' hashes. A record lists the
blocks with their sha256. It is written last: whoever finds it finds everything that it lists.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from datamodels import inputs
from datamodels.errors import CorruptObjectError, DatamodelsError, NotReadyError, ObjectNotFoundError, SpecError
from datamodels.run import runs
from datamodels.run.dataset import Dataset, Targets
from datamodels.run.estimators import ESTIMATORS, FLAT
from datamodels.run.runs import Run
from datamodels.run.user_code import ANYTHING, pass_on, why
from datamodels.storage import ObjectStore, keys, records
from datamodels.telemetry import logger

log = logger(__name__)

BLOCK_BYTES = 64 * 2**20
"""About the most bytes of a block."""


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """What estimators know of the examples of a run.

    x, y                  numbers [examples, f] and labels [examples, ...] of the pool
    x_targets, y_targets  the same of the targets, [n, f] and [n, ...]
    """

    x: np.ndarray
    y: np.ndarray
    x_targets: np.ndarray
    y_targets: np.ndarray

    def check(self, run: Run) -> None:
        """Raise ValueError if these are not numbers and labels of the run's examples."""
        for x, y, rows in ((self.x, self.y, run.design.examples), (self.x_targets, self.y_targets, run.n)):
            if (
                x.ndim != 2
                or not len(x) == len(y) == rows
                or x.shape[1] != self.x.shape[1]
                or x.dtype.kind not in "fiub"
            ):
                raise ValueError(f"{x.dtype}{list(x.shape)} features and {len(y)} labels of {rows} examples")


@dataclasses.dataclass(frozen=True)
class Absent:
    """Stands for examples that cannot be compared, for an estimator that does without it.

    reason  why, for people
    """

    reason: str


def optional(run: Run) -> bool:
    """Return whether the fit of a run does without its examples if need be: its spec then names no features."""
    return ESTIMATORS[run.spec.fit.estimator].optional and run.spec.fit.features == FLAT


def needed(run: Run) -> bool:
    """Return whether the estimator of a run compares examples."""
    return ESTIMATORS[run.spec.fit.estimator].prior is not None


def of_dataset(run: Run, dataset: Dataset) -> Examples:
    """Compute the features of a run's examples by its `fit.features`.

    Raises SpecError if they are not valid, or the data set has changed.
    """
    targets = require_same(run, dataset)
    names = dataset.feature_names if run.spec.fit.features == FLAT else ()
    pool, theirs = features(run, dataset.x, names), features(run, targets.x, names, "the targets")
    if pool.shape[1] != theirs.shape[1]:
        raise SpecError(
            f"fit.features = {run.spec.fit.features!r}: gives {pool.shape[1]} features of x and {theirs.shape[1]} of "
            "x_test"
        )
    return Examples(pool, dataset.y, theirs, targets.y)


def require_same(run: Run, dataset: Dataset) -> Targets:
    """Return the targets of a run. Raises SpecError if the size of the data set is not the one it was created with."""
    targets = dataset.targets(run.spec.targets)
    if len(dataset.y) != run.design.examples or len(targets) != run.n:
        raise SpecError(
            f"dataset.load: returned {len(dataset.y)} examples and {len(targets)} targets, run {run.name} was created "
            f"with {run.design.examples} and {run.n}; restore the data"
        )
    return targets


def features(run: Run, x: np.ndarray, names: Sequence[str] = (), of: str = "x") -> np.ndarray:
    """Return the features of x that the run's `fit.features` makes, numbers [examples, f].

    names  of the features, if they are known
    of     what x is, for people

    Raises SpecError for what are no finite numbers; it names the first.
    """
    name, make = run.spec.fit.features, runs.reference("fit.features", run.spec.fit.features)
    try:
        found = np.asarray(make(x))
    except SpecError:
        raise
    except ANYTHING as error:
        pass_on(error)
        raise SpecError(f"fit.features = {name!r}: raised {why(error)}") from error
    if found.ndim != 2 or len(found) != len(x) or found.dtype.kind not in "fiub":
        raise SpecError(
            f"fit.features = {name!r}: gave {found.dtype}{list(found.shape)} of {len(x)} examples; must be numbers "
            "[examples, features]"
        )
    if fault := inputs.missing(found, names):
        raise SpecError(
            f"fit.features = {name!r}: the features of {of} have {fault}; fill such values, in the data set or by a "
            "module:function of your own in fit.features"
        )
    return found


def write(store: ObjectStore, run: Run, dataset: Dataset) -> None:
    """Store what the estimator of a run needs of its examples, unless it needs nothing, or the store has it.

    Features are computed once for each name in `fit.features`. Raises SpecError as `of_dataset` does, unless the
    examples are `optional`: then the reason is stored, and the fit says it.
    """
    write_from(store, run, lambda: dataset)


def write_from_spec(store: ObjectStore, run: Run) -> None:
    """Do what `write` does, and load the data set of the run if that is needed. Raises SpecError."""
    write_from(store, run, lambda: runs.load_dataset(run.spec))


def write_from(store: ObjectStore, run: Run, load: Callable[[], Dataset]) -> None:
    """Do what `write` does, with the data set that `load` returns, if that is needed."""
    if not needed(run) or store.exists(_key(run)):
        return
    try:
        found = of_dataset(run, load())
    except DatamodelsError as error:
        if not optional(run):
            raise
        log.warning("no prior", run=run.name, reason=str(error))
        records.create(store, _key(run, "-absent"), {"reason": str(error)})
        return
    arrays = _write_all(store, run, found)
    records.create(store, _key(run), {"features": run.spec.fit.features, "arrays": arrays})
    written = {block["sha256"] for blocks in arrays.values() for block in blocks}
    if not all(store.exists(keys.examples(run.name, sha256)) for sha256 in written):
        # A vacuum removed blocks that an attempt had left long ago, just before the record was there.
        _write_all(store, run, found)


def require(store: ObjectStore, run: Run) -> None:
    """Raise NotReadyError if the estimator of a run needs what the store does not have."""
    if needed(run) and not optional(run) and not store.exists(_key(run)):
        fit = run.spec.fit
        raise NotReadyError(
            f"run {run.name}: the store has no features of its examples by {fit.features}, which fit.estimator = "
            f"{fit.estimator!r} needs, and the fitter runs no code of users; `datamodels fit {run.name} --fit "
            f"estimator={fit.estimator}` computes them, and fits"
        )


def read(store: ObjectStore, run: Run) -> Examples | Absent:
    """Return what `write` has stored. Raises NotReadyError as `require` does, CorruptObjectError."""
    require(store, run)
    key = _key(run)
    if not store.exists(key):
        why_not = _key(run, "-absent")
        known = store.exists(why_not)
        return Absent(str(records.read(store, why_not)["reason"]) if known else "the store has none of its examples")
    document = records.read(store, key)
    try:
        found = Examples(
            **{f.name: _read(store, run, document["arrays"][f.name]) for f in dataclasses.fields(Examples)}
        )
        found.check(run)
        return found
    except (KeyError, TypeError, ValueError, EOFError) as error:
        raise CorruptObjectError(
            f"{store.url}/{key}: is not a list of features as this version of datamodels writes it: {error}"
        ) from error


def _key(run: Run, end: str = "") -> str:
    """Return the key of the record: it depends on the features alone, for the name of a run says all the rest."""
    return keys.features(run.name, records.digest(run.spec.fit.model_dump(mode="json")["features"])[:16] + end)


def _write_all(store: ObjectStore, run: Run, found: Examples) -> dict[str, list[dict[str, Any]]]:
    return {f.name: _write(store, run, getattr(found, f.name)) for f in dataclasses.fields(found)}


def _write(store: ObjectStore, run: Run, array: np.ndarray) -> list[dict[str, Any]]:
    """Write an array, and return its blocks as JSON values."""
    blocks = []
    for part in _parts(array):
        file = io.BytesIO()
        np.lib.format.write_array(file, part, allow_pickle=False)
        data = file.getvalue()
        sha256 = hashlib.sha256(data).hexdigest()
        store.create(keys.examples(run.name, sha256), data)
        blocks.append({"rows": len(part), "sha256": sha256})
    return blocks


def _parts(array: np.ndarray) -> Iterator[np.ndarray]:
    step = max(1, BLOCK_BYTES * len(array) // max(1, array.nbytes))
    for first in range(0, len(array), step):
        yield np.ascontiguousarray(array[first : first + step])


def _read(store: ObjectStore, run: Run, blocks: list[dict[str, Any]]) -> np.ndarray:
    return np.concatenate([_block(store, keys.examples(run.name, b["sha256"]), b["sha256"]) for b in blocks])


def _block(store: ObjectStore, key: str, sha256: str) -> np.ndarray:
    try:
        data = store.get(key, sha256=sha256)
    except ObjectNotFoundError:
        raise CorruptObjectError(f"{store.url}/{key}: is gone; restore it from a copy") from None
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
