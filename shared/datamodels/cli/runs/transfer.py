"""Run `datamodels import` and `export`: make runs from arrays, and arrays from runs. They need no service."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

import numpy as np

from datamodels.aggregate import manifest
from datamodels.analyze.quality import evaluate
from datamodels.analyze.quality.unseen import Unseen
from datamodels.cli.common.output import span
from datamodels.cli.common.store import store_of
from datamodels.errors import InputError
from datamodels.exchange import exported, sources
from datamodels.exchange.contents import Contents
from datamodels.exchange.exporting import export as write
from datamodels.exchange.importing import Given, import_run
from datamodels.fit.job import fits
from datamodels.fit.job.finished import FitRecord, read_fit, read_newest_fit
from datamodels.fit.job.job import FitJob
from datamodels.run import documents, runs, specs
from datamodels.run.runs import Run
from datamodels.settings import FitterSettings
from datamodels.storage import ObjectStore


def import_arrays(options: argparse.Namespace) -> None:
    """Store arrays as a run, fit it, and print its name and quality."""
    store = store_of(options, create=True)
    given = _given(options)
    settings = specs.parse_fit(dict(_setting(text) for text in options.fit))
    run = import_run(store, options.name, given, settings.model_dump(mode="json"), _warn)
    print(f"{run.name}  {run.spec.models:,} models, {run.design.columns:,} columns, {run.n:,} targets")
    print(f"output  {run.meaning}")
    if options.fits:
        record = _fit(store, run, settings.model_dump(mode="json"))
        print(_quality(store, run, record))


def _given(options: argparse.Namespace) -> Given:
    """Return what the options give. What they leave open is taken from an export, if the arrays come from one."""
    models = sources.open_all(options.files)
    export = exported.read(options.files, models[0])
    if export.where:
        _warn(f"{export.where}: says what outputs, targets and classes are; options have precedence")
    labels, target_labels = (
        np.array(sources.read_array(path)) if (path := getattr(options, name)) else getattr(export, name)
        for name in ("labels", "target_labels")
    )
    names = export.label_names if options.data is None else ()
    return Given(
        models=models,
        unseen=options.unseen and tuple(sources.read_array(path) for path in options.unseen),
        targets=options.targets or export.targets,
        data=options.data and (options.data, _mapping("--data-options", options.data_options)),
        trainer=options.trainer and (options.trainer, _mapping("--trainer-options", options.trainer_options)),
        constant=options.constant,
        labels=labels,
        target_labels=target_labels,
        names=options.names and sources.read_lines(options.names),
        target_names=options.target_names and sources.read_lines(options.target_names),
        output=export.output | _mapping("--output", options.output),
        label_names=sources.read_lines(options.label_names) if options.label_names else names,
    )


def _fit(store: ObjectStore, run: Run, settings: dict) -> FitRecord:
    job = FitJob(store, run.name, settings)
    record = job.finished() or job.solve(FitterSettings.load(), progress=lambda *told: None, stop=threading.Event())
    assert record is not None, "a whole fit leaves no block to others"
    return record


def _quality(store: ObjectStore, run: Run, record: FitRecord) -> str:
    """Describe a fit, and record its evaluation if there are unseen subsets."""
    fitted = f"fit {record.number} ({record.estimator}) of {record.rows:,} models, {record.seconds:.1f} s"
    if not run.spec.evaluate.subsets:
        return f"{fitted}; no unseen subsets to measure LDS on (--unseen)"
    unseen = Unseen.read(run, manifest.read_newest(store, run.name), store)
    found = unseen.predicted_by(fits.load(store, record)).evaluate()
    evaluate.record(store, run.name, record.number, found)
    return f"{fitted}; LDS {found.lds:.3f} ({span(found.interval)}), ceiling {found.ceiling:.3f}"


def _setting(text: str) -> tuple[str, object]:
    """Return (name, value) of NAME=VALUE, the value as in YAML."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--fit {text!r}: must be NAME=VALUE, a field of the section fit of a spec")
    return name, _yaml(f"--fit {name}", value)


def _yaml(option: str, text: str) -> object:
    try:
        return documents.load(text)
    except ValueError as error:
        raise InputError(f"{option} {text!r}: {error}") from None


def _mapping(option: str, text: str) -> dict:
    found = _yaml(option, text)
    if not isinstance(found, dict):
        raise InputError(f"{option} {text!r}: must be a YAML mapping, such as '{{train: 1000}}'")
    return found


def _warn(text: str) -> None:
    print(f"datamodels: {text}", file=sys.stderr)


def export_run(options: argparse.Namespace) -> None:
    """Write a run as arrays or tables, and print where."""
    store = store_of(options)
    run = runs.read(store, options.run)
    record = read_newest_fit(store, run.name) if options.fit is None else read_fit(store, run.name, options.fit)
    contents = Contents(
        store=store,
        run=run,
        snapshot=manifest.read_newest(store, run.name),
        record=record,
        evaluation=None if record is None else evaluate.recorded(store, run.name, record.number),
    )
    path = Path(options.output or (f"{run.name}.npz" if options.format == "npz" else run.name))
    write(contents, path, options.format)
    weights = "no fit" if record is None else f"weights of fit {record.number}"
    print(f"{path}  {contents.models:,} models, {run.design.columns:,} columns, {run.n:,} targets, {weights}")
