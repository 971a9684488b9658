"""`datamodels report`: writes the results of a run as one HTML page. Needs no service."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from datamodels import run as runs
from datamodels.analyze.evaluate import showcase
from datamodels.cli.store import store_of
from datamodels.errors import InputError, SettingsError, SpecError
from datamodels.report import page, rivals
from datamodels.report.findings import Findings, gather
from datamodels.rivals import lime
from datamodels.run import Run
from datamodels.settings import TrainerSettings
from datamodels.train.data import Dataset
from datamodels.train.device import limit_threads


def report(options: argparse.Namespace) -> None:
    """Writes the page and prints its path and size."""
    compared = options.compared and rivals.read(options.compared)
    store = store_of(options)
    run = runs.read(store, options.run)
    if options.lime:
        dataset = runs.load_dataset(run.spec)
        found = _explained(gather(store, run, dataset), dataset, options.lime)
    else:
        found = gather(store, run, _dataset(run))
    path = write(found, options.output, options.home, compared)
    size = path.stat().st_size / 1e6
    print(f"{path}  {size:.1f} MB{'  partial: the run still trains' if found.partial else ''}")


def _explained(found: Findings, dataset: Dataset, count: int) -> Findings:
    """Adds LIME's explanations of `count` targets, spread from the lowest mean output to the highest."""
    if found.fitted is None:
        raise InputError(f"--lime: run {found.run.name} has no fit yet, so its report shows no targets")
    limit_threads(TrainerSettings.load().threads)
    targets = showcase(None if found.unseen is None else found.unseen.outputs, found.run.n, count)
    explained = lime.explain(found.run, dataset, targets)
    return dataclasses.replace(found, explained=dict(zip(targets, explained, strict=True)))


def write(found: Findings, output: str | None, home: Path, compared: rivals.Rows | None = None) -> Path:
    """Writes the page of a run, by default to HOME/reports. Raises SettingsError if it cannot be written."""
    path = Path(output) if output else home / "reports" / f"{found.run.name}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page.html(found, compared), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"the report {path}: cannot be written: {error.strerror}") from error
    return path


def _dataset(run: Run) -> Dataset | None:
    """Loads the data set; None, with a warning, if that fails: most of a report needs no data."""
    try:
        return runs.load_dataset(run.spec)
    except SpecError as error:
        print(f"datamodels: {error}; the report shows examples by number", file=sys.stderr)
        return None
