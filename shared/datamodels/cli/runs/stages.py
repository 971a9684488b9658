"""Run `datamodels run`, and the commands that stop after a stage: the pipeline on this machine."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from datamodels.analyze.findings import gather
from datamodels.analyze.quality.curve import of_newest_fit
from datamodels.cli.analyses import report
from datamodels.cli.common.output import print_json, quality
from datamodels.cli.common.spec import load_spec
from datamodels.cli.common.store import store_of, store_settings
from datamodels.cli.runs import refit
from datamodels.report import summary
from datamodels.run import runs
from datamodels.run.runs import Run
from datamodels.runners import pipeline
from datamodels.runners.local import LocalRunner
from datamodels.runners.view import view
from datamodels.settings import TelemetrySettings
from datamodels.telemetry import tracing
from datamodels.v1 import query_pb2


def run(options: argparse.Namespace) -> None:
    """Run the whole pipeline, write the report and print a summary."""
    report.check_folder(options.report, "--report")
    result = _run_until(options, "query")
    if options.curve:
        of_newest_fit(store_of(options), result.run)
    found = gather(store_of(options), result.run, result.dataset)
    path = report.write(found, options.report, options.home)
    if options.json:
        print_json(document(result) | {"report": str(path)})
        return
    print(summary.text(result))
    print(f"\nreport     {path}")


def stage(options: argparse.Namespace) -> None:
    """Run the pipeline up to and including a stage, and print its result."""
    if options.until == "fit" and refit.is_stored(options.spec):
        refit.refit(options)
        return
    result = _run_until(options, options.until)
    if options.json:
        print_json(document(result))
        return
    print(result.run.design.summary() if options.until == "sample" else summary.text(result))


def document(result: pipeline.Result) -> dict[str, Any]:
    """Return the result of a pipeline as JSON values; fields of stages that did not run are None or empty."""
    run = result.run
    found = {
        "run": run.name,
        "subsets": run.design.summary(),
        "columns": run.design.columns,
        "targets": run.n,
        "output": run.output.document(),
        "output_declared": run.declared is not None,
        "models": {"of": run.spec.models}
        | {name: getattr(result, name) for name in ("trained", "committed", "failed")},
        "stopped": None if result.stopped is None else str(result.stopped),
        "fit": result.fit,
        "statuses": dict(result.statuses),
        "lds": None,
        "verdict": None,
        "seconds": result.seconds,
        "influences": [_influences(run, answer) for answer in result.influences],
    }
    if result.evaluation is not None and result.verdict is not None:
        found |= quality(result.evaluation, result.verdict)
    return found


def _influences(run: Run, answer: query_pb2.TopInfluencesResponse) -> dict[str, Any]:
    found: dict[str, Any] = {"target": answer.target.target, "label": run.label_name(answer.target.label) or None}
    for effect, listed in zip(run.predicted.effects, (answer.helpful, answer.harmful), strict=True):
        found[effect] = [
            {"column": i.column, "label": run.label_name(i.label) or None, "weight": i.weight}
            | ({"measured": i.measured} if i.HasField("measured") else {})
            for i in listed
        ]
    return found


def _run_until(options: argparse.Namespace, until: str) -> pipeline.Result:
    given = load_spec(options.spec)
    tracing.configure(TelemetrySettings.load(), "driver")
    store = store_of(options, create=True)
    spec = runs.continued(store, given)
    if spec.run != given.run and not options.quiet:
        print(f"continues run {spec.run}, created when evaluate.models was 20 by default", file=sys.stderr)
    if spec.fit.estimator != given.fit.estimator and not (options.quiet or options.settings):
        print(
            f"run {spec.run} keeps the estimator {spec.fit.estimator}, which was the default when it was created; "
            f"`datamodels fit {spec.run} --fit estimator={given.fit.estimator}` fits it by today's",
            file=sys.stderr,
        )
    if options.settings:
        spec = spec.with_fit(refit.changed(spec.fit, options.settings).model_dump(mode="json"))
    return pipeline.run(
        spec,
        runner=LocalRunner(options.home, store=store_settings(options), trainers=options.trainers),
        store=store,
        view=view(quiet=options.quiet),
        until=until,
    )
