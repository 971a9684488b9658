"""Run `datamodels copy`."""

from __future__ import annotations

import argparse
import dataclasses

from datamodels.cli.common.store import store_settings
from datamodels.cli.upkeep.chosen import chosen, idle, outcome
from datamodels.errors import InputError, NotFoundError
from datamodels.lifecycle import copying
from datamodels.lifecycle.journal import Journal
from datamodels.lifecycle.objects import Objects
from datamodels.runners.view import view
from datamodels.storage import ObjectStore, open_store


def copy(options: argparse.Namespace) -> None:
    """Copy a run to another store. A copy that was stopped goes on: a file in --home says what is copied.

    Raises InputError if the other store is this one.
    """
    store, found = chosen(options)
    target = _target(options)
    if target is not None and target.is_same(store):
        raise InputError(f"--to {options.to}: is the store that the run is in; name another")
    for run, known in idle(store, found, options):
        missing = copying.missing(run, known, target)
        if not options.dry_run:
            assert target is not None, "it is made unless the run is dry"
            _copy(store, target, run, missing, options)
        outcome(options, run.run, "copied", missing, run.bytes(missing))


def _target(options: argparse.Namespace) -> ObjectStore | None:
    """Open the store to copy to. None if it does not exist yet and the options forbid to make it."""
    settings = dataclasses.replace(store_settings(options), url=options.to)
    try:
        return open_store(settings, create=not options.dry_run)
    except NotFoundError:
        return None


def _copy(
    store: ObjectStore, target: ObjectStore, run: Objects, missing: list[str], options: argparse.Namespace
) -> None:
    with (
        Journal(options.home / "copy", [store.url, target.url, run.run]) as journal,
        view(quiet=options.quiet or options.json).stage("copy", "objects") as bar,
    ):
        there = journal.done - set(missing)  # what an earlier attempt copied may have been deleted since
        bar.expect(len(there) + len(missing), len(there))

        def copied(key: str) -> None:
            bar.reach(min(journal.add(key), len(there) + len(missing)))

        copying.copy(store, target, run, done=there, tell=copied)
