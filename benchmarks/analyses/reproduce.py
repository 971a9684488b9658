"""Check the claims about datamodels, one by one, on the digits: docs/benchmarks/reproduction.md.

    python benchmarks/analyses/reproduce.py [--spec SPEC] [--home FOLDER] [--page docs/benchmarks/reproduction.md]

Runs the pipeline if the folder does not have the run, then measures part by part. The folder keeps what each part
measured, and a part that it has is not measured again; delete HOME/reproduction/RUN to start anew. `--quick` takes few
targets and models, to try it out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import claims
import numpy as np
import planted as plantings
import predictions

from datamodels.aggregate import manifest
from datamodels.analyze.patterns import clusters
from datamodels.analyze.quality import interval
from datamodels.analyze.quality.unseen import Unseen
from datamodels.analyze.what_if import pool, relabel
from datamodels.analyze.what_if.composition import composition
from datamodels.analyze.what_if.retrain import Retrainer, measure_relabelled
from datamodels.baselines import compare, scoring
from datamodels.baselines.compare import Comparison
from datamodels.baselines.context import Context
from datamodels.cli.common.spec import load_spec
from datamodels.fit.job import fits
from datamodels.run import specs
from datamodels.run.specs import RunSpec
from datamodels.storage import ObjectStore

LARGER_ALPHA, LARGER_M = 0.75, 6000
"""alpha and m of the run that calibration is compared with."""
WRONG_LABELS = 10
MISLABELLERS = ("tracin", "inputs")
"""Baselines whose most helpful examples get a wrong label, beside those of the datamodels."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much to measure.

    targets         to retrain for
    models          trained on each set
    networks        trained for baselines that need some
    plantings       of leaks and wrong labels
    planted_models  trained for each planting
    """

    targets: int
    models: int
    networks: int
    plantings: int
    planted_models: int


@dataclasses.dataclass(frozen=True)
class Place:
    spec: RunSpec
    home: Path
    trainers: int
    sizes: Sizes


def quality(place: Place, checks: predictions.Checks, store: ObjectStore) -> dict[str, Any]:
    run = checks.result.run
    found = Unseen.read(run, manifest.read_newest(store, run.name), store).predicted_by(checks.solution).quality()
    lds = found.evaluation
    return {
        "lds": {"value": lds.lds, "interval": lds.interval, "ceiling": lds.ceiling, "targets": lds.targets},
        **{
            name: {"value": it.r2, "interval": it.interval, "ceiling": it.ceiling, "models": it.models}
            for name, it in (("single", found.single), ("mean", found.mean))
        },
    }


def baselines(place: Place, checks: predictions.Checks, store: ObjectStore) -> dict[str, Any]:
    context = Context(checks.result.run, checks.result.dataset, store, place.sizes.networks)
    retrainer = Retrainer(context.run, context.dataset, place.sizes.models // 2)
    comparison = Comparison(context, retrainer, place.sizes.targets, predictions.SIZES)
    rows = [comparison.row(comparison.reference)]
    for name in scoring.METHODS:
        rows.append(comparison.row(scoring.compute(context, name)))
        print(f"  {name}", flush=True)
    return {"rows": [row.document() for row in rows]}


def removals(place: Place, checks: predictions.Checks, store: ObjectStore) -> dict[str, Any]:
    names = ("removed", "r", "slope", "inside")
    return {"rows": [dict(zip(names, row, strict=True)) for row in checks.counterfactuals()]}


def supports(place: Place, checks: predictions.Checks, store: ObjectStore) -> dict[str, Any]:
    return {"rows": [dataclasses.asdict(row) for row in checks.supports((0.0, 0.5))]}


def calibration(place: Place, checks: predictions.Checks, store: ObjectStore) -> dict[str, Any]:
    """Compare predicted and true mean outputs of models of the whole pool, by the alpha of the fitted subsets."""
    m = min(LARGER_M, place.spec.m)
    larger = place.spec.document() | {"alpha": LARGER_ALPHA, "m": m, "evaluate": {"subsets": 0}}
    result, _ = predictions.take(specs.parse(larger), place.home, place.trainers)
    solution = fits.load(store, fits.read_newest_fit(store, result.run.name))
    (true,) = checks.retrainer.outputs([pool.whole(checks.result.run)])
    true = true.mean(axis=0)
    return {
        "rows": [
            {
                "alpha": alpha,
                "predicted": float(predicted.mean()),
                "true": float(true.mean()),
                "too_much": interval.mean(predicted - true),
                "slope": float(np.polyfit(predicted, true, 1)[0]),
            }
            for alpha, fitted in ((place.spec.alpha, checks.solution), (LARGER_ALPHA, solution))
            for predicted in [fitted.intercept + fitted.dense(range(fitted.n)).sum(axis=1)]
        ]
    }


def relabellings(place: Place, checks: predictions.Checks, store: ObjectStore) -> dict[str, Any]:
    return dataclasses.asdict(checks.relabellings())


def mislabelled(place: Place, checks: predictions.Checks, store: ObjectStore) -> dict[str, Any]:
    """Measure how many targets flip if their most helpful examples get the label that targets are most mistaken for."""
    context = Context(checks.result.run, checks.result.dataset, store, place.sizes.networks)
    entries = [compare.of_datamodels(context)[0], *(scoring.compute(context, name) for name in MISLABELLERS)]
    run, modelled = context.run, checks.solution.modelled
    targets = compare.right_targets(checks.retrainer, run, modelled, place.sizes.targets)
    rows = {}
    for entry in entries:
        means = []
        for target in targets.tolist():
            mine = np.flatnonzero(
                (run.labels == run.target_labels[target]) & pool.without_own(run, pool.whole(run), target)
            )
            columns = mine[np.argsort(-entry.scores[target, mine], kind="stable")[:WRONG_LABELS]]
            label = relabel.most_harmful_label(run, checks.solution, target)
            means.append(measure_relabelled(checks.retrainer, run, target, columns, label).mean)
        flipped = sum(mean < 0 for mean in means)
        rows[entry.name] = [flipped / len(targets), *interval.share(flipped, len(targets))]
    return {"targets": len(targets), "labels": WRONG_LABELS, "rows": rows}


def groups(place: Place, checks: predictions.Checks, store: ObjectStore) -> dict[str, Any]:
    """Compare clusters of the targets' weights with the classes. The eigengap chooses the number of clusters."""
    run = checks.result.run
    found = clusters.clusters(checks.solution.theta, seed=run.spec.seed)
    made = composition(found.cluster, run.target_labels, seed=run.spec.seed)
    return {
        "clusters": len(found.sizes),
        "classes": len(made.classes),
        "purity": [made.purity, *made.purity_interval],
        "rand": [made.rand, *made.rand_interval],
    }


def planted(place: Place, checks: predictions.Checks, store: ObjectStore) -> dict[str, Any]:
    """Measure average precision, with its interval, on leaks and wrong labels planted in the same digits."""
    count = place.sizes.plantings
    with ProcessPoolExecutor(place.trainers, multiprocessing.get_context("spawn")) as workers:
        found = list(workers.map(plantings.measure, range(1, count + 1), [place.sizes.planted_models] * count))
    scores = {name: np.array([one[name][0] for one in found]) for name in (*plantings.LEAKS, *plantings.LABELS)}
    return {
        name: [float(score.mean()), *np.clip(interval.mean(score), 0.0, 1.0).tolist()] for name, score in scores.items()
    }


PARTS: dict[str, Callable[[Place, predictions.Checks, ObjectStore], dict[str, Any]]] = {
    part.__name__: part
    for part in (quality, baselines, removals, supports, relabellings, mislabelled, calibration, groups, planted)
}


EARLIER = {"baselines": "rivals"}
"""Names of parts in files of earlier versions. They also called predictions "foretold"."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", default="digits")
    parser.add_argument("--home", type=Path, default=Path(".datamodels"))
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks/reproduction.md"))
    parser.add_argument("--trainers", type=int, default=2)
    parser.add_argument("--parts", default=",".join(PARTS), help="parts to measure, if the folder does not have them")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    sizes = Sizes(12, 4, 2, 2, 400) if options.quick else Sizes(120, 10, 20, 4, 4000)
    spec = load_spec(options.spec)
    result, store = predictions.take(spec, options.home, options.trainers)
    checks = predictions.make_checks(result, store, sizes.targets, sizes.models)
    place = Place(spec, options.home, options.trainers, sizes)
    kept = options.home / "reproduction" / (result.run.name + ("-quick" if options.quick else ""))
    kept.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, part in PARTS.items():
        file = next(filter(Path.exists, (kept / f"{n}.json" for n in (name, EARLIER.get(name, name)))), None)
        if file is None and name in options.parts.split(","):
            print(name, flush=True)
            file = kept / f"{name}.json"
            file.write_text(json.dumps(part(place, checks, store)), encoding="utf-8")
        if file is not None:
            found[name] = json.loads(file.read_text(encoding="utf-8").replace('"foretold"', '"predicted"'))
    options.page.write_text(claims.page(result.run.name, found), encoding="utf-8")
    print(f"wrote {options.page}")


if __name__ == "__main__":
    main()
