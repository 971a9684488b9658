"""Run `datamodels trainer check`: try a trainer before a run is paid for."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

from datamodels import words
from datamodels.analyze.quality.verdict import of_snr
from datamodels.cli.common.output import print_json
from datamodels.cli.common.spec import given_spec
from datamodels.cli.common.spending import duration, money
from datamodels.fit.data import examples
from datamodels.fit.job import gradients
from datamodels.plan import cost
from datamodels.run import runs, specs, spellings
from datamodels.run.runs import Run
from datamodels.run.specs import RunSpec
from datamodels.settings import TrainerSettings
from datamodels.train.check import Check
from datamodels.train.contract import load_trainer, resolve
from datamodels.train.device import limit_threads
from datamodels.train.gradients import offered

M = 10_000
"""m of the run whose time is estimated, if no spec is given."""


def check(options: argparse.Namespace) -> None:
    """Print one line for each finding. Raises SpecError with one line for each fault."""
    said: dict[str, str] = {}

    def say(what: str, text: str) -> None:
        said[what.lower().replace(" ", "_")] = text
        if not options.json:
            print(f"{what:<11}{text}", flush=True)

    given = given_spec(_spec(options))
    dataset = runs.load_dataset(given)
    run = resolve(given, dataset)
    say("trainer", given.trainer.cls)
    say("data set", f"{words.count(len(dataset.y), 'training example')}, {words.count(run.n, 'target')}")
    say("subsets", run.design.summary())
    say("output", run.meaning)
    if doubts := dataset.doubts(given.targets):
        say("doubts", "; ".join(doubts))
    trainer = load_trainer(given, dataset, dataset.targets(given.targets))
    limit_threads(TrainerSettings.load().threads)
    checked = Check(run, trainer, tolerance=options.tolerance, say=say)
    checked.contract()
    pace = checked.pace(options.seconds)
    say(
        "speed",
        f"{duration(pace.each)} per model, {pace.models_at_once} at once, in one process; "
        f"first batch {duration(pace.first)}",
    )
    checked.at_once(options.seconds)
    noise, adds = checked.noise(options.seconds, pace.each)
    ratio, (low, high) = noise.ratio, noise.interval
    known = "infinite: the seed changes nothing" if math.isinf(ratio) else f"{ratio:.2g}  (95% {low:.2g} to {high:.2g})"
    say("SNR", f"{known}, from {noise.subsets} subsets x {noise.seeds} seeds")
    least, most = adds.interval
    say(
        "additive", f"effects of single examples make {adds.share:.2g} (95% {least:.2g} to {most:.2g}) of that variance"
    )
    free = int(np.count_nonzero(run.design.stratum >= 0))
    verdict = of_snr(noise, free, given.m, adds, _prior(run, trainer))
    say("verdict", str(verdict))
    estimate = cost.on_this_machine(given, cost.Speed(pace.each, pace.first))
    of = f"{given.models:,} models, {given.models - given.m:,} of them to evaluate, take {duration(estimate.wall)}"
    say("run", f"{of} in one process, {money(estimate, options)}")
    if options.json:
        price = {} if options.price is None else {"cost": estimate.cost(options.price, options.spot_discount)}
        print_json(
            {
                "trainer": given.trainer.cls,
                "examples": len(dataset.y),
                "targets": run.n,
                "output": run.output.document(),
                "output_declared": run.declared is not None,
                "seconds_per_model": pace.each,
                "models_at_once": pace.models_at_once,
                "first_batch_seconds": pace.first,
                "snr": {"ratio": ratio, "interval": noise.interval, "subsets": noise.subsets, "seeds": noise.seeds},
                "additive": {"share": adds.share, "interval": adds.interval},
                "verdict": verdict,
                "run": {"models": given.models, "seconds": estimate.wall, "device_hours": estimate.hours} | price,
                "findings": said,
            }
        )


def _prior(run: Run, trainer: Any) -> str:
    """Say what the fit of a run expects weights from, besides outputs; empty if nothing."""
    sources = (
        ("inputs", examples.needed(run)),
        ("gradients", gradients.wanted(run) > 0 and offered(trainer) is not None),
    )
    return " and ".join(name for name, used in sources if used)


def _spec(options: argparse.Namespace) -> RunSpec:
    if options.spec:
        given = specs.load(options.spec)
        if options.trainer is None or spellings.today(options.trainer) == given.trainer.cls:
            return given
        return specs.parse(given.request() | {"trainer": {"class": options.trainer}})
    return specs.parse(
        {
            "name": "check",
            "dataset": {"load": "datamodels.train.workloads.digits:load"},
            "trainer": {"class": options.trainer or "datamodels.train.workloads.mlp:MLP"},
            "m": M,
        }
    )
