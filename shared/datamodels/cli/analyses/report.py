"""Run `datamodels report`: write the results of a run as one HTML page. It needs no service."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from datamodels.analyze.findings import Findings, gather
from datamodels.analyze.quality.unseen import targets_to_show
from datamodels.baselines import compare, lime
from datamodels.cli.common.output import print_json
from datamodels.cli.common.store import store_of
from datamodels.cli.common.training import training
from datamodels.errors import InputError, SettingsError, SpecError
from datamodels.report import baselines, page
from datamodels.report.explorer import Explained
from datamodels.run import runs
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.settings import TrainerSettings
from datamodels.train.device import limit_threads


def report(options: argparse.Namespace) -> None:
    """Write the page and print its path and size."""
    check_folder(options.output, "--output")
    compared = options.compared and compare.read_documents(options.compared)
    store = store_of(options)
    run = runs.read(store, options.run).judged(options.threshold)
    if options.lime:
        dataset = runs.load_dataset(run.spec)
        found = gather(store, run, dataset)
        explained = _explained(found, dataset, options.lime)
    else:
        found, explained = gather(store, run, _dataset(run)), None
    path = write(found, options.output, options.home, compared, explained)
    size = path.stat().st_size / 1e6
    if options.json:
        print_json({"run": run.name, "report": str(path), "bytes": path.stat().st_size, "partial": found.partial})
        return
    print(f"{path}  {size:.1f} MB{'  partial: not all models are trained yet' if found.partial else ''}")


def _explained(found: Findings, dataset: Dataset, count: int) -> Explained:
    """Explain `count` targets by LIME, spread from the worst mean output to the best."""
    if found.fitted is None:
        raise InputError(f"--lime: run {found.run.name} has no weights yet, so its report shows no targets")
    limit_threads(TrainerSettings.load().threads)
    predictions = found.fitted.predictions
    targets = targets_to_show(found.run, None if predictions is None else predictions.outputs, count)
    with training() as counter:
        return dict(zip(targets, lime.explain(found.run, dataset, targets, counter=counter), strict=True))


def check_folder(output: str | None, option: str) -> None:
    """Raises SettingsError if the folder of the page does not exist, before anything is computed."""
    if output and not Path(output).parent.is_dir():
        raise SettingsError(f"{option} {output}: there is no folder {Path(output).parent}; create it first")


def write(
    found: Findings,
    output: str | None,
    home: Path,
    compared: baselines.Rows | None = None,
    explained: Explained | None = None,
) -> Path:
    """Write the page of a run, by default in a folder that is created. Raises SettingsError if it cannot be written."""
    path = Path(output) if output else home / "reports" / f"{found.run.name}.html"
    try:
        if not output:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page.html(found, compared=compared, explained=explained), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"the report {path}: cannot be written: {error.strerror}") from error
    return path


def _dataset(run: Run) -> Dataset | None:
    """Load the data set; print a warning and return None if that fails, since most of a report needs no data."""
    try:
        return runs.load_dataset(run.spec)
    except SpecError as error:
        print(f"datamodels: {error}; the report shows examples by number", file=sys.stderr)
        return None
