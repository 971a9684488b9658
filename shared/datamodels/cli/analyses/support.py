"""Run `datamodels support` and `counterfactual`: ask the query service; with --verify, train models to check it."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from datamodels import words
from datamodels.analyze.quality.interval import LEVEL
from datamodels.analyze.what_if import pool
from datamodels.analyze.what_if.retrain import Measured, Retrainer, measure, measure_relabelled
from datamodels.analyze.what_if.support import FOUND, NONE, WRONG
from datamodels.cli.analyses.ask import columns
from datamodels.cli.common.output import field_of, print_json
from datamodels.cli.common.service import class_names, query_client
from datamodels.cli.common.training import beside_bars, training
from datamodels.rpc.clients.query import QueryClient, SupportOf
from datamodels.rpc.codec import from_output
from datamodels.run import runs, specs
from datamodels.settings import TrainerSettings
from datamodels.spans import Span
from datamodels.train.device import limit_threads
from datamodels.train.observer import Counter
from datamodels.v1 import types_pb2

Rows = Iterator[dict[str, Any]]


def supports(options: argparse.Namespace) -> None:
    """Print, for each target, the smallest set of examples or labels without which models get it wrong."""
    with query_client(options) as client, training() as counter:
        _print(_supports(client, options, counter), options, _support_line)


def counterfactual(options: argparse.Namespace) -> None:
    """Print the predicted outputs of models trained on a changed set of examples."""
    sets = {name: columns(getattr(options, name) or "", f"--{name}") for name in ("remove", "add")}
    base = None if options.base is None else columns(options.base, "--base")
    with query_client(options) as client, training() as counter:
        _print(_counterfactual(client, options, base, sets, counter), options, _line)


def _print(rows: Rows, options: argparse.Namespace, line: Callable[[dict[str, Any]], str]) -> None:
    for row in rows:
        with beside_bars():
            print_json(row) if options.json else print(line(row), flush=True)


def _supports(client: QueryClient, options: argparse.Namespace, counter: Counter) -> Rows:
    asked = {name: getattr(options, name) for name in ("limit", "safety", "threshold", "mislabel")}
    check, classes = _Check(client, options, counter), class_names(client, options.run)
    for found in client.supports(options.run, options.targets or None, **asked):
        row = _basis(found.provenance) | {"target": found.target} | field_of(found.span)
        row |= {"status": found.status, "size": len(found.columns)}
        if len(found.curve):
            row |= {"before": float(found.curve[0]), "before_interval": list(found.before_interval)}
            row |= {"after": float(found.curve[-1])}
        if found.label is not None:
            row |= {"new_label": found.label}
            row |= {"new_label_name": words.label(found.label, classes)} if classes else {}
        row |= _verified(check, found) if check.wanted else {}
        yield row | {"columns": found.columns.tolist()} | ({"curve": found.curve.tolist()} if options.json else {})


def _verified(check: _Check, found: SupportOf) -> dict[str, Any]:
    """Train models with nothing removed, and without the support: how many were wrong before is part of the answer."""
    row = {}
    if found.status in (FOUND, WRONG):
        row = {"verified_before": _measured(check.of([(found.target, check.whole)])[0])}
    return row | {"verified": _measured(check.support(found)) if found.status == FOUND else None}


def _counterfactual(
    client: QueryClient,
    options: argparse.Namespace,
    base: np.ndarray | None,
    sets: dict[str, np.ndarray],
    counter: Counter,
) -> Rows:
    found = client.counterfactual(options.run, options.targets or None, base=base, **sets)
    check, verified = _Check(client, options, counter), None
    if check.wanted:
        before = check.whole if base is None else check.members(base)
        after = (before & ~check.members(sets["remove"])) | check.members(sets["add"])
        targets = found.targets.tolist()
        measured = check.of([(target, members) for members in (before, after) for target in targets])
        verified = list(zip(measured[: len(targets)], measured[len(targets) :], strict=True))
    for i, target in enumerate(found.targets.tolist()):
        row = _basis(found.provenance) | {"target": target} | field_of(found.spans[i] if found.spans else None)
        row |= {name: getattr(found, name)[i].tolist() for name in _PREDICTED}
        if verified:
            row |= {name: _measured(m) for name, m in zip(("verified_before", "verified"), verified[i], strict=True)}
        yield row


_PREDICTED = ("before", "before_interval", "change", "change_interval", "after", "after_interval")


class _Check:
    """Trains models to check an answer. Loads the data set only if --verify asks for it."""

    def __init__(self, client: QueryClient, options: argparse.Namespace, counter: Counter):
        self.wanted = options.verify is not None
        if self.wanted:
            described = client.run(options.run)
            parsed = specs.parse(json.loads(described.spec_json))
            dataset = runs.load_dataset(parsed)
            self._run = runs.resolve(parsed, dataset, declared=from_output(described.output)).judged(options.threshold)
            self._retrainer = Retrainer(self._run, dataset, options.verify, counter)
            limit_threads(TrainerSettings.load().threads)
            self.whole = pool.whole(self._run)

    def members(self, chosen: np.ndarray) -> np.ndarray:
        return pool.members_of(self._run, chosen, "columns")

    def support(self, found: SupportOf) -> Measured:
        if found.label is not None:
            return measure_relabelled(self._retrainer, self._run, found.target, found.columns, found.label)
        return self.of([(found.target, self.whole & ~self.members(found.columns))])[0]

    def of(self, sets: Sequence[tuple[int, np.ndarray]]) -> list[Measured]:
        return measure(self._retrainer, self._run, sets)


def _basis(provenance: types_pb2.Provenance) -> dict[str, Any]:
    """Mark an answer as partial if the run still trains, and say what is predicted."""
    partial = {"partial": True, "models": provenance.models} if provenance.partial else {}
    return partial | {"output": from_output(provenance.output).name}


def _measured(found: Measured) -> dict[str, Any]:
    measured = {"models": len(found.outputs), "mean": found.mean, "interval": list(found.interval)}
    if found.share_interval is None:  # nothing says which outputs are wrong
        return measured
    return measured | {"flipped": found.flipped, "share": found.share, "share_interval": list(found.share_interval)}


def _support_line(row: dict[str, Any]) -> str:
    change = f"{row['output']} {_before(row)} to {_spell(row['after'])}" if "after" in row else ""
    size, label = words.count(row["size"], "column"), row.get("new_label_name", row.get("new_label"))
    how = f"without {size}" if label is None else f"with {size} relabelled as {label}"
    match row["status"]:
        case status if status == FOUND:
            found = f"is predicted to go wrong {how}, {change}: {_spell(row['columns'])}"
        case status if status == WRONG:
            found = f"is predicted to be wrong as it is, {row['output']} {_before(row)}"
        case status if status == NONE and not row["size"]:
            found = f"is predicted to stay right: no column helps it, {row['output']} {_before(row)}"
        case status if status == NONE:
            found = f"is predicted to stay right even {how}, {change}"
        case _:
            found = "has no weights"
    partial = f"  (of {words.count(row['models'], 'model')}, not all of the run)" if "partial" in row else ""
    before = f"  verified with nothing changed: {_spell(row['verified_before'])}" if "verified_before" in row else ""
    verified = ""
    if "verified" in row:
        verified = f"  verified {how}: {_spell(row['verified'])}" if row["verified"] else "  no set to verify"
    return f"{words.target(row['target'], _span(row))} {found}{before}{verified}{partial}"


def _before(row: dict[str, Any]) -> str:
    low, _ = row["before_interval"]
    return _spell(row["before"]) + ("" if math.isnan(low) else f" {_spell(row['before_interval'])}")


def _span(row: dict[str, Any]) -> Span | None:
    return Span(**row["span"]) if "span" in row else None


def _line(row: dict[str, Any]) -> str:
    shown = row | ({"span": str(_span(row))} if "span" in row else {})
    return "  ".join(f"{name.replace('_', ' ')} {_spell(value)}" for name, value in shown.items())


def _spell(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return words.number(value)
        case [float(), float()]:
            return f"({LEVEL:.0%}: {_spell(value[0])} to {_spell(value[1])})"
        case list():
            return ",".join(map(str, value)) or "-"
        case dict():
            mean = f"mean {_spell(value['mean'])} {_spell(value['interval'])}"
            if "share" not in value:
                return f"{mean} of {value['models']} models"
            low, high = value["share_interval"]
            wrong = f"{value['flipped']} of {value['models']} models are wrong"
            return f"{wrong}, {value['share']:.0%} ({LEVEL:.0%}: {low:.0%} to {high:.0%}), {mean}"
    return str(value)
