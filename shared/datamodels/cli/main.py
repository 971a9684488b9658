"""The command `datamodels`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from datamodels import pipeline, spec
from datamodels.analyze.curve import of_newest_fit
from datamodels.analyze.findings import gather
from datamodels.cli import (
    analyze,
    ask,
    check,
    cluster,
    compare,
    curve,
    drive,
    evaluate,
    groups,
    lime,
    plan,
    report,
    review,
    status,
)
from datamodels.errors import DatamodelsError, ExitCode
from datamodels.report import summary
from datamodels.runners.local import LocalRunner
from datamodels.settings import ClientSettings, StoreSettings, TelemetrySettings
from datamodels.storage import ObjectStore, open_store
from datamodels.view import TerminalView, View

DESCRIPTION = "Which training examples made the model say this?"
EPILOG = """\
the road:  sample -> train -> aggregate -> fit -> query
  datamodels run SPEC         takes it whole, on this machine, and writes a report
  datamodels train SPEC       takes it up to and including a stage; likewise the other stages
  datamodels submit SPEC      takes it whole on a Kubernetes cluster; then status -n, logs, cancel, list
Taken again, each goes on from what was committed.

before:
  datamodels trainer check C  does a trainer keep the contract, how fast is it, how noisy
  datamodels plan SPEC        what a run takes, in hours and money

afterwards:
  datamodels status           what runs there are
  datamodels report RUN       write what it came to as one HTML page
  datamodels evaluate RUN     how well predictions of unseen subsets hold
  datamodels curve RUN        how good fits of fewer models are, and what more would bring
  datamodels compare RUN      the same questions asked of other methods, and checked by training
  datamodels lime RUN 17      which pixels or features of target 17, not which examples, made models say this
  datamodels review RUN       which examples help or harm overall, seem mislabelled or leaked; which targets are brittle
  datamodels leakage RUN      test examples that are in the training pool, or nearly
  datamodels query top RUN 17 which examples help and harm target 17 most
  datamodels query --help     what else can be asked
  datamodels clusters RUN     which targets rest on the same examples; also components, conflicts
  datamodels support RUN 17   without which examples models get target 17 wrong; --verify 20 checks it by training,
                              --mislabel asks which labels to change instead
  datamodels counterfactual RUN 17 --remove 3,5-9
                              what models would say of target 17 without these

with DATAMODELS_LOG_LEVEL=debug an error comes with its traceback
exit codes: 0 done, 1 failed, 2 what was asked for cannot be done, 75 try again, 130 and 143 stopped
"""
TRAINERS = min(8, os.cpu_count() or 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code of its process."""
    signal.signal(signal.SIGTERM, _terminate)
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except DatamodelsError as error:
        if TelemetrySettings.load().level == "debug":
            traceback.print_exc()
        for line in str(error).splitlines():
            print(f"datamodels: {line}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print("datamodels: stopped; what is committed is kept, the same command goes on from it", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain again when it flushes at exit.
        sys.stdout = None
    return int(ExitCode.DONE)


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(int(ExitCode.TERMINATED))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="datamodels",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = _verb(verbs, "run", "take the whole road and write a report", _run)
    _add_road(run)
    run.add_argument("--report", metavar="FILE", help="where to write it (default: HOME/reports/RUN.html)")
    run.add_argument("--curve", action="store_true", help="measure the learning curve too, by six fits, for the report")
    for stage, what in _STAGES.items():
        verb = _verb(verbs, stage, what, _stage)
        _add_road(verb)
        verb.set_defaults(until=stage)
    plan.add_verb(verbs, _positive, TRAINERS)
    check.add_verb(verbs)
    shown = _verb(verbs, "status", "show what runs there are, or one of them; with -n, on a cluster", _status)
    _add_home(shown)
    cluster.add_place(shown)
    shown.add_argument("run", metavar="RUN", nargs="?", help="the run's name; all runs by default")
    shown.add_argument("--verify", action="store_true", help="read everything and check it against its sha256")
    shown.set_defaults(store_of=_store)
    cluster.add_verbs(functools.partial(_verb, verbs))
    _verb(verbs, "drive", "take the road as the pod of a driver does, by Kubernetes Jobs", drive.command)
    learned = _verb(verbs, "curve", "show LDS by number of models, and what more models would bring", curve.command)
    _add_home(learned)
    curve.add_arguments(learned)
    learned.set_defaults(store_of=_store)
    judged = _verb(verbs, "evaluate", "show how well predictions of unseen subsets hold", evaluate.command)
    _add_home(judged)
    evaluate.add_arguments(judged, _query)
    written = _verb(verbs, "report", "write what a run came to as one HTML page", report.command)
    _add_home(written)
    report.add_arguments(written, _positive)
    written.set_defaults(store_of=_store)
    compared = _verb(verbs, "compare", "set the datamodels beside other methods, and check all alike", compare.command)
    _add_home(compared)
    compare.add_arguments(compared, _positive)
    compared.set_defaults(store_of=_store)
    taken_apart = _verb(verbs, "lime", "show which pixels or features of a target made models say this", lime.command)
    _add_home(taken_apart)
    lime.add_arguments(taken_apart, _positive)
    taken_apart.set_defaults(store_of=_store)
    groups.add_verbs(verbs, _add_home, _query)
    analyze.add_verbs(verbs, _add_home, _query)
    review.add_verbs(verbs, _add_home, _store)
    query = verbs.add_parser("query", help="ask for weights and predictions", description="Ask a run's newest fit.")
    ask.add_verbs(query, _add_home, _query)
    return parser


_STAGES = {
    "sample": "create the run and describe its subsets",
    "train": "go on to train the models and commit their outputs",
    "aggregate": "go on to write the manifest that lists the committed outputs",
    "fit": "go on to fit a linear model to each target",
}


def _verb(verbs, name: str, what: str, command) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
    verb.set_defaults(command=command)
    return verb


def _add_home(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--home", metavar="DIR", type=Path, default=Path(".datamodels"), help="working folder (default: .datamodels)"
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        help="file://FOLDER or s3://BUCKET/PREFIX (default: DATAMODELS_STORE_URL, or HOME/store)",
    )


def _add_road(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", help="YAML file, e.g. deploy/specs/digits.yaml")
    _add_home(parser)
    parser.add_argument(
        "--trainers",
        metavar="N",
        type=_positive,
        default=TRAINERS,
        help=f"trainer processes at once, each of one thread (default: {TRAINERS}, one for each core up to 8)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number of at least 1")
    return int(text)


def _store_settings(options: argparse.Namespace) -> StoreSettings:
    settings = StoreSettings.load()
    if options.store:
        return dataclasses.replace(settings, url=options.store)
    if settings.url == StoreSettings.url:
        return dataclasses.replace(settings, url=f"file://{options.home.absolute() / 'store'}")
    return settings


def _store(options: argparse.Namespace) -> ObjectStore:
    return open_store(_store_settings(options))


def _runner(options: argparse.Namespace) -> LocalRunner:
    return LocalRunner(options.home, store=_store_settings(options), trainers=getattr(options, "trainers", 1))


def _travel(options: argparse.Namespace, until: str) -> pipeline.Journey:
    return pipeline.travel(
        spec.load(options.spec),
        runner=_runner(options),
        store=_store(options),
        view=View() if options.quiet else TerminalView(),
        until=until,
    )


def _run(options: argparse.Namespace) -> None:
    journey = _travel(options, until="query")
    if options.curve:
        of_newest_fit(_store(options), journey.run)
    found = gather(_store(options), journey.run, journey.dataset, journey.seconds)
    path = report.write(found, options.report, options.home)
    print(summary.text(journey))
    print(f"\nreport     {path}")


def _status(options: argparse.Namespace) -> None:
    on_a_cluster = options.namespace or options.context or options.kubeconfig
    (cluster if on_a_cluster else status).status(options)


def _stage(options: argparse.Namespace) -> None:
    journey = _travel(options, until=options.until)
    print(journey.run.design.summary() if options.until == "sample" else summary.text(journey))


@contextlib.contextmanager
def _query(options: argparse.Namespace) -> Iterator[ClientSettings]:
    """Where the query service is: the one named by --address or the settings, else one for this question alone."""
    settings = ClientSettings.load()
    if options.address or settings.query:
        yield dataclasses.replace(settings, query=options.address or settings.query)
        return
    with _runner(options).services(["query"]) as addresses:
        yield addresses
