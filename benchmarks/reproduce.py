"""The claims made of datamodels, one by one, on the digits: docs/reproduction.md.

    python benchmarks/reproduce.py [--spec deploy/specs/digits.yaml] [--home FOLDER] [--page docs/reproduction.md]

Takes the road where the folder does not have the run, then measures part by part. What a part measured is kept in the
folder, and a part that is there is not measured again: delete HOME/reproduction/RUN to start anew. `--quick` is for
trying it out: few targets and models.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import analyses
import numpy as np
import planted as plantings

from datamodels import spec
from datamodels.aggregate import manifest
from datamodels.analyze import agreement, clusters, interval, pool
from datamodels.analyze.composition import composition
from datamodels.analyze.retrain import Retrainer
from datamodels.cli import compare as table
from datamodels.fit import store as fits
from datamodels.rivals import contest
from datamodels.rivals.compare import LDS, Comparison, flips_at
from datamodels.rivals.given import Given
from datamodels.spec import RunSpec
from datamodels.storage import ObjectStore

NEAR = 0.8
"""Share of the R^2 that chance leaves to be had, to be called near the diagonal."""
LARGER_ALPHA, LARGER_M = 0.75, 6000
"""Of the run that calibration is compared with."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """targets that are retrained for, models on each set, networks that rivals may train; plantings of leaks and wrong
    labels, and models of each.
    """

    targets: int
    models: int
    networks: int
    plantings: int
    planted_models: int


@dataclasses.dataclass(frozen=True)
class Place:
    given: RunSpec
    home: Path
    trainers: int
    sizes: Sizes


def quality(place: Place, bench: analyses.Bench, store: ObjectStore) -> dict[str, Any]:
    run = bench.journey.run
    found = agreement.of_fit(run, manifest.read_newest(store, run.name), store, bench.solution)
    lds = found.evaluation
    return {
        "lds": {"value": lds.lds, "interval": lds.interval, "ceiling": lds.ceiling, "targets": lds.targets},
        **{
            name: {"value": it.r2, "interval": it.interval, "ceiling": it.ceiling, "models": it.models}
            for name, it in (("single", found.single), ("mean", found.mean))
        },
    }


def rivals(place: Place, bench: analyses.Bench, store: ObjectStore) -> dict[str, Any]:
    given = Given(bench.journey.run, bench.journey.dataset, store, place.sizes.networks)
    retrainer = Retrainer(given.run, given.dataset, place.sizes.models // 2)
    comparison = Comparison(given, retrainer, place.sizes.targets, analyses.SIZES)
    rows = [comparison.row(comparison.reference)]
    for name in contest.RIVALS:
        rows.append(comparison.row(contest.enter(given, name)))
        print(f"  {name}", flush=True)
    return {"rows": [row.document() for row in rows]}


def removals(place: Place, bench: analyses.Bench, store: ObjectStore) -> dict[str, Any]:
    names = ("removed", "r", "slope", "inside")
    return {"rows": [dict(zip(names, row, strict=True)) for row in bench.counterfactuals()]}


def supports(place: Place, bench: analyses.Bench, store: ObjectStore) -> dict[str, Any]:
    return {"rows": [dataclasses.asdict(row) for row in bench.supports((0.0, 0.5))]}


def calibration(place: Place, bench: analyses.Bench, store: ObjectStore) -> dict[str, Any]:
    """Mean outputs of models of the whole pool, foretold and true, by the alpha of the subsets that were fitted."""
    m = min(LARGER_M, place.given.m)
    larger = place.given.document() | {"alpha": LARGER_ALPHA, "m": m, "evaluate": {"subsets": 0}}
    journey, _ = analyses.take(spec.parse(larger), place.home, place.trainers)
    solution = fits.load(store, fits.read_newest_fit(store, journey.run.name))
    (true,) = bench.retrainer.outputs([pool.whole(bench.journey.run)])
    true = true.mean(axis=0)
    return {
        "rows": [
            {
                "alpha": alpha,
                "foretold": float(foretold.mean()),
                "true": float(true.mean()),
                "too_much": interval.mean(foretold - true),
                "slope": float(np.polyfit(foretold, true, 1)[0]),
            }
            for alpha, fitted in ((place.given.alpha, bench.solution), (LARGER_ALPHA, solution))
            for foretold in [fitted.intercept + fitted.dense(range(fitted.n)).sum(axis=1)]
        ]
    }


def relabellings(place: Place, bench: analyses.Bench, store: ObjectStore) -> dict[str, Any]:
    return dataclasses.asdict(bench.relabellings())


def groups(place: Place, bench: analyses.Bench, store: ObjectStore) -> dict[str, Any]:
    """Clusters of the targets' weights, as many as their eigenvalues say, beside the classes."""
    run = bench.journey.run
    found = clusters.clusters(bench.solution.theta, seed=run.spec.seed)
    made = composition(found.cluster, run.labels, seed=run.spec.seed)
    return {
        "clusters": len(found.sizes),
        "classes": len(made.classes),
        "purity": [made.purity, *made.purity_interval],
        "rand": [made.rand, *made.rand_interval],
    }


def planted(place: Place, bench: analyses.Bench, store: ObjectStore) -> dict[str, Any]:
    """Average precision with its interval, of leaks and wrong labels planted in the same digits."""
    count = place.sizes.plantings
    with ProcessPoolExecutor(place.trainers, multiprocessing.get_context("spawn")) as workers:
        found = list(workers.map(plantings.measure, range(1, count + 1), [place.sizes.planted_models] * count))
    scores = {name: np.array([one[name][0] for one in found]) for name in (*plantings.LEAKS, *plantings.LABELS)}
    return {name: [float(score.mean()), *interval.mean(score)] for name, score in scores.items()}


PARTS: dict[str, Callable[[Place, analyses.Bench, ObjectStore], dict[str, Any]]] = {
    part.__name__: part for part in (quality, rivals, removals, supports, relabellings, calibration, groups, planted)
}


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is claimed, what we find, whether the direction is the same, and why."""

    claim: str
    theirs: str
    ours: str
    same: str
    why: str


def claims(found: dict[str, Any]) -> Iterator[Claim]:
    """Of the parts that were measured."""
    for name, of_part in CLAIMS.items():
        if name in found:
            yield from of_part(found[name])


def _of_removals(found: dict[str, Any]) -> Iterator[Claim]:
    last = found["rows"][-1]
    yield Claim(
        "Weights foretell what removing examples does",
        "changes foretold and true lie along the diagonal",
        f"r {last['r']:.2f}, slope {last['slope']:.2f}, for the 10 to 80 most helpful examples removed; the 95% "
        f"intervals hold {last['inside']:.0%}",
        _yes(last["r"] >= 0.85),
        "",
    )


def _of_supports(found: dict[str, Any]) -> Iterator[Claim]:
    plain, safe = found["rows"]
    yield Claim(
        "Predictions are brittle: small sets of examples carry them",
        "about half of CIFAR-10's test images flip without some 250 of 50,000 examples, 0.5%",
        f"{_support(plain)}; at the median {plain['median']:.0f} of 1,400 examples, {plain['median'] / 1400:.0%}. "
        f"With a margin of safety of {safe['safety']}: {_support(safe)}",
        _yes(plain["found"] >= 0.4 * plain["targets"] and plain["flips"] >= 0.7 * plain["found"]),
        "a class has 140 examples here and 5,000 there: as a share of the pool the sets are larger, and many digits "
        "have no support that leaves some of their class",
    )


def _support(row: dict[str, Any]) -> str:
    flips, found = row["flips"], row["found"]
    return (
        f"found for {found / row['targets']:.0%} of {row['targets']} targets, of which {flips / found:.0%} "
        f"({_span(interval.share(flips, found), 2)}) really flip"
    )


def _of_calibration(found: dict[str, Any]) -> Iterator[Claim]:
    half, more = found["rows"]
    yield Claim(
        "What weights foretell of the whole pool depends on alpha",
        "alpha is to be chosen by what is asked",
        f"fitted at {half['alpha']}: {half['foretold']:.2f} foretold, {half['true']:.2f} true; at {more['alpha']}: "
        f"{more['foretold']:.2f}, too much by {_span(more['too_much'], 2)}",
        _yes(abs(more["foretold"] - more["true"]) < abs(half["foretold"] - half["true"])),
        "margins grow more slowly as examples are added: the line through half of them is too steep",
    )


def _of_relabellings(found: dict[str, Any]) -> Iterator[Claim]:
    yield Claim(
        "Wrong labels flip predictions, and fewer of them than removals",
        "fewer labels are to be changed than examples to be taken out",
        f"{_support(found)}; at the median {found['median']:.0f} labels changed to the second-best class",
        _yes(found["found"] >= 0.9 * found["targets"] and found["flips"] >= 0.7 * found["found"]),
        "it takes away an example of one class and gives one to the other",
    )


def _of_groups(found: dict[str, Any]) -> Iterator[Claim]:
    purity, rand = found["purity"], found["rand"]
    yield Claim(
        "Weights as embeddings: clusters of them are groups that people recognise",
        "subpopulations of a class, by spectral clustering",
        f"{found['clusters']} clusters by the eigengap; purity {purity[0]:.2f} ({_span(purity[1:], 2)}), adjusted Rand "
        f"{rand[0]:.2f} ({_span(rand[1:], 2)}) to the {found['classes']} classes",
        _yes(purity[1] > 0.9),
        "among digits the groups are the classes themselves",
    )


def _of_planted(found: dict[str, Any]) -> Iterator[Claim]:
    alone, inputs = found["weights alone"], found["inputs"]
    yield Claim(
        "Weights show test examples that leaked into the training set",
        "near copies are among the largest weights",
        f"average precision {alone[0]:.2f} ({_span(alone[1:], 2)}) by weights alone; {inputs[0]:.2f} "
        f"({_span(inputs[1:], 2)}) by inputs",
        _yes(alone[1] > 0.5),
        "a copy is one helpful example among many digits that look alike, and its weight is like theirs; what it is "
        "shows in the inputs",
    )
    own, cleanlab = found["weights, own output"], found["cleanlab"]
    yield Claim(
        "Wrong labels show in the weights",
        "not measured",
        f"average precision {own[0]:.3f} ({_span(own[1:], 3)}); cleanlab {cleanlab[0]:.3f} ({_span(cleanlab[1:], 3)})",
        "",
        "cleanlab needs no run: it trains 50 networks",
    )


def _of_quality(found: dict[str, Any]) -> Iterator[Claim]:
    lds, single, mean = (found[name] for name in ("lds", "single", "mean"))
    yield Claim(
        "A linear model predicts outputs on unseen subsets",
        "high correlations for nearly all targets",
        f"LDS {lds['value']:.3f} ({_span(lds['interval'], 3)}); {lds['ceiling']:.3f} between halves of the models",
        _yes(lds["value"] > 0.9),
        "",
    )
    for figure, it, what in (("3", single, "single models"), ("4", mean, f"means of {mean['models']} models")):
        yield Claim(
            f"Figure {figure}: predicted against true outputs, {what}",
            "along the diagonal, with the spread of single trainings" if it is single else "nearer to the diagonal",
            f"R² {it['value']:.2f} ({_span(it['interval'], 2)}), where chance leaves {it['ceiling']:.2f}",
            _yes(it["value"] >= NEAR * it["ceiling"]),
            "a training's own chance cannot be foretold" if it is single else "it averages out",
        )


def _of_rivals(found: dict[str, Any]) -> Iterator[Claim]:
    first, *others = found["rows"]
    best = max(others, key=lambda row: row["figures"][LDS]["value"])
    mine, theirs = first["figures"][LDS], best["figures"][LDS]
    yield Claim(
        "Datamodels predict better than other attributions",
        "above influence functions, TracIn and likenesses",
        f"LDS {mine['value']:.3f}; the best rival, {best['method']}, {theirs['value']:.3f} "
        f"({_span(theirs['interval'], 3)}), {_signed(theirs['less_datamodels'])}",
        _yes(theirs["less_datamodels"]["interval"][1] < 0, theirs["less_datamodels"]["interval"][0] > 0),
        f"{best['method']} takes {best['models']:,} networks where datamodels take {first['models']:,}, but needs "
        "gradients; influence is near because these networks are small, with strong weight decay",
    )
    for k in analyses.SIZES:
        name = flips_at(k)
        mine = first["figures"][name]
        best = max(others, key=lambda row, name=name: row["figures"][name]["value"])
        tracin = next(row for row in others if row["method"] == "tracin")["figures"][name]
        less = best["figures"][name]["less_datamodels"]
        yield Claim(
            f"Figure 5: predictions flip without the {k} most helpful examples",
            "more by datamodels than by any other",
            f"{mine['value']:.2f} ({_span(mine['interval'], 2)}); TracIn {tracin['value']:.2f}, {best['method']} "
            f"{best['figures'][name]['value']:.2f}, {_signed(less)}",
            _yes(less["interval"][1] < 0, less["interval"][0] > 0),
            "" if less["interval"][1] < 0 else f"TracIn: {_signed(tracin['less_datamodels'])}",
        )


CLAIMS: dict[str, Callable[[dict[str, Any]], Iterator[Claim]]] = {
    "quality": _of_quality,
    "rivals": _of_rivals,
    "removals": _of_removals,
    "supports": _of_supports,
    "relabellings": _of_relabellings,
    "calibration": _of_calibration,
    "groups": _of_groups,
    "planted": _of_planted,
}


def _yes(same: bool, opposite: bool = True) -> str:
    return "yes" if same else "no" if opposite else "cannot be told"


def _signed(difference: dict[str, Any]) -> str:
    low, high = difference["interval"]
    return f"a difference of {difference['value']:+.3f} ({low:+.3f} to {high:+.3f})"


def _span(found: tuple[float, float], digits: int) -> str:
    return f"{found[0]:.{digits}f} to {found[1]:.{digits}f}"


def page(run: str, found: dict[str, dict[str, Any]]) -> str:
    rows = [" | ".join(dataclasses.astuple(claim)) for claim in claims(found)]
    return "\n".join(
        [
            "# Reproduction",
            "",
            "What the review of datamodels claims, on the digits; `make reproduce` writes this page. Theirs are of "
            "CIFAR-10 and ResNet-9, 300,000 models (Ilyas et al. 2022); ours of 1,400 digits and networks with one "
            "hidden layer, 12,000 models. So directions are what can be the same. Intervals are at 95%.",
            "",
            "| claim | theirs | ours | same direction | why |",
            "|---|---|---|---|---|",
            *(f"| {row} |" for row in rows),
            "",
            *(_rivals_table(run, found["rivals"]["rows"]) if "rivals" in found else ()),
        ]
    )


def _rivals_table(run: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    yield from ("## The rivals", "", f"    datamodels compare {run} --targets 120 --retrain 5", "", "```")
    yield from table.lines(rows)
    yield from ("```", "")
    yield (
        "`models` are those trained for a method: networks of the whole pool for those that take gradients, the run's "
        "own for datamodels and Feldman-Zhang; `seconds` come after. Unsure targets are right in 5% to 95% of models: "
        "where models are always right, Feldman-Zhang's shares say nothing. A flip is a mean output below 0 of models "
        "trained without those examples."
    )
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=Path, default=Path("deploy/specs/digits.yaml"))
    parser.add_argument("--home", type=Path, default=Path(".datamodels"))
    parser.add_argument("--page", type=Path, default=Path("docs/reproduction.md"))
    parser.add_argument("--trainers", type=int, default=2)
    parser.add_argument("--parts", default=",".join(PARTS), help="to measure, where they are not there")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    sizes = Sizes(12, 4, 2, 2, 400) if options.quick else Sizes(120, 10, 20, 4, 4000)
    given = spec.load(options.spec)
    journey, store = analyses.take(given, options.home, options.trainers)
    bench = analyses.bench(journey, store, sizes.targets, sizes.models)
    place = Place(given, options.home, options.trainers, sizes)
    kept = options.home / "reproduction" / (journey.run.name + ("-quick" if options.quick else ""))
    kept.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, part in PARTS.items():
        file = kept / f"{name}.json"
        if not file.exists() and name in options.parts.split(","):
            print(name, flush=True)
            file.write_text(json.dumps(part(place, bench, store)), encoding="utf-8")
        if file.exists():
            found[name] = json.loads(file.read_text(encoding="utf-8"))
    options.page.write_text(page(journey.run.name, found), encoding="utf-8")
    print(f"wrote {options.page}")


if __name__ == "__main__":
    main()
