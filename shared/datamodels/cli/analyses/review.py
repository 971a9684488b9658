"""Run `datamodels review` and `leakage`: review the data of a run by its weights. They need no service."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

from datamodels import words
from datamodels.analyze.patterns import leakage
from datamodels.analyze.patterns.leakage import Pairs
from datamodels.analyze.patterns.review import Overall, review
from datamodels.analyze.quality import evaluate
from datamodels.analyze.quality.interval import LEVEL
from datamodels.analyze.quality.verdict import Verdict, of_evaluation
from datamodels.analyze.what_if import mislabel, relabel
from datamodels.cli.common.output import basis_line, print_json
from datamodels.cli.common.source import source_of
from datamodels.fit.data.problem import Solution
from datamodels.fit.job import fits
from datamodels.fit.job.finished import FitRecord, require_fit
from datamodels.run import runs
from datamodels.run.runs import Run


def _fitted(options: argparse.Namespace) -> tuple[Run, FitRecord, Solution, Verdict | None]:
    """Return the run, its newest fit, and its verdict; None if no evaluation is recorded."""
    with source_of(options) as store:
        run = runs.read(store, options.run).judged(getattr(options, "threshold", None))
        record = require_fit(store, run.name)
        found = evaluate.recorded(store, record.run, record.number)
        verdict = None if found is None else of_evaluation(found, record.rows)
        return record.of(run), record, fits.load(store, record), verdict


def leaks(options: argparse.Namespace) -> None:
    """Print pairs of a target and an example that may be the same."""
    run, _, solution, _ = _fitted(options)
    if options.by == leakage.BY_WEIGHTS:
        found = leakage.by_weights(run, solution, options.k)
    elif options.by == leakage.BY_INPUTS:
        found = leakage.by_inputs(run, runs.load_dataset(run.spec), solution, options.k)
    else:
        found = leakage.find(run, solution, options.k)
    rows = _pairs(run, found)
    if options.json:
        compared = {} if found.close is None else {"compared": found.close.compared}
        print_json(*({"by": found.by} | compared | row for row in rows))
        return
    print("\n".join([*_how(run, found), *_paired(run, found, rows)]))


def review_run(options: argparse.Namespace) -> None:
    """Print all tables of a review."""
    run, record, solution, verdict = _fitted(options)
    found = review(run, solution, k=options.k, share=options.fragile)
    compared: dict[str, str] = {}
    rows = {"helpful": _overall(run, found.helpful), "harmful": _overall(run, found.harmful)}
    if found.fragile is not None:
        fragile = zip(found.fragile.target.tolist(), found.fragile.size.tolist(), strict=True)
        rows["fragile"] = [{"target": t, "label": _label(run.target_labels, t), "size": size} for t, size in fragile]
    if found.suspects is not None:
        labels = relabel.suggested(run, solution, found.suspects)
        suspects = zip(found.suspects.example.tolist(), found.suspects.score.tolist(), labels, strict=True)
        rows["suspects"] = [
            {"example": e, "label": _label(run.labels, e), "score": score, "suggested": label}
            for e, score, label in suspects
        ]
    if found.leaked is not None:
        rows["leaked"] = _pairs(run, found.leaked)
        if found.leaked.close is not None:
            compared = {"compared": found.leaked.close.compared, "verdict": found.leaked.close.verdict}
    if options.json:
        facts = {"run": run.name, "fit": record.number, "models": record.rows, "partial": record.rows < run.spec.m}
        facts |= {"output": run.predicted.name, "label_names": run.label_names, "verdict": verdict}
        counts = None
        if found.fragile is not None:
            counts = {name: getattr(found.fragile, name) for name in ("limit", "count", "of", "wrong")}
            counts["interval"] = found.fragile.interval
        by = {name: table.by for name in ("suspects", "leaked") if (table := getattr(found, name)) is not None}
        print_json(
            facts | rows | {"fragile_targets": counts, "by": by, "left_out": found.left_out} | {"leaks": compared}
        )
        return
    print("\n".join(_lines(run, record, found, rows, verdict)))


def _lines(
    run: Run, record: FitRecord, found: Any, rows: dict[str, list[dict[str, Any]]], verdict: Verdict | None
) -> Iterator[str]:
    partial = {"partial": True} if record.rows < run.spec.m else {}
    yield basis_line({"run": run.name, "fit": record.number, "models": record.rows} | partial)
    yield f"verdict {verdict}" if verdict else "verdict unknown: `datamodels evaluate` measures how good the fit is"
    predicted = run.predicted
    for name, verb in zip(("helpful", "harmful"), predicted.verbs, strict=True):
        of = "" if predicted.directed else f" the {predicted.name}"
        yield (
            f"\nexamples that {verb}{of} most: mean weight over targets, which is the effect on the {predicted.title} "
            f"({LEVEL:.0%} interval over targets)"
        )
        for row in rows[name]:
            example = words.example(row["column"], run.label_name(row["label"]))
            mean, between = words.weight(row["mean"], row.get("measured")), words.interval(row["interval"], signed=True)
            yield f"  {example}  {mean}  ({between})"
    fragile = found.fragile
    if fragile is None:
        yield f"\nfragile: {_why(run, found.left_out['fragile'])}"
    elif fragile.of:
        low, high = fragile.interval
        yield (
            f"\nfragile: {fragile.count} of {fragile.of} targets ({fragile.count / fragile.of:.1%}; {low:.1%} to "
            f"{high:.1%}) are predicted to go wrong if up to {fragile.limit} examples are removed; "
            f"{fragile.wrong} more are predicted to be wrong with the whole pool"
        )
    for row in rows.get("fragile", ()):
        yield f"  {words.target(row['target'], run.target_name(row['target']))}  wrong without {row['size']}"
    yield ""
    if found.suspects is None:
        yield f"wrong labels: {_why(run, found.left_out['suspects'])}"
    else:
        seen = "models that have not seen the example disagree with its label"
        harm = "the example harms targets as wrong labels do"
        yield f"suspected wrong labels, most suspect first: {seen if found.suspects.by == mislabel.OWN else harm}"
        for row in rows["suspects"]:
            rather = "" if row["suggested"] is None else f"  rather {run.label_name(row['suggested'])}?"
            example = words.example(row["example"], run.label_name(row["label"]))
            yield f"  {example}  {words.number(row['score'])}{rather}"
    yield ""
    if found.leaked is None:
        yield f"leaks: {_why(run, found.left_out['leaked'])}"
    else:
        yield from _how(run, found.leaked)
        yield from (f"  {line}" for line in _paired(run, found.leaked, rows["leaked"]))


def _why(run: Run, error: str) -> str:
    return f"left out: {error.removeprefix(f'run {run.name}: ')}"


def _how(run: Run, found: Pairs) -> Iterator[str]:
    if found.close is not None:
        yield f"suspected leaks, by inputs: {found.close.compared}"
        yield "distance is relative: 1 is ordinary, 0 is equal as compared; weight is the effect on the target"
        yield found.close.verdict
        return
    why = f" ({found.reason})" if found.reason else ""
    of = "weights that help the target" if run.predicted.directed else "weights of the target, whatever their sign"
    yield f"suspected leaks, by weights alone{why}: share is the part of all {of}; check them, since most are no leaks"


def _paired(run: Run, found: Pairs, rows: list[dict[str, Any]]) -> Iterator[str]:
    said = [""] * len(rows) if found.close is None else found.close.said
    return (_pair(run, row, same) for row, same in zip(rows, said, strict=True))


def _pair(run: Run, row: dict[str, Any], same: str) -> str:
    unit = "example" if "distance" in row else run.design.unit
    measure = "distance" if "distance" in row else "share"
    weight = "unknown" if row["weight"] is None else words.weight(row["weight"], row.get("measured"))
    example = words.example(row["example"], run.label_name(row["label"]))
    target = words.target(row["target"], run.target_name(row["target"]))
    return f"{target}  {unit} {example}  {measure} {row[measure]:.3f}{same and f'  {same}'}  weight {weight}"


def _pairs(run: Run, found: Pairs) -> list[dict[str, Any]]:
    measure = "distance" if found.by == leakage.BY_INPUTS else "share"
    close = found.close
    more = (
        [{}] * len(found.target)
        if close is None
        else [
            {"same": same or None, "expected": expected}
            for same, expected in zip(close.same.tolist(), close.expected.tolist(), strict=True)
        ]
    )
    labelled = run.labels if found.by == leakage.BY_INPUTS or not run.design.grouped else None
    return [
        {
            "target": target,
            "target_label": _label(run.target_labels, target),
            "example": example,
            "label": _label(labelled, example),
            measure: score,
            "weight": None if np.isnan(weight) else weight,
        }
        | added
        | ({} if part is None else {"measured": part})
        for (target, example, score, weight, part), added in zip(found.rows(), more, strict=True)
    ]


def _overall(run: Run, found: Overall) -> list[dict[str, Any]]:
    labels = None if run.design.grouped else run.labels
    return [
        {"column": column, "label": _label(labels, column), "mean": mean, "interval": interval} | part
        for column, mean, interval, part in zip(
            found.column.tolist(), found.mean.tolist(), found.interval.tolist(), _measured(found), strict=True
        )
    ]


def _measured(found: Overall) -> list[dict[str, float]]:
    """Return how much of the weight of each row was measured; nothing if there is no prior."""
    if found.measured is None:
        return [{} for _ in found.column]
    return [{"measured": part} for part in found.measured.tolist()]


def _label(labels: np.ndarray | None, index: int) -> int | None:
    return None if labels is None else int(labels[index])
