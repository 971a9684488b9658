"""`datamodels report`: what a run came to, as one HTML page. Needs no service."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from datamodels import run as runs
from datamodels.analyze.findings import Findings, gather
from datamodels.analyze.quality import showcase
from datamodels.errors import InputError, SettingsError, SpecError
from datamodels.report import page, rivals
from datamodels.report.explorer import Explained
from datamodels.rivals import compare, lime
from datamodels.run import Run
from datamodels.settings import TrainerSettings
from datamodels.train.data import Dataset
from datamodels.train.device import limit_threads


def add_arguments(parser: argparse.ArgumentParser, positive: Callable[[str], int]) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's name")
    parser.add_argument("--output", metavar="FILE", help="where to write it (default: HOME/reports/RUN.html)")
    parser.add_argument(
        "--compared", metavar="FILE", type=Path, help="what `datamodels compare RUN --json` printed, to show too"
    )
    parser.add_argument(
        "--lime",
        metavar="N",
        type=positive,
        default=0,
        help=f"explain N targets by their pixels or features too: trains {lime.MODELS} models (default: none)",
    )


def command(options: argparse.Namespace) -> None:
    """Writes the page and prints where it is."""
    compared = options.compared and compare.read_documents(options.compared)
    store = options.store_of(options)
    run = runs.read(store, options.run)
    found = gather(store, run, runs.load_dataset(run.spec) if options.lime else _dataset(run))
    explained = _explained(found, options.lime) if options.lime else None
    path = write(found, options.output, options.home, compared, explained)
    size = path.stat().st_size / 1e6
    print(f"{path}  {size:.1f} MB{'  partial: the run still trains' if found.partial else ''}")


def _explained(found: Findings, count: int) -> Explained:
    """Explain a few targets by LIME, from the lowest mean output to the highest."""
    if found.fitted is None:
        raise InputError(f"--lime: run {found.run.name} has no fit yet, so that its report shows no targets")
    limit_threads(TrainerSettings.load().threads)
    predictions = found.fitted.predictions
    targets = showcase(None if predictions is None else predictions.outputs, found.run.n, count)
    return dict(zip(targets, lime.explain(found.run, found.dataset, targets), strict=True))


def write(
    found: Findings,
    output: str | None,
    home: Path,
    compared: rivals.Rows | None = None,
    explained: Explained | None = None,
) -> Path:
    """Write the page of a run. Raises SettingsError if it cannot be written."""
    path = Path(output) if output else home / "reports" / f"{found.run.name}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page.html(found, compared=compared, explained=explained), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"the report {path}: cannot be written: {error.strerror}") from error
    return path


def _dataset(run: Run) -> Dataset | None:
    """None where it cannot be loaded: much of a report needs none."""
    try:
        return runs.load_dataset(run.spec)
    except SpecError as error:
        print(f"datamodels: {error}; the report shows examples by number", file=sys.stderr)
        return None
