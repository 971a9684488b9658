"""Run `datamodels report`: write the results of a run as one HTML page. It needs no service."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from datamodels.analyze.findings import Findings, gather
from datamodels.analyze.quality.unseen import targets_to_show
from datamodels.baselines import compare, lime
from datamodels.cli.common.output import print_json
from datamodels.cli.common.source import source_of
from datamodels.cli.common.store import in_cluster
from datamodels.cli.common.training import training
from datamodels.errors import InputError, SettingsError, SpecError
from datamodels.exchange import reports
from datamodels.explore.findings import Explained
from datamodels.fit.job.finished import read_newest_fit
from datamodels.report import page
from datamodels.run import runs
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.settings import TrainerSettings
from datamodels.storage import ObjectStore, keys
from datamodels.train.device import limit_threads


def report(options: argparse.Namespace) -> None:
    """Write the page and print its path and size."""
    check_folder(options.output, "--output")
    compared = options.compared and compare.read_documents(options.compared)
    with source_of(options) as store:
        run = runs.read(store, options.run).judged(options.threshold)
        if ready := _ready(options, store):
            _tell(options, run.name, save(ready, run.name, options.output, options.home), partial=False)
            return
        if options.lime:
            dataset = runs.load_dataset(run.spec)
            found = gather(store, run, dataset)
            explained = _explained(found, dataset, options.lime)
        else:
            found, explained = gather(store, run, _dataset(store, run)), None
        path = write(found, options.output, options.home, compared, explained)
    _tell(options, run.name, path, found.partial)


def _ready(options: argparse.Namespace, store: ObjectStore) -> str | None:
    """Return the report that the driver of a run on a cluster has stored; None if there is none, or another is wanted.

    It is not made again through a query service: that would read all weights, and may lack the data set.
    """
    if (
        not (options.address or in_cluster(options))
        or options.compared
        or options.lime
        or options.threshold is not None
    ):
        return None
    newest = read_newest_fit(store, options.run)
    return None if newest is None else reports.kept(store, options.run, newest.number)


def _tell(options: argparse.Namespace, run: str, path: Path, partial: bool) -> None:
    size = path.stat().st_size
    if options.json:
        print_json({"run": run, "report": str(path), "bytes": size, "partial": partial})
        return
    print(f"{path}  {size / 1e6:.1f} MB{'  partial: not all models are trained yet' if partial else ''}")


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
    compared: list[compare.Document] | None = None,
    explained: Explained | None = None,
) -> Path:
    """Make the page of a run, and save it. Raises SettingsError if it cannot be written."""
    return save(page.html(found, compared=compared, explained=explained), found.run.name, output, home)


def save(html: str, run: str, output: str | None, home: Path) -> Path:
    """Write a page, by default in a folder that is created. Raises SettingsError if it cannot be written."""
    path = Path(output) if output else home / "reports" / f"{run}.html"
    try:
        if not output:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"the report {path}: cannot be written: {error.strerror}") from error
    return path


def _dataset(store: ObjectStore, run: Run) -> Dataset | None:
    """Load the data set; print a warning and return None if that fails, since most of a report needs no data."""
    try:
        return runs.load_dataset(run.spec)
    except SpecError as error:
        stored = store.exists(keys.display(run.name))
        how = "compares no inputs to find leaks" if stored else "shows examples by number"
        print(f"datamodels: {error}; the report {how}", file=sys.stderr)
        return None
