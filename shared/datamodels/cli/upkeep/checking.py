"""Run `datamodels verify`."""

from __future__ import annotations

import argparse

from datamodels import words
from datamodels.cli.upkeep.chosen import chosen, tell
from datamodels.errors import CorruptObjectError
from datamodels.lifecycle import objects
from datamodels.lifecycle import verify as checking
from datamodels.lifecycle.journal import Journal
from datamodels.lifecycle.objects import Objects
from datamodels.runners.view import view
from datamodels.storage import ObjectStore


def verify(options: argparse.Namespace) -> None:
    """Check everything of a run, or of all runs, and name what is damaged or missing.

    An attempt that was stopped goes on: a file in --home says what it has verified.
    """
    store, found = chosen(options)
    faults: list[checking.Fault] = []
    for run in found:
        if options.dry_run:
            known = objects.references(store, run, lambda key, what: None)
            wanted = checking.checks(store, run, known)
            size = run.bytes(list(wanted))
            line = f"{run.run}  {words.count(len(wanted), 'object')} ({words.size(size)}) would be verified"
            tell(options, {"run": run.run, "dry_run": True, "objects": len(wanted), "bytes": size}, line)
        else:
            faults += _verify(store, run, options)
    if faults:
        raise CorruptObjectError(
            f"{words.count(len(faults), 'object')} damaged or missing, {faults[0].key} the first; see above, and "
            "restore them from a copy, or train their models again with `datamodels repair RUN --damaged`"
        )


def _verify(store: ObjectStore, run: Objects, options: argparse.Namespace) -> list[checking.Fault]:
    with (
        Journal(options.home / "verify", [store.url, run.run]) as journal,
        view(quiet=options.quiet or options.json).stage("verify", "objects") as bar,
    ):
        if options.anew:
            journal.forget()
        before, found = len(journal.done), []

        def good(key: str, of: int) -> None:
            if len(journal.done) == before:
                bar.expect(of, before)
            bar.reach(min(journal.add(key), of))

        for fault in checking.verify(store, run, done=frozenset(journal.done), tell=good):
            found.append(fault)
            tell(options, {"run": run.run, "key": fault.key, "fault": fault.what}, f"{fault.key}  {fault.what}")
        count = len(journal.done)
    resumed = f", {before:,} of them by an earlier attempt" if before else ""
    line = f"{run.run}  {words.count(count, 'object')} verified{resumed}"
    tell(options, {"run": run.run, "verified": count, "earlier": before, "faults": len(found)}, line)
    return found
