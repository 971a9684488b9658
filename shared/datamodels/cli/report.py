"""`datamodels report`: what a run came to, as one HTML page. Needs no service."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from datamodels import run as runs
from datamodels.errors import SettingsError, SpecError
from datamodels.report import page, rivals
from datamodels.report.findings import Findings, gather
from datamodels.run import Run
from datamodels.train.data import Dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's name")
    parser.add_argument("--output", metavar="FILE", help="where to write it (default: HOME/reports/RUN.html)")
    parser.add_argument(
        "--compared", metavar="FILE", type=Path, help="what `datamodels compare RUN --json` printed, to show too"
    )


def command(options: argparse.Namespace) -> None:
    """Writes the page and prints where it is."""
    compared = options.compared and rivals.read(options.compared)
    store = options.store_of(options)
    run = runs.read(store, options.run)
    found = gather(store, run, _dataset(run))
    path = write(found, options.output, options.home, compared)
    size = path.stat().st_size / 1e6
    print(f"{path}  {size:.1f} MB{'  partial: the run still trains' if found.partial else ''}")


def write(found: Findings, output: str | None, home: Path, compared: rivals.Rows | None = None) -> Path:
    """Writes the page of a run. Raises SettingsError where it cannot be."""
    path = Path(output) if output else home / "reports" / f"{found.run.name}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page.html(found, compared), encoding="utf-8")
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
