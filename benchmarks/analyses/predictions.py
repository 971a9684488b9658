"""Compare predictions of the analyses on the digits with models that are trained to check them.

    python benchmarks/analyses/predictions.py [--spec digits] [--home FOLDER] [--targets 120] [--models 20]

Runs the pipeline if the folder does not have the run, then trains `models` models on each set of examples that a figure
is about. Targets are spread evenly over the test examples.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from datamodels.aggregate import manifest
from datamodels.analyze.quality import interval, noise
from datamodels.analyze.quality.noise import Noise
from datamodels.analyze.what_if import pool
from datamodels.analyze.what_if.counterfactual import counterfactual
from datamodels.analyze.what_if.relabel import relabelling
from datamodels.analyze.what_if.retrain import Retrainer, measure, measure_relabelled
from datamodels.analyze.what_if.support import FOUND, support
from datamodels.cli.common.spec import load_spec
from datamodels.fit.data.problem import Solution
from datamodels.fit.job import fits
from datamodels.run.specs import RunSpec
from datamodels.runners import pipeline
from datamodels.runners.local import LocalRunner
from datamodels.runners.pipeline import Result
from datamodels.runners.view import TerminalView
from datamodels.settings import StoreSettings
from datamodels.storage import ObjectStore, open_store
from datamodels.train.device import limit_threads

SIZES = (10, 20, 40, 80)
"""Training examples removed."""


def take(spec: RunSpec, home: Path, trainers: int) -> tuple[Result, ObjectStore]:
    """Run a spec with the paper's estimator, the LASSO."""
    spec = spec.with_fit(spec.fit.model_dump(mode="json") | {"estimator": "lasso"})
    settings = dataclasses.replace(StoreSettings(), url=f"file://{home.absolute() / 'store'}")
    store = open_store(settings)
    runner = LocalRunner(home, store=settings, trainers=trainers)
    return pipeline.run(spec, runner=runner, store=store, view=TerminalView(), until="fit"), store


@dataclasses.dataclass(frozen=True)
class Checks:
    result: Result
    solution: Solution
    noise: Noise
    rows: int
    retrainer: Retrainer
    targets: np.ndarray

    def counterfactuals(self) -> Iterator[tuple[str, float, float, float]]:
        """Compare predicted and true changes of outputs if the most helpful examples of each target are removed.

        Yields (number removed, correlation, slope, share of 95% intervals that cover the change), then the same over
        all numbers.
        """
        changes = self.changes()
        for k, *found in zip(SIZES, changes.predicted, changes.true, changes.inside, strict=True):
            yield str(k), *agreement(found[0], found[1]), float(found[2].mean())
        yield "all", *agreement(changes.predicted, changes.true), float(changes.inside.mean())

    def changes(self) -> Changes:
        """Measure what `counterfactuals` compares."""
        run, base = self.result.run, pool.whole(self.result.run)
        (whole,) = self.retrainer.outputs([base])
        predicted, true = np.zeros((2, len(SIZES), len(self.targets)))
        inside = np.zeros(predicted.shape, dtype=bool)
        for place in np.ndindex(predicted.shape):
            k, target = SIZES[place[0]], int(self.targets[place[1]])
            remove = self._helpful(target, k)
            found = counterfactual(
                run,
                self.solution,
                self.noise,
                self.rows,
                targets=np.array([target]),
                base=base,
                remove=remove,
                add=pool.NO_COLUMNS,
            )
            (outputs,) = self.retrainer.outputs([base & ~pool.members_of(run, remove, "remove")])
            change = outputs[:, target] - whole[:, target]
            error = float(np.std(change, ddof=1)) / len(change) ** 0.5
            predicted[place], true[place] = float(found.change[0]), float(change.mean())
            half = interval.Z * float(np.hypot(found.change_error[0], error))
            inside[place] = abs(predicted[place] - true[place]) <= half
        return Changes(predicted, true, inside)

    def whole(self) -> tuple[float, float]:
        """Return the mean output of models of the whole pool: predicted, true."""
        (whole,) = self.retrainer.outputs([pool.whole(self.result.run)])
        at_whole = self.solution.intercept + self.solution.dense(range(self.solution.n)).sum(axis=1)
        return float(at_whole.mean()), float(np.nanmean(whole))

    def _helpful(self, target: int, k: int) -> np.ndarray:
        columns, weights = self.solution.row(target)
        return columns[np.argsort(-weights, kind="stable")[: min(k, np.count_nonzero(weights > 0))]]

    def supports(self, safeties: Sequence[float]) -> Iterator[Supports]:
        """Find supports for each margin of safety, and measure how many of them flip the mean output of models."""
        run, base = self.result.run, pool.whole(self.result.run)
        for safety in safeties:
            supports = [support(run, self.solution, target, safety=safety) for target in self.targets.tolist()]
            found = [s for s in supports if s.status == FOUND]
            sets = [(s.target, base & ~pool.members_of(run, s.columns, "support")) for s in found]
            measured = measure(self.retrainer, run, sets)
            yield Supports(
                safety=safety,
                targets=len(supports),
                found=len(found),
                median=float(np.median([len(s.columns) for s in found])),
                flips=sum(m.mean < 0 for m in measured),
                models=float(np.mean([m.share for m in measured])),
            )

    def relabellings(self) -> Supports:
        """Do the same with mislabel supports: labels are changed, and no examples removed."""
        run = self.result.run
        asked = [relabelling(run, self.solution, target) for target in self.targets.tolist()]
        found = [r for r in asked if r.support.status == FOUND]
        measured = [
            measure_relabelled(self.retrainer, run, r.support.target, r.support.columns, r.label) for r in found
        ]
        return Supports(
            safety=0.0,
            targets=len(asked),
            found=len(found),
            median=float(np.median([len(r.support.columns) for r in found])),
            flips=sum(m.mean < 0 for m in measured),
            models=float(np.mean([m.share for m in measured])),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Changes:
    """Changes of outputs if the most helpful examples are removed, [number removed, target].

    predicted, true  float64
    inside           bool; whether the 95% interval of the difference covers 0
    """

    predicted: np.ndarray
    true: np.ndarray
    inside: np.ndarray


@dataclasses.dataclass(frozen=True)
class Supports:
    """How many supports were found, and how many of them flip.

    safety   margin below 0 that predictions must reach
    targets  number of targets
    found    number of targets with a support
    median   median size of the supports
    flips    number of supports that flip the mean output
    models   mean fraction of models that a support flips
    """

    safety: float
    targets: int
    found: int
    median: float
    flips: int
    models: float


def agreement(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Return (correlation, slope) of changes of one shape."""
    predicted, true = predicted.ravel(), true.ravel()
    return float(np.corrcoef(predicted, true)[0, 1]), float(np.polyfit(predicted, true, 1)[0])


def make_checks(result: Result, store: ObjectStore, targets: int, models: int) -> Checks:
    """Prepare the checks of the newest fit of a run."""
    limit_threads(1)
    record = fits.read_newest_fit(store, result.run.name)
    retrainer = Retrainer(result.run, result.dataset, models)
    return checks_of(result, store, fits.load(store, record), record.rows, retrainer, targets)


def checks_of(
    result: Result, store: ObjectStore, solution: Solution, rows: int, retrainer: Retrainer, targets: int
) -> Checks:
    """Prepare the checks of a fit to `rows` models."""
    run = result.run
    known = noise.measure(run, manifest.read_newest(store, run.name), store, solution)
    chosen = np.unique(np.linspace(0, run.n - 1, targets).astype(int))
    return Checks(result, solution, known, rows, retrainer, chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", default="digits")
    parser.add_argument("--home", type=Path, default=Path(".datamodels"))
    parser.add_argument("--trainers", type=int, default=2)
    parser.add_argument("--targets", type=int, default=120)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="12 targets, 4 models")
    options = parser.parse_args()
    targets, models = (12, 4) if options.quick else (options.targets, options.models)
    result, store = take(load_spec(options.spec), options.home, options.trainers)
    checks = make_checks(result, store, targets, models)
    print(f"{len(checks.targets)} targets, {models} models on each set\n")
    print(f"{'removed':>8}{'r':>8}{'slope':>8}{'in the 95% interval':>22}")
    for name, r, slope, inside in checks.counterfactuals():
        print(f"{name:>8}{r:>8.3f}{slope:>8.2f}{inside:>22.2f}", flush=True)
    predicted, true = checks.whole()
    print(f"mean output of models of the whole pool: predicted {predicted:.2f}, true {true:.2f}\n")
    print(f"{'safety':>8}{'found':>8}{'median size':>13}{'mean output flips':>26}{'models that flip':>18}")
    for row in checks.supports((0.0, 0.5, 1.0)):
        print(_line(f"{row.safety:.1f}", row), flush=True)
    print(_line("labels", checks.relabellings()))


def _line(name: str, row: Supports) -> str:
    low, high = interval.share(row.flips, row.found)
    return (
        f"{name:>8}{row.found / row.targets:>8.2f}{row.median:>13.0f}"
        f"{f'{row.flips / row.found:.2f} ({low:.2f} to {high:.2f})':>26}{row.models:>18.2f}"
    )


if __name__ == "__main__":
    main()
