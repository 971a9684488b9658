"""`datamodels trainer check`: tries a learning algorithm out before a run is paid for."""

from __future__ import annotations

import argparse
import math

from datamodels import run as runs
from datamodels import spec
from datamodels.cli.plan import add_price, duration, money
from datamodels.plan import cost
from datamodels.settings import TrainerSettings
from datamodels.spec import RunSpec
from datamodels.train.check import Check
from datamodels.train.contract import load_trainer
from datamodels.train.device import limit_threads

TOLERANCE = 1e-3
"""Outputs are stored with a relative precision of about 5e-4."""
M = 10_000


def add_verb(verbs) -> None:
    """Adds `trainer check` to the command's verbs."""
    trainer = verbs.add_parser("trainer", help="try a learning algorithm out", description="Try a trainer out.")
    checks = trainer.add_subparsers(title="commands", metavar="COMMAND", required=True)
    what = "verify that a trainer keeps the contract, and measure its speed and noise"
    check = checks.add_parser("check", help=what, description=what[0].upper() + what[1:] + ".")
    check.add_argument("trainer", metavar="MODULE:CLASS", nargs="?", help="the class (default: that of the spec)")
    check.add_argument("--spec", metavar="SPEC", help="whose data set and options to use (default: the digits)")
    check.add_argument(
        "--tolerance",
        metavar="X",
        type=float,
        default=TOLERANCE,
        help=f"difference of outputs that counts as none, as a share of their spread (default: {TOLERANCE:g})",
    )
    check.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="about so long for the speed, and so long for the noise (default: 20)",
    )
    add_price(check)
    check.set_defaults(command=command)


def command(options: argparse.Namespace) -> None:
    """Prints one line for each finding. Raises SpecError with one line for each fault."""
    given = _spec(options)
    dataset = runs.load_dataset(given)
    run = runs.resolve(given, dataset)
    _say("trainer", given.trainer.cls)
    _say("data set", f"{len(dataset.y):,} training examples, of which {run.design.summary()}; {run.n:,} targets")
    trainer = load_trainer(given, dataset, dataset.targets(given.targets))
    limit_threads(TrainerSettings.load().threads)
    check = Check(run, trainer, tolerance=options.tolerance, say=_say)
    check.contract()
    pace = check.pace(options.seconds)
    _say(
        "speed",
        f"{duration(pace.each)} a model, {pace.batch} at once, in one process; first batch {duration(pace.first)}",
    )
    noise = check.noise(options.seconds, pace.each)
    ratio, (low, high) = noise.ratio, noise.interval
    known = (
        "infinite, for the seed changes nothing" if math.isinf(ratio) else f"{ratio:.2g}  (95% {low:.2g} to {high:.2g})"
    )
    _say("SNR", f"{known}, from {noise.subsets} subsets x {noise.seeds} seeds")
    estimate = cost.on_this_machine(given, cost.Speed(pace.each, pace.first))
    of = f"of m = {given.m:,} and {given.models - given.m:,} models to evaluate"
    _say("a run", f"{of}: {duration(estimate.wall)} in one process, {money(estimate, options)}")


def _say(what: str, text: str) -> None:
    print(f"{what:<11}{text}", flush=True)


def _spec(options: argparse.Namespace) -> RunSpec:
    if options.spec:
        given = spec.load(options.spec)
        if options.trainer in (None, given.trainer.cls):
            return given
        return spec.parse(given.document() | {"trainer": {"class": options.trainer}})
    return spec.parse(
        {
            "name": "check",
            "dataset": {"load": "datamodels.train.digits:load"},
            "trainer": {"class": options.trainer or "datamodels.train.mlp:MLP"},
            "m": M,
        }
    )
