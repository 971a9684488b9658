"""Run `datamodels run`, and the commands that stop after a stage: the pipeline on this machine."""

from __future__ import annotations

import argparse
import sys

from datamodels.analyze.findings import gather
from datamodels.analyze.quality.curve import of_newest_fit
from datamodels.cli.analyses import report
from datamodels.cli.common.store import store_of, store_settings
from datamodels.report import summary
from datamodels.run import runs, specs
from datamodels.runners import pipeline
from datamodels.runners.local import LocalRunner
from datamodels.runners.view import TerminalView, View


def run(options: argparse.Namespace) -> None:
    """Run the whole pipeline, write the report and print a summary."""
    report.check_folder(options.report, "--report")
    result = _run_until(options, "query")
    if options.curve:
        of_newest_fit(store_of(options), result.run)
    found = gather(store_of(options), result.run, result.dataset, result.seconds)
    path = report.write(found, options.report, options.home)
    print(summary.text(result))
    print(f"\nreport     {path}")


def stage(options: argparse.Namespace) -> None:
    """Run the pipeline up to and including a stage, and print its result."""
    result = _run_until(options, options.until)
    print(result.run.design.summary() if options.until == "sample" else summary.text(result))


def _run_until(options: argparse.Namespace, until: str) -> pipeline.Result:
    given = specs.load(options.spec)
    store = store_of(options, create=True)
    spec = runs.continued(store, given)
    if spec is not given and not options.quiet:
        print(f"continues run {spec.run}, created when evaluate.models was 20 by default", file=sys.stderr)
    return pipeline.run(
        spec,
        runner=LocalRunner(options.home, store=store_settings(options), trainers=options.trainers),
        store=store,
        view=View() if options.quiet else TerminalView(),
        until=until,
    )
