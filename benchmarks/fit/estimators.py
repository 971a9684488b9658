"""Compare the LDS of the estimators by number of models, on real models.

    python benchmarks/fit/estimators.py [--jobs digits,trees,...] [--home FOLDER] [--models 100,500] [--all] [--quick]

Trains the models of each job if the folder does not have them. Then fits each estimator to the first models, for each
of the numbers, and evaluates its predictions of the unseen subsets, with a 95% interval (see `quality.evaluate`). No
fit and no choice uses the unseen subsets.

- `equals` is how many models the estimator `lasso` needs for the same LDS, interpolated between its own points on a
  logarithmic scale; `>` if it needs more than the largest number, `<` if fewer than the smallest. `saves` is the
  fraction of the models that this is fewer; negative if the estimator needs more.
- `prior` sees no gradients. `gradients` is `prior` with those of 20 of the run's models, for trainers that offer them;
  their CPU time is on a line of its own, since they are computed once for a run.
- `shuffled` is `prior` with the targets and columns of its features in random order: a prior that says nothing.
  `no gradients` is `gradients` with those of its scores by gradients alone in random order.
- CPU s are seconds of the fit, all threads together; `ratio` is over those of `lasso`. The features are part of it.
- The last column is what cross-validation chose.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import threadpoolctl

from datamodels.aggregate import manifest
from datamodels.analyze.quality.unseen import Unseen
from datamodels.fit.data import examples, problem, shards
from datamodels.fit.data.problem import Problem
from datamodels.fit.estimators.base import prior_of
from datamodels.fit.job import gradients as stored
from datamodels.fit.pairs.gradients import GradientScores
from datamodels.fit.pairs.pairs import Pairs
from datamodels.fit.solve import fit
from datamodels.run import runs, specs, trust
from datamodels.run.runs import Run
from datamodels.runners import gradients, pipeline
from datamodels.runners.local import LocalRunner
from datamodels.runners.view import TerminalView
from datamodels.settings import StoreSettings
from datamodels.storage import ObjectStore, open_store

TREES = {
    "class": "datamodels.train.workloads.tabular:Tabular",
    "options": {
        "estimator": "sklearn.ensemble:ExtraTreesClassifier",
        "params": {"n_estimators": 12, "max_features": 8, "min_samples_leaf": 2},
    },
}
MORE = {"m": 2000, "evaluate": {"subsets": 100, "models": 2}}
SMALL = {"m": 1000, "chunk": 100, "sub_chunk": 20, "evaluate": {"subsets": 100, "models": 4}}
JOBS = {
    "digits": ("digits", {}, (100, 250, 500, 1000, 2000, 5000, 10_000)),
    "trees": (
        "digits",
        SMALL | {"name": "trees", "trainer": TREES},
        (100, 300, 1000),
    ),
    "breast-cancer": ("breast-cancer", MORE, (50, 100, 250, 500, 1000, 2000)),
    "diabetes": ("diabetes", MORE, (50, 100, 250, 500, 1000, 2000)),
    "text": ("text", MORE, (50, 100, 250, 500, 1000, 2000)),
    "cnn": (
        "cnn",
        {"m": 1000, "sub_chunk": 20, "evaluate": {"subsets": 50, "models": 2}},
        (50, 100, 250, 500, 1000),
    ),
}
"""Example, changes of its spec, and numbers of models, of each job."""
ESTIMATORS = ("lasso", "pooled", "prior")
OTHERS = ("weighted", "ridge", "difference", "influence")
GRADIENTS = "gradients"
SHUFFLED, USELESS, SHUFFLED_MODELS = "shuffled", "no gradients", (500,)
OF_PRIOR = (SHUFFLED, GRADIENTS, USELESS)
"""Kinds of the estimator `prior`."""


def train(spec: specs.RunSpec, home: Path, trainers: int) -> tuple[Run, ObjectStore]:
    settings = dataclasses.replace(StoreSettings(), url=f"file://{home.absolute() / 'store'}")
    store = open_store(settings)
    trust.trust_spec(spec)
    runner = LocalRunner(home, store=settings, trainers=trainers)
    result = pipeline.run(spec, runner=runner, store=store, view=TerminalView(), until="aggregate")
    return result.run, store


def problems(run: Run, store: ObjectStore, home: Path, sizes: list[int]) -> Iterator[Problem]:
    """Yield the problem of the first models, for each of the sizes."""
    found = shards.materialise(store, run, manifest.read_newest(store, run.name), home / "bench" / run.name)
    order = np.argsort(found.model_index)
    for m in sizes:
        rows = order[:m]
        yield problem.of_run(run, found.masks[rows], found.outputs[rows], found.model_index[rows])


def orders(run: Run) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.permutation(run.n), rng.permutation(run.design.columns)


def shuffled(pairs: Pairs, run: Run) -> Pairs:
    targets, columns = orders(run)
    return dataclasses.replace(pairs, blocks=(lambda asked, xp: pairs.of(targets[asked], xp)[:, :, columns],))


def shuffled_scores(scores: GradientScores, run: Run) -> GradientScores:
    targets, columns = orders(run)
    return dataclasses.replace(scores, blocks=[np.concatenate(scores.blocks, axis=1)[:, targets][:, :, columns]])


def scores_of(run: Run, store: ObjectStore, home: Path) -> GradientScores | None:
    """Return the scores by gradients of a run, computed now if they are not in the store; None if there are none."""
    run, started = run.with_fit({"estimator": "prior"}), time.process_time()
    found = gradients.ensure(run, lambda: runs.load_dataset(run.spec), store)
    if found is None:
        return None
    print(f"gradients of {found.models} models: {time.process_time() - started:.1f} CPU s", flush=True)
    return stored.materialise(store, found, home / "bench" / run.name / "gradients")


def equal(lds: float, known: dict[int, float]) -> str:
    """Return how many models `lasso` needs for this LDS, given its LDS by number of models, as text."""
    sizes, found = np.array(list(known)), np.maximum.accumulate(list(known.values()))
    if lds > found[-1]:
        return f">{sizes[-1]:,}"
    if lds < found[0]:
        return f"<{sizes[0]:,}"
    return f"{np.exp(np.interp(lds, found, np.log(sizes))):,.0f}"


def saved(models: int, needed: str) -> str:
    number = int(needed.strip("<>").replace(",", ""))
    return needed[0].strip("0123456789") + f"{1 - models / number:.0%}"


def table(name: str, run: Run, store: ObjectStore, home: Path, sizes: list[int], estimators: list[str]) -> None:
    unseen = Unseen.read(run, manifest.read_newest(store, run.name), store)
    rows = []
    scores = scores_of(run, store, home)
    measured = (GRADIENTS,) if scores else ()
    for part in problems(run, store, home, sizes):
        more = (SHUFFLED, *((USELESS,) if scores else ())) if part.rows in SHUFFLED_MODELS else ()
        for estimator in (*estimators, *measured, *more):
            settings = run.spec.fit.model_copy(update={"estimator": "prior" if estimator in OF_PRIOR else estimator})
            started = time.process_time()
            fitted = dataclasses.replace(run, spec=run.spec.model_copy(update={"fit": settings}))
            examples.write_from_spec(store, fitted)
            given = prior_of(fitted, store)
            if estimator == SHUFFLED:
                given = shuffled(given, run)
            elif scores and estimator in (GRADIENTS, USELESS):
                found = scores if estimator == GRADIENTS else shuffled_scores(scores, run)
                given = dataclasses.replace(given, gradients=found)
            solution = fit(dataclasses.replace(part, prior=given), settings, run.spec.seed)
            seconds = time.process_time() - started
            rows.append((part.rows, estimator, unseen.predicted_by(solution).evaluate(), seconds, solution))
    known = {models: found.lds for models, estimator, found, _, _ in rows if estimator == "lasso"}
    times = {models: seconds for models, estimator, _, seconds, _ in rows if estimator == "lasso"}
    print(f"\n{name}: {run.n} targets, {run.design.columns:,} columns")
    print("models  estimator     LDS    95% interval    equals  saves  CPU s  ratio  chosen")
    for models, estimator, found, seconds, solution in rows:
        low, high = found.interval
        needed = equal(found.lds, known)
        choice = solution.choice
        chosen = "" if choice is None else f"{choice['way']} {choice['errors'].get(choice['way'], 0):.3f}"
        print(
            f"{models:>6,}  {estimator:<12}{found.lds:>6.3f}  {low:.3f} to {high:.3f}{needed:>8}"
            f"{saved(models, needed):>7}{seconds:>7.1f}{seconds / times[models]:>7.1f}  {chosen}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", default=",".join(JOBS), help=f"of {', '.join(JOBS)}")
    parser.add_argument("--home", type=Path, default=Path(".datamodels"))
    parser.add_argument("--models", help="numbers of models, in place of those of the jobs")
    parser.add_argument("--trainers", type=int, default=2)
    parser.add_argument("--all", action="store_true", help=f"also {', '.join(OTHERS)}")
    parser.add_argument("--quick", action="store_true", help="only diabetes and breast-cancer, up to 500 models")
    options = parser.parse_args()
    jobs = ["diabetes", "breast-cancer"] if options.quick else options.jobs.split(",")
    for name in jobs:
        example, changes, sizes = JOBS[name]
        spec = specs.parse(specs.load(example).document() | changes)
        run, store = train(spec, options.home, options.trainers)
        chosen = [int(m) for m in options.models.split(",")] if options.models else list(sizes)
        chosen = [m for m in chosen if not options.quick or m <= 500]
        with threadpoolctl.threadpool_limits(1):
            table(name, run, store, options.home, chosen, [*ESTIMATORS, *(OTHERS if options.all else ())])


if __name__ == "__main__":
    main()
