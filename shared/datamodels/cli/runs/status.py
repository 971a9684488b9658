"""Run `datamodels status`: describe the runs in the object store or on a Kubernetes cluster. It changes nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from datamodels import screen, words
from datamodels.aggregate import manifest
from datamodels.analyze.quality import evaluate, stopping, verdict
from datamodels.cli.common.output import print_json, quality
from datamodels.cli.common.store import in_cluster, store_of
from datamodels.errors import CorruptObjectError
from datamodels.fit.job.finished import FitRecord, numbers, read_fit, read_newest_fit
from datamodels.run import runs
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore


def status(options: argparse.Namespace) -> None:
    """Print one line for each run, or the lines of one; those of a cluster if the options name one."""
    if in_cluster(options):
        from datamodels.cli.runs import cluster  # brings gRPC along, which takes longer than all of the rest

        cluster.status(options)
        return
    store = store_of(options)
    if options.run:
        found = document(store, runs.read(store, options.run), verify=options.verify, every=True)
        print_json(found) if options.json else print("\n".join(lines(found, every=True)))
        return
    faults, names = [], runs.names(store)
    if not names:
        print(f"no runs in {store.url}", file=sys.stderr)
    for name in names:
        try:
            found = document(store, runs.read(store, name), verify=options.verify)
            print_json(found) if options.json else print("  ".join(lines(found)))
        except CorruptObjectError as error:
            print_json({"run": name, "error": str(error)}) if options.json else print(f"{name}  {error}")
            faults.append(name)
    if faults:
        damaged = words.count(len(faults), "run")
        raise CorruptObjectError(f"{damaged} with damaged objects, {faults[0]} the first; see above")


def document(store: ObjectStore, run: Run, *, verify: bool = False, every: bool = False) -> dict[str, Any]:
    """Describe what the store has of a run, as JSON values.

    verify  read all objects; raises CorruptObjectError for the first one that was altered
    every   describe all fits, not only the newest, and all failed models
    """
    snapshot = manifest.read_newest(store, run.name)
    found: dict[str, Any] = {"run": run.name, "models": run.spec.models, "committed": snapshot.committed}
    found["failed"] = len(snapshot.failed)
    if every:
        found["failures"] = [{"model": model, "reason": reason} for model, reason in snapshot.failed.items()]
    found["stopped"] = list(map(str, stopping.recorded(store, run.name)))
    if verify:
        rows = sum(len(part.model_index) for part in snapshot.outputs(store))
        found["verified"] = {"parts": len(snapshot.parts), "models": rows}
    newest = read_newest_fit(store, run.name)
    fits = [newest] if newest else []
    if every:
        fits = [read_fit(store, run.name, number) for number in numbers(store, run.name)]
    return found | {"fits": [_fit(store, run, record, verify) for record in fits]}


def _fit(store: ObjectStore, run: Run, record: FitRecord, verify: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"fit": record.number, "estimator": record.estimator, "models": record.rows}
    found |= {"targets": record.targets, "seconds": record.seconds, "chosen": record.chosen or None}
    if verify:
        from datamodels.fit.job import fits, gradients  # PyArrow, which nobody else here needs

        found["verified"] = {"targets": fits.load(store, record).n}
        scores = gradients.used_by(store, record.of(run), record)
        if scores is not None:
            found["verified"]["scores"] = gradients.verify(store, scores)
    measured = evaluate.recorded(store, record.run, record.number)
    if measured is None:
        return found | {"lds": None, "verdict": None}
    return found | quality(measured, verdict.of_evaluation(measured, record.rows))


def lines(found: dict[str, Any], *, every: bool = False) -> Iterator[str]:
    """Format a `document` for people: a line for each fact. every: also explain failures and the verdict."""
    yield found["run"]
    failed = f", {found['failed']:,} failed" if found["failed"] else ""
    yield f"{found['committed']:,} of {found['models']:,} models committed{failed}"
    if failed and every:
        yield f"the first that failed: {screen.plain(found['failures'][0]['reason'])}"
        yield words.LEFT_OUT
    for stop in found["stopped"]:
        yield f"stopped by until: {stop}"
    if verified := found.get("verified"):
        yield f"{words.count(verified['parts'], 'part')} with {words.count(verified['models'], 'model')} verified"
    if not found["fits"]:
        yield "no fit"
    for fit in found["fits"]:
        yield from _fit_lines(fit, every)


def _fit_lines(fit: dict[str, Any], every: bool) -> Iterator[str]:
    size = f"{words.count(fit['models'], 'model')}, {words.count(fit['targets'], 'target')}, {fit['seconds']:.1f} s"
    yield f"fit {fit['fit']} ({fit['estimator']}) of {size}"
    if fit["chosen"]:
        yield f"{words.CHOSEN} {fit['chosen']}"
    if verified := fit.get("verified"):
        scores = " and scores by gradients" if "scores" in verified else ""
        yield f"weights{scores} of {words.count(verified['targets'], 'target')} verified"
    if lds := fit["lds"]:
        low, high = lds["interval"]
        ceiling = evaluate.ceiling(lds["ceiling"], lds["ceiling_interval"])
        yield f"LDS {lds['lds']:.3f} ({low:.3f} to {high:.3f}), noise ceiling {ceiling}, at best {lds['best']:.3f}"
        word, text = fit["verdict"]["word"], fit["verdict"]["text"]
        yield f"{word}: {text}" if every else word
