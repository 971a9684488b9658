"""Run `datamodels status`: describe the runs in the object store or on a Kubernetes cluster. It changes nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from datamodels import words
from datamodels.aggregate import manifest
from datamodels.analyze.quality import evaluate, stopping, verdict
from datamodels.cli.common.store import store_of
from datamodels.errors import CorruptObjectError
from datamodels.fit.job.finished import FitRecord, read_fit, read_newest_fit
from datamodels.run import runs
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore


def status(options: argparse.Namespace) -> None:
    """Print one line for each run, or the lines of one; those of a cluster if the options name one."""
    if options.namespace or options.context or options.kubeconfig:
        from datamodels.cli.runs import cluster  # brings gRPC along, which takes longer than all of the rest

        cluster.status(options)
        return
    store = store_of(options)
    if options.run:
        print("\n".join(lines(store, runs.read(store, options.run), verify=options.verify, every=True)))
        return
    faults, names = [], runs.names(store)
    if not names:
        print(f"no runs in {store.url}", file=sys.stderr)
    for name in names:
        try:
            print("  ".join(lines(store, runs.read(store, name), verify=options.verify)))
        except CorruptObjectError as error:
            print(f"{name}  {error}")
            faults.append(name)
    if faults:
        damaged = words.count(len(faults), "run")
        raise CorruptObjectError(f"{damaged} with damaged objects, {faults[0]} the first; see above")


def lines(store: ObjectStore, run: Run, *, verify: bool = False, every: bool = False) -> Iterator[str]:
    """Describe what the store has of a run.

    verify  read all objects; raises CorruptObjectError for the first one that was altered
    every   describe all fits, not only the newest
    """
    yield run.name
    snapshot = manifest.read_newest(store, run.name)
    failed = f", {len(snapshot.failed)} failed" if snapshot.failed else ""
    yield f"{snapshot.committed:,} of {run.spec.models:,} models committed{failed}"
    for stop in stopping.recorded(store, run.name):
        yield f"stopped by until: {stop}"
    if verify:
        rows = sum(len(part.model_index) for part in snapshot.outputs(store))
        yield f"{words.count(len(snapshot.parts), 'part')} with {words.count(rows, 'model')} verified"
    newest = read_newest_fit(store, run.name)
    if newest is None:
        yield "no fit"
        return
    for number in range(newest.number + 1) if every else [newest.number]:
        yield from _of_fit(store, read_fit(store, run.name, number), verify, every)


def _of_fit(store: ObjectStore, record: FitRecord, verify: bool, every: bool) -> Iterator[str]:
    size = f"{words.count(record.rows, 'model')}, {words.count(record.targets, 'target')}, {record.seconds:.1f} s"
    yield f"fit {record.number} ({record.estimator}) of {size}"
    if verify:
        from datamodels.fit.job import fits  # PyArrow, which nobody else here needs

        yield f"weights of {words.count(fits.load(store, record).n, 'target')} verified"
    found = evaluate.recorded(store, record.run, record.number)
    if found is not None:
        low, high = found.interval
        yield f"LDS {found.lds:.3f} ({low:.3f} to {high:.3f}), noise ceiling {found.ceiling:.3f}"
        judged = verdict.of_evaluation(found, record.rows)
        yield f"{judged}" if every else judged.word
