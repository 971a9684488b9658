"""Run `datamodels import` and `export`: make runs from arrays, and arrays from runs. They need no service."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from datamodels.aggregate import manifest
from datamodels.analyze.quality import evaluate
from datamodels.cli.common.output import print_json, warn
from datamodels.cli.common.source import source_of
from datamodels.cli.common.store import store_of
from datamodels.cli.runs.refit import changed, fitted, line, yaml_of
from datamodels.display import stored
from datamodels.errors import InputError
from datamodels.exchange import exported, sources
from datamodels.exchange.contents import Contents
from datamodels.exchange.exporting import export as write
from datamodels.exchange.importing import Given, import_run
from datamodels.fit.job.finished import read_fit, read_newest_fit
from datamodels.run import runs, trust
from datamodels.run.runs import Run
from datamodels.run.specs import FitSpec
from datamodels.storage import ObjectStore


def import_arrays(options: argparse.Namespace) -> None:
    """Store arrays as a run, fit it, and print its name and quality."""
    store = store_of(options, create=True)
    trust.trust_references(filter(None, (options.data, options.trainer)))
    given = _given(options)
    settings = changed(FitSpec(), options.settings)
    run = import_run(store, options.name, given, settings.model_dump(mode="json"), warn)
    stored.write(store, run, runs.load_dataset(run.spec))
    failed = len(manifest.read_newest(store, run.name).failed)
    if not options.json:
        lost = f" ({failed:,} failed: their outputs are NaN, and fits leave them out)" if failed else ""
        print(f"{run.name}  {run.spec.models:,} models{lost}, {run.design.columns:,} columns, {run.n:,} targets")
        print(f"output  {run.meaning}", flush=True)
    found = fitted(store, run, settings) if options.fits else None
    if options.json:
        facts = _facts(run) | {"models": run.spec.models, "failed": failed}
        print_json(facts | {"output": run.output, "fit": found})
    elif found:
        print(line(found))


def _given(options: argparse.Namespace) -> Given:
    """Return what the options give. What they leave open is taken from an export, if the arrays come from one."""
    files = sources.in_exports(options.files)
    models = sources.open_all(files)
    export = exported.read(files, models[0])
    if export.where:
        warn(f"{export.where}: says what outputs, targets and classes are; options have precedence")
    unseen = export.unseen
    if options.unseen:
        unseen = sources.read_array(options.unseen[0]), sources.read_array(options.unseen[1])
    elif unseen is not None:
        subsets, each, _ = unseen[1].shape
        warn(f"the export's models on unseen subsets are imported, too: {each} on each of {subsets}")
    labels, target_labels = (
        np.array(sources.read_array(path)) if (path := getattr(options, name)) else getattr(export, name)
        for name in ("labels", "target_labels")
    )
    names = export.label_names if options.data is None else ()
    return Given(
        models=models,
        unseen=unseen,
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
        own=export.own if options.data is None else (),
        spans=export.spans if options.data is None else (),
    )


def _mapping(option: str, text: str) -> dict:
    found = yaml_of(option, text)
    if not isinstance(found, dict):
        raise InputError(f"{option} {text!r}: must be a YAML mapping, such as '{{train: 1000}}'")
    return found


def export_run(options: argparse.Namespace) -> None:
    """Write a run as arrays or tables, and print where."""
    path = Path(options.output or options.run)
    if options.format == "npz" and path.suffix != ".npz":
        path = path.with_name(f"{path.name}.npz")  # by which `datamodels import` knows it
    with source_of(options) as store:
        contents = _contents(store, options)
        write(contents, path, options.format)
    run, record = contents.run, contents.record
    weights = "no fit" if record is None else f"weights of fit {record.number}"
    if options.json:
        fit = None if record is None else record.number
        print_json(
            {"path": str(path), "format": options.format} | _facts(run) | {"models": contents.models, "fit": fit}
        )
        return
    print(f"{path}  {contents.models:,} models, {run.design.columns:,} columns, {run.n:,} targets, {weights}")


def _contents(store: ObjectStore, options: argparse.Namespace) -> Contents:
    run = runs.read(store, options.run)
    record = read_newest_fit(store, run.name) if options.fit is None else read_fit(store, run.name, options.fit)
    return Contents(
        store=store,
        run=run,
        snapshot=manifest.read_newest(store, run.name),
        record=record,
        evaluation=None if record is None else evaluate.recorded(store, run.name, record.number),
    )


def _facts(run: Run) -> dict[str, Any]:
    return {"run": run.name, "columns": run.design.columns, "targets": run.n}
