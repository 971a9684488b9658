"""Run `datamodels delete`, `prune` and `vacuum`."""

from __future__ import annotations

import argparse
import time

from datamodels.cli.upkeep.chosen import HOUR, chosen, grace_of, idle, outcome, tell
from datamodels.errors import CorruptObjectError, InputError
from datamodels.lifecycle import compaction, objects, removal
from datamodels.lifecycle import vacuum as sweeping
from datamodels.storage import ObjectStore


def delete(options: argparse.Namespace) -> None:
    """Delete a run. A deletion that was stopped goes on when it is asked for again.

    Whether a run with damaged records is in use is not known, so it takes --force.
    """
    store, found = chosen(options)
    try:
        runs = list(idle(store, found, options, damaged=(lambda key, what: None) if options.force else None))
    except CorruptObjectError as error:
        raise CorruptObjectError(f"{error}, or add --force to delete the run as it is") from error
    for run, _ in runs:
        wanted = removal.deletion(run)
        if not options.dry_run:
            removal.remove(store, wanted)
        outcome(options, run.run, "deleted", wanted, run.bytes())


def prune(options: argparse.Namespace) -> None:
    """Delete the records of old fits and manifests; a vacuum deletes later what they listed."""
    if options.keep is None and options.older_than is None:
        raise InputError("--keep N or --older-than DAYS is needed: which fits are old?")
    grace = grace_of(options)
    store, found = chosen(options)
    for run, known in idle(store, found, options):
        if known.run is None:
            continue  # a deletion or an import that was stopped; see `vacuum`
        if not options.dry_run and len(known.newest.segments) != 1 and removal.make_whole(store, run.run):
            run = objects.of_run(store, run.run)
            known = objects.references(store, run)
        now = time.time()
        before = None if options.older_than is None else now - options.older_than * 24 * HOUR
        wanted = removal.pruning(run, known, keep=options.keep, before=before, ended=now - grace)
        if not options.dry_run:
            removal.remove(store, wanted)
        outcome(options, run.run, "deleted", wanted, run.bytes(wanted))


def vacuum(options: argparse.Namespace) -> None:
    """Delete what nothing refers to, and what checks of the store left behind."""
    grace = grace_of(options)
    store, found = chosen(options)
    for run, known in idle(store, found, options):
        if options.compact and known.run is not None:
            _compact(store, run.run, options)
        now = time.time()
        unused = sweeping.find(store, objects.of_run(store, run.run), now=now, grace=grace)
        if not options.dry_run:
            sweeping.vacuum(store, unused)
        outcome(options, run.run, "deleted", unused.due, unused.bytes)
        if waiting := len(unused.since) - len(unused.due):
            hours = (max(unused.since.values()) + grace - now) / HOUR
            line = f"{run.run}  {waiting:,} unused objects stay for up to {hours:.0f} h more"
            tell(options, {"run": run.run, "waiting": waiting, "hours": round(hours, 1)}, line)
    if options.run is None:
        left = list(sweeping.leftovers(store, now=time.time(), grace=grace))
        if not options.dry_run:
            removal.remove(store, left)


def _compact(store: ObjectStore, run: str, options: argparse.Namespace) -> None:
    groups = compaction.groups_of(store, run)
    count = sum(map(len, groups))
    if not options.dry_run:
        count = compaction.compact(store, run)
    would = "would be " if options.dry_run else ""
    line = f"{run}  {count:,} small parts {would}merged into {len(groups):,}"
    tell(options, {"run": run, "dry_run": options.dry_run, "merged": count, "into": len(groups)}, line)
