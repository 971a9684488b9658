"""`datamodels query`: asks the query service, and prints the answers as lines of text or JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format

from datamodels import words
from datamodels.cli.common.service import query_client
from datamodels.errors import InputError

MAX_COLUMNS = 10_000_000
"""More columns than any run has."""


def runs(options: argparse.Namespace) -> None:
    """Print one line for each run."""
    with query_client(options) as client:
        for run in client.runs():
            counted = _fields(run, "columns", "targets", "models", "fits")
            said = (words.count(value, name.removesuffix("s")) for name, value in counted.items())
            _print(options, {"run": run.run} | counted, f"{run.run}  {', '.join(said)}")


def run(options: argparse.Namespace) -> None:
    """Print one line for each fact about a run."""
    with query_client(options) as client:
        found = client.run(options.run)
    if options.json:
        print(json.dumps(json_format.MessageToDict(found, preserving_proto_field_name=True)))
        return
    names = ("run", "spec_hash", "alpha", "columns", "examples", "targets", "models", "fits")
    for name, value in _fields(found, *names).items():
        print(f"{name:<10} {_spell(value)}")
    print(f"{'spec':<10} {found.spec_json}")


def targets(options: argparse.Namespace) -> None:
    """Print one line for each target of a run."""
    names = ("target", "own_example", "label", "lambda", "gap", "nonzeros", "heldout_r2", "status")
    with query_client(options) as client:
        for target in client.targets(options.run):
            fields = _fields(target, *names)
            facts = [f"{name} {_spell(fields[name])}" for name in names[3:]]
            if target.own_example >= 0:
                facts.insert(0, f"is example {words.example(target.own_example)}")
            _print(options, fields, "  ".join([words.target(target.target, target.label), *facts]))


def top(options: argparse.Namespace) -> None:
    """Print the examples with the largest and the smallest weights of a target."""
    with query_client(options) as client:
        answer = client.top(options.run, options.target, options.k)
    for kind in ("helpful", "harmful"):
        for influence in getattr(answer, kind):
            fields = {"effect": kind} | _fields(influence, "column", "label", "weight")
            named = words.example(influence.column, influence.label)
            _print(options, fields, f"{kind}  {named}  {influence.weight:+.3f}")


def similar(options: argparse.Namespace) -> None:
    """Print the targets, or columns, with the most similar weights."""
    kind = "column" if options.column else "target"
    with query_client(options) as client:
        answer = client.similar(options.run, k=options.k, metric=options.metric, **{kind: options.target})
    for found in answer.neighbours:
        named = words.example if options.column else words.target
        line = f"{named(found.index, found.label)}  {options.metric} {found.score:.3f}"
        _print(options, {kind: found.index} | _fields(found, "label", "score"), line)


def weights(options: argparse.Namespace) -> None:
    """Print target, column and weight, with tabs between them; as JSON, one object for each target."""
    with query_client(options) as client:
        for row in client.weights(options.run, options.targets or None, options.k):
            if options.json:
                fields = {"target": row.target, "intercept": row.intercept, "lambda": row.lambda_, "gap": row.gap}
                print(json.dumps(fields | {"columns": row.columns.tolist(), "weights": row.weights.tolist()}))
                continue
            for column, weight in zip(row.columns.tolist(), row.weights.tolist(), strict=True):
                print(f"{row.target}\t{column}\t{weight:.6g}")


def predict(options: argparse.Namespace) -> None:
    """Print the predicted output of each target."""
    subset = columns(options.subset, "SUBSET")
    with query_client(options) as client:
        answer = client.predict_columns(options.run, subset, options.targets or None)
    for target, predicted in zip(answer.targets.tolist(), answer.predictions[0].tolist(), strict=True):
        _print(options, {"target": target, "prediction": predicted}, f"{words.target(target)}  output {predicted:.3f}")


def _print(options: argparse.Namespace, fields: dict[str, Any], line: str) -> None:
    print(json.dumps(fields) if options.json else line)


def _spell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _fields(message: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(message, name) for name in names}


def columns(text: str, name: str) -> np.ndarray:
    """Parse a set of columns, 1,2,5-9 or @FILE: int32[k], ascending.

    name  the argument that gives the set, for messages

    Raises InputError.
    """
    if text.startswith("@"):
        try:
            text = ",".join(Path(text[1:]).read_text(encoding="utf-8").split())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{name} {text}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}"
            ) from error
    return np.array(
        sorted({column for piece in text.split(",") if piece for column in _span(piece, name)}), dtype=np.int32
    )


def _span(piece: str, name: str) -> Iterable[int]:
    first, dash, last = piece.strip().partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise InputError(f"{name} {piece!r}: must be columns or ranges of them, as in 1,2,5-9")
    span = range(int(first), int(last if dash else first) + 1)
    if not span or span[-1] >= MAX_COLUMNS:
        raise InputError(f"{name} {piece!r}: is an empty range, or beyond any column")
    return span
