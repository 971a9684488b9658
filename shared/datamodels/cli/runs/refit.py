"""Fit what a run has committed, in this process, for `datamodels import` and `datamodels fit RUN`. Trains no model."""

from __future__ import annotations

import argparse
import collections
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodels import words
from datamodels.aggregate import manifest
from datamodels.analyze.quality import evaluate
from datamodels.analyze.quality.evaluate import ceiling
from datamodels.analyze.quality.unseen import Unseen
from datamodels.analyze.quality.verdict import of_evaluation
from datamodels.cli.common.output import print_json, quality, span
from datamodels.cli.common.store import store_of
from datamodels.errors import InputError, NotReadyError
from datamodels.fit.data import examples, problem
from datamodels.fit.job import fits
from datamodels.fit.job import gradients as stored
from datamodels.fit.job.finished import FitRecord
from datamodels.fit.job.job import FitJob
from datamodels.run import documents, precision, runs, specs, trust
from datamodels.run.runs import Run
from datamodels.run.specs import FitSpec
from datamodels.runners import gradients
from datamodels.runners.view import View, view
from datamodels.settings import FitterSettings
from datamodels.storage import ObjectStore


def is_stored(name: str) -> bool:
    """Return whether a SPEC of the command line names a run in the store, and is neither a file nor an example."""
    return specs.is_run(name) and not Path(name).is_file()


def refit(options: argparse.Namespace) -> None:
    """Fit a run of the store, and print the quality of the fit."""
    store = store_of(options)
    run = runs.read(store, options.spec)
    found = fitted(store, run, changed(run.spec.fit, options.settings), quiet=options.quiet)
    if options.json:
        print_json({"run": run.name} | found)
        return
    print(f"run        {run.name}")
    print(line(found))


def changed(fit: FitSpec, settings: Sequence[str]) -> FitSpec:
    """Return a section `fit` with other values for some fields, given as NAME=VALUE. Raises InputError, SpecError."""
    given = dict(map(_setting, settings))
    found = specs.parse_fit(given, fit)
    if "features" in given:  # the user has named this code
        trust.trust_references([found.features])
    return found


def _setting(text: str) -> tuple[str, object]:
    """Return (name, value) of NAME=VALUE, the value as in YAML."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--fit {text!r}: must be NAME=VALUE, a field of the section fit of a spec")
    return name, yaml_of(f"--fit {name}", value)


def yaml_of(option: str, text: str) -> Any:
    """Return the value of an option that is given as YAML. Raises InputError."""
    try:
        return documents.load(text)
    except ValueError as error:
        raise InputError(f"{option} {text!r}: {error}") from None


def fitted(store: ObjectStore, run: Run, settings: FitSpec, *, quiet: bool = False) -> dict[str, Any]:
    """Fit a run, unless its newest fit is that, and return the fit and its quality as JSON values.

    Records the evaluation if there are unseen subsets. Shows progress unless `quiet`.
    """
    shown = view(quiet=quiet)
    fit = settings.model_dump(mode="json")
    examples.write_from_spec(store, run.with_fit(fit))
    _take_gradients(store, run.with_fit(fit), shown)
    job = FitJob(store, run.name, fit)
    record = job.finished()
    known = record is not None
    if record is None:
        with shown.stage("fit", "of it") as bar:
            record = job.solve(
                FitterSettings.load(),
                progress=lambda fraction, block, stage, left: bar.reach(round(fraction, 2), stage, left),
                stop=threading.Event(),
            )
    assert record is not None, "a whole fit leaves no block to others"
    fields = ("number", "estimator", "rows", "targets", "seconds")
    names = ("fit", "estimator", "models", "targets", "seconds")
    found = {name: getattr(record, field) for name, field in zip(names, fields, strict=True)}
    statuses = collections.Counter(word for block in fits.blocks(store, record) for word in block.status)
    found |= {"statuses": dict(statuses), "known": known, "lds": None, "verdict": None}
    return found | _quality(store, record.of(run), record)


def _take_gradients(store: ObjectStore, run: Run, shown: View) -> None:
    """Compute the scores by gradients that a fit uses, unless the store has them or there is nothing to fit."""
    models = stored.wanted(run)
    if models and manifest.read_newest(store, run.name).rows and stored.read(store, run, models) is None:
        with shown.stage("gradients", "models") as bar:
            gradients.ensure(run, lambda: runs.load_dataset(run.spec), store, bar.move)


def _quality(store: ObjectStore, run: Run, record: FitRecord) -> dict[str, Any]:
    if not run.spec.evaluate.subsets:
        return {}
    snapshot = manifest.read_newest(store, run.name)
    try:
        found = Unseen.read(run, snapshot, store).predicted_by(fits.load(store, record)).evaluate()
    except NotReadyError:
        return {}
    if snapshot.committed == run.spec.models:
        evaluate.record(store, run.name, record.number, found)
    return quality(found, of_evaluation(found, record.rows))


def line(found: dict[str, Any]) -> str:
    """Format what `fitted` found."""
    models = words.count(found["models"], "model")
    known = ", done before" if found["known"] else ""
    of = f"fit {found['fit']} ({found['estimator']}) of {models}, {found['seconds']:.1f} s{known}"
    targets, unusual = found["targets"], {word: n for word, n in found["statuses"].items() if word != problem.OK}
    if unusual:
        of += f"; {targets:,} targets, of them {', '.join(f'{n:,} {word}' for word, n in unusual.items())}"
    if found["lds"] is None:
        why = f"\n{precision.same(targets)}" if unusual.get(problem.CONSTANT) == targets else ""
        return f"{of}; no models on unseen subsets to measure LDS on{why}"
    lds, verdict = found["lds"], found["verdict"]
    return (
        f"{of}; LDS {lds['lds']:.3f} ({span(lds['interval'])}), ceiling "
        f"{ceiling(lds['ceiling'], lds['ceiling_interval'])}, at best {lds['best']:.3f}\n"
        f"{verdict['word']}: {verdict['text']}"
    )
