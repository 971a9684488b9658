"""Compare the training time that `datamodels plan` estimates with the time that training then takes, in one run.

    python benchmarks/train/cost.py [--quick] [--trainers 2] [--rounds 3] [SPEC ...]

Each round plans, trains into an empty folder, and plans again. The two plans are averaged, because the speed of a
shared machine drifts. A ratio of 1 is a perfect plan; the aim is 0.85 to 1.15 for the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from datamodels.cli.common.spec import load_spec
from datamodels.plan import cost, trial
from datamodels.run import runs, specs
from datamodels.run.specs import RunSpec
from datamodels.runners import pipeline
from datamodels.runners.local import LocalRunner
from datamodels.runners.view import View
from datamodels.settings import StoreSettings
from datamodels.storage import open_store

SPECS = ("breast-cancer", "digits")


def planned(spec: RunSpec, trainers: int) -> float:
    dataset = runs.load_dataset(spec)
    run = runs.resolve(spec, dataset)
    speed = trial.measure(run, dataset, trainers=min(trainers, spec.chunks), seconds=10.0)
    return cost.on_this_machine(spec, speed).wall


def taken(spec: RunSpec, trainers: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        store = StoreSettings(url=f"file://{folder}/store")
        runner = LocalRunner(Path(folder), store=store, trainers=trainers)
        result = pipeline.run(spec, runner=runner, store=open_store(store), view=View(), until="train")
    return result.seconds["train"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", metavar="SPEC", nargs="*", default=SPECS)
    parser.add_argument("--quick", action="store_true", help="one round, and a quarter of the models")
    parser.add_argument("--trainers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'run':<28}{'before':>9}{'after':>9}{'taken':>9}{'planned/taken':>15}", flush=True)
    for path in options.specs:
        spec = load_spec(path)
        if options.quick:
            spec = specs.parse(spec.document() | {"m": max(10, spec.m // 4)})
        ratios = []
        for _ in range(1 if options.quick else options.rounds):
            before = planned(spec, options.trainers)
            seconds = taken(spec, options.trainers)
            after = planned(spec, options.trainers)
            ratios.append((before + after) / 2 / seconds)
            print(f"{spec.run:<28}{before:>9.1f}{after:>9.1f}{seconds:>9.1f}{ratios[-1]:>15.2f}", flush=True)
        print(f"{spec.run:<28}{'median':>27}{statistics.median(ratios):>15.2f}", flush=True)


if __name__ == "__main__":
    main()
