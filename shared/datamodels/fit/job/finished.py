"""Find and read the records of finished fits in the object store: small JSON objects, which do not hold the weights."""

from __future__ import annotations

import dataclasses
from typing import Any

from datamodels.errors import CorruptObjectError, NotFoundError, NotReadyError, ObjectNotFoundError, SpecError
from datamodels.run.estimators import EARLIER
from datamodels.run.runs import Run
from datamodels.run.specs import FitSpec
from datamodels.storage import decode, keys, records
from datamodels.storage.base import ObjectStore


@dataclasses.dataclass(frozen=True)
class Block:
    """The weights of the targets first <= target < last, at `key`."""

    key: str
    first: int
    last: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class FitRecord:
    """A finished fit.

    number            number of the fit, counted from 0 in each run
    digest            identifies what was fitted; see `digest`
    manifest_version  version of the manifest that lists the outputs
    settings          the fit section of the spec
    rows              number of models that were fitted, held-out ones included
    columns           d
    targets           n
    seconds           seconds that the fit took
    choice            what the estimator has chosen for all targets together, as `Solution.choice`; None for most
    """

    run: str
    number: int
    digest: str
    manifest_version: int
    spec_hash: str
    solver: str
    settings: dict[str, Any]
    rows: int
    columns: int
    targets: int
    blocks: tuple[Block, ...]
    seconds: float
    choice: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        found = dataclasses.asdict(self)
        if self.choice is None:  # earlier versions do not know the field
            del found["choice"]
        return found

    @property
    def estimator(self) -> str:
        return FitSpec(**self._settings).estimator

    @property
    def chosen(self) -> str:
        """How much of the weights is a prior and how much was measured, in one line; empty if there is no prior.

        It also says what the prior is made of. Each error is that of predictions in cross-validation over the variance
        of the outputs.
        """
        if self.choice is None:
            return ""
        errors = self.choice["errors"]
        others = ", ".join(f"{way} {error:.3f}" for way, error in errors.items() if way != self.choice["way"])
        mine = errors.get(self.choice["way"])
        by = ", chosen by order: no error is below 1" if self.choice.get("by_order") else ""
        line = f"{self.choice['way']}" + ("" if mine is None else f", error {mine:.3f} (others: {others}){by}")
        line += f"; prior: {prior}" if (prior := self.choice.get("prior")) else ""
        line += f"; not tried with one lambda for all targets: {why}" if (why := self.choice.get("untried")) else ""
        return line + (f"; no prior: {why}" if (why := self.choice.get("no_prior")) else "")

    def of(self, run: Run) -> Run:
        """Return the run with the settings of this fit in its spec; it may have been created with others.

        Raises CorruptObjectError if this is no fit of the run.
        """
        if (self.columns, self.targets) != (run.design.columns, run.n):
            raise CorruptObjectError(
                f"run {run.name}: has {run.n} targets over {run.design.columns} columns, its fit {self.number} "
                f"{self.targets} over {self.columns}; restore the records of both from a copy"
            )
        try:
            return run.with_fit(self._settings)
        except SpecError as error:
            raise CorruptObjectError(
                f"run {run.name}: the settings of fit {self.number} are not valid: {error}; restore them from a copy"
            ) from error

    @property
    def _settings(self) -> dict[str, Any]:
        """Return the settings; without an estimator, they are of a version that had only one."""
        return {"estimator": EARLIER} | self.settings


def digest(run: str, part_sha256s: list[str], settings: dict[str, Any]) -> str:
    """Return 16 hexadecimal digits, equal for fits of the same outputs with the same settings."""
    return records.digest({"run": run, "parts": sorted(part_sha256s), "settings": settings})[:16]


def read_newest_fit(store: ObjectStore, run: str, known: int = -1) -> FitRecord | None:
    """Return the newest finished fit of a run, or None. `known` is the number of a fit that is known to exist.

    Raises CorruptObjectError.
    """
    number = store.newest(keys.fits(run), known)
    return None if number < 0 else read_fit(store, run, number)


def require_fit(store: ObjectStore, run: str, number: int | None = None) -> FitRecord:
    """Return a finished fit of a run, by default the newest.

    Raises NotReadyError if the run has no fit yet, NotFoundError if it has none of this number, CorruptObjectError.
    """
    if number is None:
        return read_fit(store, run, newest_number(run, store.newest(keys.fits(run))))
    try:
        return read_fit(store, run, number)
    except ObjectNotFoundError:
        found = numbers(store, run)
        newest_number(run, max(found, default=-1))
        fits = f"its fits are {found[0]} to {found[-1]}" if len(found) > 1 else f"its only fit is {found[0]}"
        raise NotFoundError(f"run {run}: no fit {number}; {fits}") from None


def newest_number(run: str, number: int) -> int:
    """Return the number of the newest fit of a run. Raises NotReadyError if it is negative: the run has no fit."""
    if number < 0:
        raise NotReadyError(f"run {run}: has no weights yet; `datamodels fit` makes them")
    return number


def read_fit(store: ObjectStore, run: str, number: int) -> FitRecord:
    """Return a finished fit by its number. Raises ObjectNotFoundError, CorruptObjectError."""
    key = keys.fit(run, number)
    body = records.read(store, key)
    with decode.decoding(f"{store.url}/{key}", "the record of a fit"):
        record = decode.build(FitRecord, body)
        _check(record, run, number)
        return record


def _check(record: FitRecord, run: str, number: int) -> None:
    """Raise an error if a record contradicts itself or its name."""
    if (record.run, record.number) != (run, number):
        raise ValueError(f"it is of fit {record.number} of run {record.run!r:.100}")
    ends = [0, *(block.last for block in record.blocks)]
    if [block.first for block in record.blocks] != ends[:-1] or ends[-1] != record.targets or min(ends[1:]) < 1:
        raise ValueError(f"its blocks do not hold each of {record.targets} targets once")
    if not record.rows or not all(0 <= n < 2**31 for n in (record.rows, record.columns, record.manifest_version)):
        raise ValueError("its rows, columns or manifest_version are out of range")
    FitSpec(**record.settings)
    _ = record.chosen  # reads `choice`


def find(store: ObjectStore, run: str, digest: str) -> FitRecord | None:
    """Return the newest finished fit of a run with this digest, or None. Raises CorruptObjectError."""
    found = (read_fit(store, run, number) for number in reversed(numbers(store, run)))
    return next((record for record in found if record.digest == digest), None)


def numbers(store: ObjectStore, run: str) -> list[int]:
    """Return the numbers of all finished fits of a run, ascending. Lists the store, for fits may have been pruned."""
    return list(store.numbers(keys.fits(run)))
