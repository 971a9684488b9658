"""`datamodels review` and `datamodels leakage`: what the weights of a run say of its data. They need no service."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from datamodels import run as runs
from datamodels.analyze import leakage, mislabel
from datamodels.analyze.interval import LEVEL
from datamodels.analyze.leakage import Pairs
from datamodels.analyze.review import Overall, review
from datamodels.cli.ask import int32
from datamodels.errors import NotReadyError
from datamodels.fit import store as fits
from datamodels.fit.problem import Solution
from datamodels.fit.store import FitRecord
from datamodels.run import Run
from datamodels.storage import ObjectStore

ROWS = 10


def add_verbs(verbs, add_home: Callable[[argparse.ArgumentParser], None], store_of: Callable[..., ObjectStore]) -> None:
    """Adds the verbs to the command's. `store_of` opens the store that options name."""

    def verb(name: str, what: str, command: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        added.add_argument("run", metavar="RUN", help="the run's name")
        added.add_argument("-k", type=int32, default=ROWS, help=f"rows of a table (default: {ROWS})")
        add_home(added)
        added.set_defaults(command=command, store_of=store_of)
        return added

    report = verb("review", "report on the data: what helps and harms, hangs by little, seems wrong or leaked", _review)
    report.add_argument(
        "--brittle",
        metavar="X",
        type=float,
        default=0.05,
        help="share of the pool that supports may have (default: .05)",
    )
    report.add_argument("--json", action="store_true", help="one JSON object")
    pairs = verb("leakage", "show test examples that are in the training pool, or nearly", _leakage)
    pairs.add_argument(
        "--by",
        choices=("inputs", "weights"),
        help="default: inputs where the data set can be loaded here, else weights",
    )
    pairs.add_argument("--json", action="store_true", help="one JSON object a line")


def _fitted(options: argparse.Namespace) -> tuple[Run, FitRecord, Solution]:
    store = options.store_of(options)
    run = runs.read(store, options.run)
    record = fits.read_newest_fit(store, run.name)
    if record is None:
        raise NotReadyError(f"run {run.name}: has no weights yet; `datamodels fit` makes them")
    return run, record, fits.load(store, record)


def _leakage(options: argparse.Namespace) -> None:
    run, _, solution = _fitted(options)
    if options.by == leakage.BY_WEIGHTS:
        found = leakage.by_weights(run, solution, options.k)
    elif options.by == leakage.BY_INPUTS:
        found = leakage.by_inputs(run, runs.load_dataset(run.spec), solution, options.k)
    else:
        found = leakage.find(run, solution, options.k)
    rows = _pairs(run, found)
    if options.json:
        print("\n".join(json.dumps({"by": found.by} | row) for row in rows))
        return
    print(_how(found))
    print("\n".join(_pair(run, row) for row in rows))


def _review(options: argparse.Namespace) -> None:
    run, record, solution = _fitted(options)
    found = review(run, solution, k=options.k, share=options.brittle)
    rows = {"helpful": _overall(run, found.helpful), "harmful": _overall(run, found.harmful)}
    hanging = zip(found.brittle.target.tolist(), found.brittle.size.tolist(), strict=True)
    rows["brittle"] = [{"target": t, "label": _label(run.target_labels, t), "size": size} for t, size in hanging]
    if found.suspects is not None:
        suspects = zip(found.suspects.example.tolist(), found.suspects.score.tolist(), strict=True)
        rows["suspects"] = [{"example": e, "label": _label(run.labels, e), "score": score} for e, score in suspects]
    if found.leaked is not None:
        rows["leaked"] = _pairs(run, found.leaked)
    if options.json:
        facts = {"run": run.name, "fit": record.number, "models": record.rows, "partial": record.rows < run.spec.m}
        counts = {name: getattr(found.brittle, name) for name in ("limit", "count", "of", "wrong")}
        counts["interval"] = [None if np.isnan(end) else end for end in found.brittle.interval]
        by = {name: table.by for name in ("suspects", "leaked") if (table := getattr(found, name)) is not None}
        print(json.dumps(facts | rows | {"brittle_targets": counts, "by": by, "left_out": found.left_out}))
        return
    print("\n".join(_lines(run, record, found, rows)))


def _lines(run: Run, record: FitRecord, found: Any, rows: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    missing = " (not all are trained or committed)" if record.rows < run.spec.m else ""
    yield f"run {run.name}, fit {record.number} of {record.rows:,} models{missing}"
    for name, what in (("helpful", "help"), ("harmful", "harm")):
        yield f"\nexamples that {what} most: mean weight over targets ({LEVEL:.0%} interval over targets)"
        for row in rows[name]:
            low, high = row["interval"]
            yield f"  #{row['column']}{_named(row)}  {row['mean']:+.4f}  ({low:+.4f} to {high:+.4f})"
    hanging = found.brittle
    if hanging.of:
        low, high = hanging.interval
        yield (
            f"\nbrittle: {hanging.count} of {hanging.of} targets ({hanging.count / hanging.of:.1%}; {low:.1%} to "
            f"{high:.1%}) are foretold to go wrong without at most {hanging.limit} examples; {hanging.wrong} more are "
            "wrong as it is"
        )
    for row in rows["brittle"]:
        yield f"  target {row['target']}{_named(row)}  without {row['size']}"
    yield ""
    if found.suspects is None:
        yield f"wrong labels: {found.left_out['suspects']}"
    else:
        how = "models that have not seen them disagree" if found.suspects.by == mislabel.OWN else "they harm like one"
        yield f"suspected wrong labels, for {how}; most suspect first"
        for row in rows["suspects"]:
            yield f"  #{row['example']}{_named(row)}  {row['score']:.3f}"
    yield ""
    if found.leaked is None:
        yield f"leaks: {found.left_out['leaked']}"
    else:
        yield _how(found.leaked)
        yield from (f"  {_pair(run, row)}" for row in rows["leaked"])


def _how(found: Pairs) -> str:
    if found.by == leakage.BY_INPUTS:
        return "suspected leaks, by inputs: distance 0 is a copy, 1 nothing special; the weight is what it is worth"
    why = f" ({found.reason})" if found.reason else ""
    return f"suspected leaks, by weights alone{why}: share of all that helps the target; most are none, look at them"


def _pair(run: Run, row: dict[str, Any]) -> str:
    unit = "example" if run.design.kind != "grouped" or "distance" in row else "group"
    measure = "distance" if "distance" in row else "share"
    weight = "unknown" if row["weight"] is None else f"{row['weight']:+.3f}"
    label, target_label = (_named({"label": row[name]}) for name in ("label", "target_label"))
    return (
        f"target {row['target']}{target_label}  {unit} #{row['example']}{label}  {measure} {row[measure]:.3f}  "
        f"weight {weight}"
    )


def _pairs(run: Run, found: Pairs) -> list[dict[str, Any]]:
    measure = "distance" if found.by == leakage.BY_INPUTS else "share"
    labelled = run.labels if found.by == leakage.BY_INPUTS or run.design.kind != "grouped" else None
    return [
        {
            "target": target,
            "target_label": _label(run.target_labels, target),
            "example": example,
            "label": _label(labelled, example),
            measure: score,
            "weight": None if np.isnan(weight) else weight,
        }
        for target, example, score, weight in zip(
            *(getattr(found, name).tolist() for name in ("target", "example", "score", "weight")), strict=True
        )
    ]


def _overall(run: Run, found: Overall) -> list[dict[str, Any]]:
    labels = None if run.design.kind == "grouped" else run.labels
    return [
        {"column": column, "label": _label(labels, column), "mean": mean, "interval": interval}
        for column, mean, interval in zip(
            found.column.tolist(), found.mean.tolist(), found.interval.tolist(), strict=True
        )
    ]


def _label(labels: np.ndarray | None, index: int) -> int | None:
    return None if labels is None else int(labels[index])


def _named(row: dict[str, Any]) -> str:
    return "" if row["label"] is None else f" ({row['label']})"
