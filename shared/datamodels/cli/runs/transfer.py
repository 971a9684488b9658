"""Run `datamodels import` and `export`: make runs from arrays, and arrays from runs. They need no service."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

import numpy as np
import yaml

from datamodels.aggregate import manifest
from datamodels.analyze.quality import evaluate
from datamodels.analyze.quality.unseen import Unseen
from datamodels.cli.common.output import span
from datamodels.cli.common.store import store_of
from datamodels.errors import InputError
from datamodels.exchange import sources
from datamodels.exchange.contents import Contents
from datamodels.exchange.exporting import export
from datamodels.exchange.importing import Given, import_run
from datamodels.fit.job import fits
from datamodels.fit.job.finished import FitRecord, read_fit, read_newest_fit
from datamodels.fit.job.job import FitJob
from datamodels.run import runs, specs
from datamodels.run.runs import Run
from datamodels.settings import FitterSettings
from datamodels.storage import ObjectStore


def import_arrays(options: argparse.Namespace) -> None:
    """Store arrays as a run, fit it, and print its name and quality."""
    store = store_of(options, create=True)
    given = Given(
        models=sources.open_all(options.files),
        unseen=options.unseen and tuple(sources.read_array(path) for path in options.unseen),
        targets=options.targets,
        data=options.data and (options.data, _mapping("--data-options", options.data_options)),
        trainer=options.trainer and (options.trainer, _mapping("--trainer-options", options.trainer_options)),
        constant=options.constant,
        labels=options.labels and np.array(sources.read_array(options.labels)),
        target_labels=options.target_labels and np.array(sources.read_array(options.target_labels)),
        names=options.names and sources.read_lines(options.names),
        target_names=options.target_names and sources.read_lines(options.target_names),
    )
    settings = specs.parse_fit(dict(_setting(text) for text in options.fit))
    run = import_run(store, options.name, given, settings.model_dump(mode="json"), _warn)
    print(f"{run.name}  {run.spec.models:,} models, {run.design.columns:,} columns, {run.n:,} targets")
    if options.fits:
        record = _fit(store, run, settings.model_dump(mode="json"))
        print(_quality(store, run, record))


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
    return name, yaml.safe_load(value)


def _mapping(option: str, text: str) -> dict:
    found = yaml.safe_load(text)
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
    export(contents, path, options.format)
    weights = "no fit" if record is None else f"weights of fit {record.number}"
    print(f"{path}  {contents.models:,} models, {run.design.columns:,} columns, {run.n:,} targets, {weights}")
