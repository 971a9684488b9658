"""Find the runs that a command is about, and print what it did to each."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

from datamodels import words
from datamodels.cli.common.output import print_json
from datamodels.cli.common.store import store_of
from datamodels.errors import CorruptObjectError, InputError, RunInUseError, RunNotFoundError
from datamodels.lifecycle import objects
from datamodels.lifecycle.objects import Damaged, Objects, References
from datamodels.run.specs import is_run
from datamodels.storage import ObjectStore

HOUR = 3600.0
LEAST_GRACE = 1.0
"""Hours. With less, a vacuum could delete what another process reads or lists at that moment."""


def chosen(options: argparse.Namespace) -> tuple[ObjectStore, list[Objects]]:
    """Return the store and the objects of the run that the options name, or of all runs.

    Raises RunNotFoundError if the store has no object of the run.
    """
    store = store_of(options)
    if options.run is None:
        return store, list(objects.of_all(store).values())
    found = objects.of_run(store, options.run) if is_run(options.run) else Objects(options.run, {})
    if not found.entries:
        raise RunNotFoundError(f"no such run: {options.run[:100]!r} in {store.url}; `datamodels status` lists the runs")
    return store, [found]


def idle(
    store: ObjectStore, found: list[Objects], options: argparse.Namespace, *, damaged: Damaged | None = None
) -> Iterator[tuple[Objects, References]]:
    """Yield each run with its records.

    damaged  called for each damaged record, which is left out then; if None, that is an error

    If the command is about all runs, those that something may be working on are left out, with a line that says so, and
    those with damaged records, too; the latter are raised in the end. Raises RunInUseError, CorruptObjectError.
    """
    faults: list[CorruptObjectError] = []
    for run in found:
        try:
            known = objects.references(store, run, damaged)
            if not options.force and not options.dry_run:
                objects.require_idle(store, run, known, time.time())
        except (RunInUseError, CorruptObjectError) as error:
            if options.run is not None:
                raise
            tell(options, {"run": run.run, "skipped": str(error)}, f"{run.run}  skipped: {error}")
            faults += [error] if isinstance(error, CorruptObjectError) else []
            continue
        yield run, known
    if faults:
        raise CorruptObjectError(f"{words.count(len(faults), 'run')} with damaged records left as they are; see above")


def grace_of(options: argparse.Namespace) -> float:
    """Return --grace in seconds. Raises InputError if it is too short for what may go on beside."""
    if options.grace < LEAST_GRACE and not options.force:
        raise InputError(
            f"grace = {options.grace:g}: must be at least {LEAST_GRACE:g} hour, because processes may still read or "
            "write; if nothing uses the store, add --force"
        )
    return options.grace * HOUR


def tell(options: argparse.Namespace, document: dict[str, Any], line: str) -> None:
    """Print a result, as JSON or as a line for people."""
    if options.json:
        print_json(document)
    else:
        print(line, flush=True)


def outcome(options: argparse.Namespace, run: str, verb: str, keys: list[str], size: int) -> None:
    """Print that objects were deleted or copied, or with --dry-run that they would be.

    verb  in the past, such as "deleted"
    size  of the objects, in bytes
    """
    document = {"run": run, "dry_run": options.dry_run, verb: len(keys), "bytes": size}
    if options.dry_run:
        document["keys"] = keys
    would = "would be " if options.dry_run else ""
    line = f"{run}  {words.count(len(keys), 'object')} ({words.size(size)}) {would}{verb}"
    tell(options, document, line)
