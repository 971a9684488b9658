"""Write the page of `reproduce`: each claim about datamodels, with their result and ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import predictions

from datamodels.analyze.quality import interval
from datamodels.baselines.compare import LDS, flips_at
from datamodels.cli.analyses import compare as table

NEAR = 0.8
"""Points count as near the diagonal if R^2 is at least this share of the best that chance allows."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is claimed, what we find, whether the direction is the same, and why."""

    claim: str
    theirs: str
    ours: str
    same: str
    why: str


def claims(found: dict[str, Any]) -> Iterator[Claim]:
    """Yield the claims of all parts that were measured."""
    for name, of_part in CLAIMS.items():
        if name in found:
            yield from of_part(found[name])


def _of_removals(found: dict[str, Any]) -> Iterator[Claim]:
    last = found["rows"][-1]
    yield Claim(
        "Weights predict what removing examples does",
        "predicted and true changes lie along the diagonal",
        f"r {last['r']:.2f}, slope {last['slope']:.2f}, for the 10 to 80 most helpful examples removed; the 95% "
        f"intervals hold {last['inside']:.0%}",
        _yes(last["r"] >= 0.85),
        "",
    )


def _of_supports(found: dict[str, Any]) -> Iterator[Claim]:
    plain, safe = found["rows"]
    yield Claim(
        "Predictions are fragile: small sets of examples carry them",
        "many of CIFAR-10's test images flip without a small share of its 50,000 examples",
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
        "What weights predict for the whole pool depends on alpha",
        "alpha is to be chosen by what is asked",
        f"fitted at {half['alpha']}: {half['predicted']:.2f} predicted, {half['true']:.2f} true; at {more['alpha']}: "
        f"{more['predicted']:.2f}, too much by {_span(more['too_much'], 2)}",
        _yes(abs(more["predicted"] - more["true"]) < abs(half["predicted"] - half["true"])),
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


def _of_mislabelled(found: dict[str, Any]) -> Iterator[Claim]:
    mine, *_ = found["rows"].values()
    rates = "; ".join(f"{name} {rate:.2f} ({_span(within, 2)})" for name, (rate, *within) in found["rows"].items())
    best = max(found["rows"], key=lambda name: found["rows"][name][0])
    yield Claim(
        f"Predictions flip once {found['labels']} helpful examples have a wrong label",
        "more by datamodels than by any other",
        f"of {found['targets']} targets: {rates}",
        _yes(best == "datamodels", found["rows"][best][1] > mine[2]),
        "" if best == "datamodels" else f"{best} wins: what lies next to a target, with a wrong label, settles it",
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
            "the chance in a single training cannot be predicted" if it is single else "it averages out",
        )


def _of_baselines(found: dict[str, Any]) -> Iterator[Claim]:
    first, *others = found["rows"]
    best = max(others, key=lambda row: row["figures"][LDS]["value"])
    mine, theirs = first["figures"][LDS], best["figures"][LDS]
    yield Claim(
        "Datamodels predict better than other attributions",
        "above influence functions, TracIn and likenesses",
        f"LDS {mine['value']:.3f}; the best baseline, {best['method']}, {theirs['value']:.3f} "
        f"({_span(theirs['interval'], 3)}), {_signed(theirs['less_datamodels'])}",
        _yes(theirs["less_datamodels"]["interval"][1] < 0, theirs["less_datamodels"]["interval"][0] > 0),
        f"{best['method']} takes {best['models']:,} networks where datamodels take {first['models']:,}, but needs "
        "gradients; influence is near because these networks are small, with strong weight decay",
    )
    for k in predictions.SIZES:
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
    "baselines": _of_baselines,
    "removals": _of_removals,
    "supports": _of_supports,
    "relabellings": _of_relabellings,
    "mislabelled": _of_mislabelled,
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
            *(_baselines_table(run, found["baselines"]["rows"]) if "baselines" in found else ()),
        ]
    )


def _baselines_table(run: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    yield from ("## The baselines", "", f"    datamodels compare {run} --targets 120 --retrain 5", "", "```")
    yield from table.lines(rows)
    yield from ("```", "")
    yield (
        "`models` are those trained for a method: networks of the whole pool for those that take gradients, the run's "
        "own for datamodels and Feldman-Zhang; `seconds` come after. Unsure targets are right in 5% to 95% of models: "
        "where models are always right, Feldman-Zhang's shares say nothing. A flip is a mean output below 0 of models "
        "trained without those examples."
    )
    yield ""
