"""Run `datamodels query`: ask the query service, and print the answers as lines of text or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodels import words
from datamodels.cli.common.output import field_of, print_json
from datamodels.cli.common.service import class_names, query_client
from datamodels.errors import InputError
from datamodels.rpc.codec import from_output, from_span
from datamodels.spans import Span

MAX_COLUMNS = 10_000_000
"""More columns than any run has."""


def runs(options: argparse.Namespace) -> None:
    """Print one line for each run."""
    with query_client(options) as client:
        for run in client.runs():
            counted = _fields(run, "columns", "targets", "models", "fits")
            said = (words.count(value, name.removesuffix("s")) for name, value in counted.items())
            _print(options, {"run": run.run} | counted, f"{run.run}  {', '.join(said)}")


_FACTS = ("run", "spec_hash", "alpha", "columns", "examples", "targets", "models", "fits")


def run(options: argparse.Namespace) -> None:
    """Print one line for each fact about a run."""
    with query_client(options) as client:
        found = client.run(options.run)
    if options.json:
        meaning = {"output": from_output(found.output).document(), "output_declared": found.output_declared}
        classes = {"label_names": list(found.label_names)} if found.label_names else {}
        print_json(_fields(found, *_FACTS) | meaning | classes | {"spec": json.loads(found.spec_json)})
        return
    facts = _fields(found, *_FACTS) | {"output": f"{from_output(found.output)}"}
    facts["output"] += "" if found.output_declared else " (assumed)"
    if found.label_names:
        facts["classes"] = ", ".join(found.label_names)
    for name, value in facts.items():
        print(f"{name:<10} {_spell(value)}")
    print(f"{'spec':<10} {found.spec_json}")


def targets(options: argparse.Namespace) -> None:
    """Print one line for each target of a run."""
    names = ("target", "own_example", "label", "lambda", "gap", "nonzeros", "heldout_r2", "status")
    with query_client(options) as client:
        classes = class_names(client, options.run)
        for target in client.targets(options.run):
            span = _span_of(target)
            fields = _fields(target, *names) | _class_of(target.label, classes) | field_of(span)
            facts = [f"{name} {_spell(fields[name])}" for name in names[3:]]
            if target.own_example >= 0:
                facts.insert(0, f"is example {words.example(target.own_example)}")
            name = words.target(target.target, span or words.label(target.label, classes))
            _print(options, fields, "  ".join([name, *facts]))


def top(options: argparse.Namespace) -> None:
    """Print the examples that help and harm a target most, or raise and lower its output if neither is better."""
    with query_client(options) as client:
        classes = class_names(client, options.run)
        answer = client.top(options.run, options.target, options.k)
    effects, span = from_output(answer.provenance.output).effects, _span_of(answer.target)
    if span and not options.json:
        print(words.target(options.target, span))
    if not answer.helpful and not answer.harmful:
        print(f"datamodels: target {options.target}: has no weights", file=sys.stderr)
    for kind, listed in zip(effects, (answer.helpful, answer.harmful), strict=True):
        for influence in listed:
            fields = {"effect": kind} | _fields(influence, "column", "label", "weight")
            fields |= _class_of(influence.label, classes)
            measured = influence.measured if influence.HasField("measured") else None
            fields |= {} if measured is None else {"measured": measured}
            named = words.example(influence.column, words.label(influence.label, classes))
            _print(options, fields, f"{kind}  {named}  {words.weight(influence.weight, measured)}")


def similar(options: argparse.Namespace) -> None:
    """Print the targets, or columns, with the most similar weights."""
    kind = "column" if options.column else "target"
    with query_client(options) as client:
        classes = class_names(client, options.run)
        answer = client.similar(options.run, k=options.k, metric=options.metric, **{kind: options.target})
    for found in answer.neighbours:
        named, span = words.example if options.column else words.target, _span_of(found)
        line = f"{named(found.index, span or words.label(found.label, classes))}  {options.metric} {found.score:.3f}"
        fields = {kind: found.index} | _fields(found, "label", "score") | _class_of(found.label, classes)
        fields |= field_of(span)
        _print(options, fields, line)


def weights(options: argparse.Namespace) -> None:
    """Print target, column, weight and how much of it was measured, with tabs between them.

    Leaves out the last if the fit has no prior. As JSON, prints one object for each target.
    """
    with query_client(options) as client:
        for row in client.weights(options.run, options.targets or None, options.k):
            if options.json:
                fields = {"target": row.target, "intercept": row.intercept, "lambda": row.lambda_, "gap": row.gap}
                measured = {} if row.measured is None else {"measured": row.measured}
                print_json(fields | {"columns": row.columns, "weights": row.weights} | measured)
                continue
            numbers = [row.weights] if row.measured is None else [row.weights, row.measured]
            for column, *parts in zip(row.columns.tolist(), *(part.tolist() for part in numbers), strict=True):
                print("\t".join([str(row.target), str(column), *(f"{part:.6g}" for part in parts)]))


def predict(options: argparse.Namespace) -> None:
    """Print the predicted output of each target."""
    subset = columns(options.subset, "SUBSET")
    with query_client(options) as client:
        answer = client.predict_columns(options.run, subset, options.targets or None)
    output = from_output(answer.provenance.output)
    for target, predicted in zip(answer.targets.tolist(), output.within(answer.predictions[0]).tolist(), strict=True):
        fields = {"target": target, "prediction": predicted, "output": output.name}
        _print(options, fields, f"{words.target(target)}  {output.title} {words.number(predicted)}")


def _print(options: argparse.Namespace, fields: dict[str, Any], line: str) -> None:
    print_json(fields) if options.json else print(line)


def _span_of(message: Any) -> Span | None:
    """Return the span in a message about a target; None if the target is a whole example."""
    return from_span(message.span) if message.HasField("span") else None


def _class_of(label: int, classes: Sequence[str]) -> dict[str, str]:
    """Return the name of a class as a field; no field if classes have no names."""
    return {"label_name": words.label(label, classes)} if classes else {}


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
