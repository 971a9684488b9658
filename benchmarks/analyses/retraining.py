"""Compare what fits of few models and of many say with models that are trained to check it, on the digits.

    python benchmarks/analyses/retraining.py [--home FOLDER] [--targets 120] [--models 10] [--plantings 3]

Trains the digits' run with 12,000 models if the folder does not have it. Then fits `lasso` to all of them, and `lasso`
and `prior` to the first 1,000, and makes the same analyses of each. Prints one table in Markdown. A difference is
`prior` less `lasso` of 12,000 models, with its 95% interval by the same targets, subsets or plantings; a row is won or
lost if the interval does not contain 0. The folder keeps what each part measured, and a part that it has is not
measured again; delete HOME/retraining to start anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import planted as plantings
import predictions
from predictions import Checks

from datamodels.aggregate import manifest
from datamodels.analyze.patterns import clusters
from datamodels.analyze.patterns.conflicts import of_fit
from datamodels.analyze.quality import interval
from datamodels.analyze.quality.unseen import Unseen
from datamodels.analyze.what_if import pool, relabel
from datamodels.analyze.what_if.composition import composition
from datamodels.analyze.what_if.retrain import Retrainer, measure, measure_relabelled
from datamodels.analyze.what_if.support import FOUND, support
from datamodels.baselines import compare
from datamodels.baselines.scoring import MethodScores
from datamodels.fit.data import problem, shards
from datamodels.fit.data.problem import Problem, Solution
from datamodels.fit.estimators.base import prior_of
from datamodels.fit.pairs import pairs
from datamodels.fit.solve import fit
from datamodels.run import specs
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore

MANY, FEW = "`lasso`, {many:,} models", "`lasso`, {few:,} models"
PRIOR = "`prior`, {few:,} models"
FITS = {MANY: ("lasso", "many"), FEW: ("lasso", "few"), PRIOR: ("prior", "few")}
WRONG_LABELS = 10
CLUSTERS = 10
MORE, LESS, NEITHER = 1, -1, 0
"""Whether a larger figure is better, a smaller one, or neither."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    figures     by fit, in the order of FITS
    difference  (PRIOR less MANY, low, high); None if it has no interval
    better      MORE, LESS or NEITHER
    digits      decimals
    """

    name: str
    figures: list[float]
    difference: tuple[float, float, float] | None
    better: int
    digits: int = 2


@dataclasses.dataclass(frozen=True)
class Place:
    """The run, what is fitted to it, and how much is measured."""

    run: Run
    store: ObjectStore
    checks: dict[str, Checks]
    retrainer: Retrainer
    targets: int
    sizes: dict[str, int]
    plantings: int

    def each(self, of: Callable[[Checks], Any]) -> list[Any]:
        return [of(checks) for checks in self.checks.values()]


def paired(name: str, values: list[np.ndarray], better: int, digits: int = 2) -> Row:
    """Return the row of means of values float[t], of the same t things for all fits."""
    change = np.asarray(values[2], dtype=np.float64) - values[0]
    difference = float(change.mean()), *interval.mean(change)
    return Row(name, [float(np.mean(value)) for value in values], difference, better, digits)


def lds(place: Place) -> Iterator[Row]:
    unseen = Unseen.read(place.run, manifest.read_newest(place.store, place.run.name), place.store)
    found = place.each(lambda checks: unseen.predicted_by(checks.solution).evaluate())
    less = compare.difference(found[2], found[0])
    yield Row("LDS", [one.lds for one in found], (less.value, *less.interval), MORE, 3)


def removals(place: Place) -> Iterator[Row]:
    """Remove the most helpful examples of each target: do outputs fall, and as predicted?"""
    run = place.run
    targets = compare.right_targets(place.retrainer, run, place.checks[MANY].solution.modelled, place.targets)
    (whole,) = place.retrainer.outputs([pool.whole(run)])

    def scores(checks: Checks) -> MethodScores:
        return MethodScores("", checks.solution.dense(range(run.n)), checks.rows, 0.0)

    entries = place.each(scores)
    for k in predictions.SIZES:
        flipped = [compare.flips(place.retrainer, run, entry, targets, (k,))[k].flipped for entry in entries]
        yield paired(f"targets that flip without their {k} most helpful examples", flipped, MORE)
    falls = []
    for entry in entries:
        sets = [(j, compare.without_best(run, entry.scores[j], j, 40)) for j in targets.tolist()]
        means = np.array([found.mean for found in measure(place.retrainer, run, sets)])
        falls.append(whole[:, targets].mean(axis=0) - means)
    yield paired("fall of the margin without the 40 most helpful examples", falls, MORE)

    changes = place.each(Checks.changes)
    figures = [predictions.agreement(one.predicted, one.true) for one in changes]
    drawn = interval.draws(changes[0].true.shape[1], place.run.spec.seed, 300)
    resampled = np.array([[_repeated(one, draw) for one in changes] for draw in drawn])
    less = resampled[:, 2] - resampled[:, 0]
    value = figures[2][0] - figures[0][0]
    around = interval.around(value, less - less.mean())
    name = "correlation of predicted and true changes without the 10 to 80 most helpful examples"
    yield Row(name, [r for r, _ in figures], (value, *around), MORE, 3)
    yield Row("slope of true on predicted changes", [slope for _, slope in figures], None, NEITHER)
    yield Row("true changes inside the 95% interval of the prediction", [one.inside.mean() for one in changes], None, 0)


def _repeated(found: predictions.Changes, draw: np.ndarray) -> float:
    """Return the correlation if each target is counted so often, int[t]."""
    places = np.repeat(np.arange(len(draw)), draw)
    return predictions.agreement(found.predicted[:, places], found.true[:, places])[0]


def supports(place: Place) -> Iterator[Row]:
    """Remove supports: how many flip? A target without a support does not."""
    run, base = place.run, pool.whole(place.run)

    def flips(checks: Checks, safety: float) -> tuple[np.ndarray, np.ndarray, float]:
        asked = [support(run, checks.solution, target, safety=safety) for target in checks.targets.tolist()]
        found = np.array([one.status == FOUND for one in asked])
        sets = [(s.target, base & ~pool.members_of(run, s.columns, "support")) for s in asked if s.status == FOUND]
        flipped = np.zeros(len(asked), dtype=bool)
        flipped[found] = [one.mean < 0 for one in measure(place.retrainer, run, sets)]
        return found, flipped, float(np.median([len(s.columns) for s in asked if s.status == FOUND]))

    for safety in (0.0, 0.5):
        made = place.each(lambda checks, safety=safety: flips(checks, safety))
        title = f"supports with a safety of {safety}" if safety else "supports"
        yield from _flip_rows(title, made, "examples")


def _flip_rows(title: str, made: list[tuple[np.ndarray, np.ndarray, float]], unit: str) -> Iterator[Row]:
    yield paired(f"targets that have {title}", [found for found, _, _ in made], NEITHER)
    yield Row(f"of the {title}, those that flip", [f[found].mean() for found, f, _ in made], None, MORE)
    yield paired(f"targets that {title} flip, of all", [flipped for _, flipped, _ in made], MORE)
    yield Row(f"median size of {title}, {unit}", [size for _, _, size in made], None, LESS, 0)


def mislabels(place: Place) -> Iterator[Row]:
    """Change labels: mislabel supports, and the labels of the ten most helpful examples."""
    run = place.run
    targets = place.checks[MANY].targets.tolist()

    def flips(checks: Checks) -> tuple[np.ndarray, np.ndarray, float]:
        asked = [relabel.relabelling(run, checks.solution, target) for target in targets]
        found = np.array([one.support.status == FOUND for one in asked])
        flipped = np.zeros(len(asked), dtype=bool)
        flipped[found] = [
            measure_relabelled(place.retrainer, run, one.support.target, one.support.columns, one.label).mean < 0
            for one in asked
            if one.support.status == FOUND
        ]
        return found, flipped, float(np.median([len(r.support.columns) for r in asked if r.support.status == FOUND]))

    yield from _flip_rows("mislabel supports", place.each(flips), "labels")

    right = compare.right_targets(place.retrainer, run, place.checks[MANY].solution.modelled, place.targets)

    def wrong(checks: Checks) -> np.ndarray:
        means = []
        for target in right.tolist():
            weights = np.where(run.labels == run.target_labels[target], checks.solution.dense([target])[0], -np.inf)
            columns = np.argsort(-weights, kind="stable")[:WRONG_LABELS]
            label = relabel.most_harmful_label(run, checks.solution, target)
            means.append(measure_relabelled(place.retrainer, run, target, columns, label).mean)
        return np.array(means) < 0

    title = f"targets that flip if their {WRONG_LABELS} most helpful examples get a wrong label"
    yield paired(title, place.each(wrong), MORE)


def conflicts(place: Place) -> Iterator[Row]:
    """Remove half of a class at a time: does the mean margin of each other class change as predicted?"""
    run = place.run
    labels, theirs = np.asarray(run.labels), np.asarray(run.target_labels)
    classes = np.unique(labels)
    base = pool.whole(run)
    halves = [np.flatnonzero(labels == c)[part::2] for c in classes for part in (0, 1)]
    pairs_of = [(h, t) for h in range(len(halves)) for t in range(len(classes)) if t != h // 2]
    (whole,) = place.retrainer.outputs([base])
    without = place.retrainer.outputs([base & ~pool.members_of(run, half, "half") for half in halves])
    fall = whole.mean(axis=0) - without.mean(axis=1)  # [half, target]
    true = np.array([fall[h, theirs == classes[t]].mean() for h, t in pairs_of])

    def predicted(checks: Checks) -> np.ndarray:
        theta = checks.solution.dense(range(run.n)).astype(np.float64)
        effect = np.stack([theta[:, half].sum(axis=1) for half in halves])
        return np.array([effect[h, theirs == classes[t]].mean() for h, t in pairs_of])

    def confirmed(checks: Checks) -> tuple[int, int]:
        found = of_fit(run, checks.solution)
        sure = found.sure.astype(bool)
        harms = []
        for source, target in zip(found.source[sure], found.target[sure], strict=True):
            mine = [h for h in range(len(halves)) if classes[h // 2] == source]
            harms.append(fall[mine][:, theirs == target].mean() < 0)
        return int(sure.sum()), int(sum(harms))

    guesses = place.each(predicted)
    figures = [float(np.corrcoef(guess, true)[0, 1]) for guess in guesses]
    drawn = interval.draws(len(true), run.spec.seed, 300)
    resampled = np.array([[_weighted_r(guess, true, draw) for guess in guesses] for draw in drawn])
    less, value = resampled[:, 2] - resampled[:, 0], figures[2] - figures[0]
    title = "correlation of predicted and true effects of half a class on another class"
    yield Row(title, figures, (value, *interval.around(value, less - less.mean())), MORE)
    sure = place.each(confirmed)
    yield Row("sure conflicts between classes", [count for count, _ in sure], None, NEITHER, 0)
    yield Row("of these, those that retraining confirms", [count for _, count in sure], None, MORE, 0)


def _weighted_r(a: np.ndarray, b: np.ndarray, draw: np.ndarray) -> float:
    places = np.repeat(np.arange(len(draw)), draw)
    return float(np.corrcoef(a[places], b[places])[0, 1])


def groups(place: Place) -> Iterator[Row]:
    """Compare clusters of the targets' weights with the classes."""
    run = place.run

    def made(checks: Checks) -> tuple[Any, int]:
        seed, theta = run.spec.seed, checks.solution.theta
        found = clusters.clusters(theta, k=CLUSTERS, seed=seed)
        by_gap = len(clusters.clusters(theta, seed=seed).sizes)
        return composition(found.cluster, run.target_labels, seed=seed), by_gap

    found = place.each(made)
    yield Row("clusters that the eigengap finds, of 10 classes", [count for _, count in found], None, NEITHER, 0)
    yield Row(f"purity of {CLUSTERS} clusters of targets", [one.purity for one, _ in found], None, MORE)
    yield Row("their adjusted Rand index to the classes", [one.rand for one, _ in found], None, MORE)


def planted(place: Place) -> Iterator[Row]:
    """Find leaks and wrong labels that were planted: average precision (AP)."""
    methods = {
        "AP of planted wrong labels, by own output": "weights, own output",
        "AP of planted wrong labels, by harm": "weights, harm",
        "AP of planted leaks, by weights alone": "weights alone",
        "AP of planted leaks, by inputs, of examples that help": "inputs, of examples that help",
    }
    found: dict[str, list[list[float]]] = {name: [[] for _ in FITS] for name in methods}
    for seed in range(1, place.plantings + 1):
        made = plantings.plant(seed)
        run, masks, outputs = plantings.train(made, seed, place.sizes["many"])
        true_pairs = np.zeros((len(made.dataset.y_test), run.design.columns), dtype=bool)
        true_pairs[made.of, made.copies] = True
        wrong = np.zeros(run.design.columns, dtype=bool)
        wrong[made.wrong] = True
        for place_of, (estimator, size) in enumerate(FITS.values()):
            m = place.sizes[size]
            given = problem.of_run(run, masks[:m], outputs[:m], np.arange(m))
            if estimator == "prior":
                given = dataclasses.replace(given, prior=pairs.of_run(run, made.dataset))
            settings = run.spec.fit.model_copy(update={"estimator": estimator})
            solution = fit(given, settings, seed, threads=1)
            scores = plantings.leaks(made, run, solution) | plantings.labels(made, run, solution, seed)
            for name, method in methods.items():
                true = wrong if "labels" in name else true_pairs
                found[name][place_of].append(plantings.average_precision(scores[method](), true))
        print(f"  planting {seed}", flush=True)
    for name, values in found.items():
        yield paired(name, [np.array(value) for value in values], MORE)


PARTS = {part.__name__: part for part in (lds, removals, supports, mislabels, conflicts, groups, planted)}


def table(rows: list[Row], sizes: dict[str, int]) -> str:
    lines = [
        " | ".join(["", *(name.format(**sizes) for name in FITS), "difference", "verdict"]),
        "|".join(["---"] * 6),
    ]
    for row in rows:
        figures = [f"{figure:.{row.digits}f}" for figure in row.figures]
        lines.append(" | ".join([row.name, *figures, _difference(row), _verdict(row)]))
    return "\n".join(f"| {line} |" if i != 1 else f"|{line}|" for i, line in enumerate(lines))


def _difference(row: Row) -> str:
    if row.difference is None:
        return ""
    value, low, high = (f"{part:+.{row.digits}f}" for part in row.difference)
    return f"{value} ({low} to {high})"


def _verdict(row: Row) -> str:
    if row.difference is None or row.better == NEITHER:
        return ""
    _, low, high = (row.better * part for part in row.difference)
    return "win" if min(low, high) > 0 else "loss" if max(low, high) < 0 else "cannot be told"


def problem_of(run: Run, store: ObjectStore, home: Path, m: int) -> Problem:
    """Return the problem of the first m models."""
    found = shards.materialise(store, run, manifest.read_newest(store, run.name), home / "bench" / run.name)
    rows = np.argsort(found.model_index)[:m]
    return problem.of_run(run, found.masks[rows], found.outputs[rows], found.model_index[rows])


def solve(run: Run, given: Problem, estimator: str) -> Solution:
    settings = run.spec.fit.model_copy(update={"estimator": estimator})
    run = dataclasses.replace(run, spec=run.spec.model_copy(update={"fit": settings}))
    return fit(dataclasses.replace(given, prior=prior_of(run)), settings, run.spec.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".datamodels"))
    parser.add_argument("--trainers", type=int, default=2)
    parser.add_argument("--targets", type=int, default=120)
    parser.add_argument("--models", type=int, default=10, help="trained on each set")
    parser.add_argument("--plantings", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="12 targets, 4 models, 2 plantings, 2,000 models")
    options = parser.parse_args()
    sizes = {"many": 12_000, "few": 1000}
    targets, models, count = options.targets, options.models, options.plantings
    document = specs.load("digits").document()
    if options.quick:
        sizes, targets, models, count = {"many": 2000, "few": 500}, 12, 4, 2
        document |= {"m": sizes["many"], "evaluate": {"subsets": 100, "models": 2}}
    result, store = predictions.take(specs.parse(document), options.home, options.trainers)
    run = result.run
    retrainer = Retrainer(run, result.dataset, models)
    checks = {}
    for name, (estimator, size) in FITS.items():
        solution = solve(run, problem_of(run, store, options.home, sizes[size]), estimator)
        checks[name] = predictions.checks_of(result, store, solution, sizes[size], retrainer, targets)
    place = Place(run, store, checks, retrainer, targets, sizes, count)
    kept = options.home / "retraining" / (run.name + ("-quick" if options.quick else ""))
    kept.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, part in PARTS.items():
        file = kept / f"{name}.json"
        if not file.exists():
            print(name, flush=True)
            file.write_text(json.dumps([dataclasses.asdict(row) for row in part(place)], default=float))
        rows += [Row(**row) for row in json.loads(file.read_text(encoding="utf-8"))]
    print(f"\n{targets} targets, {models} models trained on each set, {count} plantings\n\n{table(rows, sizes)}")


if __name__ == "__main__":
    main()
