"""The verbs of `datamodels query`: ask the query service, print the answer as lines of text or JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format

from datamodels.errors import InputError
from datamodels.rpc.clients.query import QueryClient
from datamodels.settings import ClientSettings

MAX_COLUMNS = 10_000_000
"""More than any run has."""

Connect = Callable[[argparse.Namespace], AbstractContextManager[ClientSettings]]


def add_verbs(
    parser: argparse.ArgumentParser, add_home: Callable[[argparse.ArgumentParser], None], connect: Connect
) -> None:
    """Adds the verbs to a parser. `connect` says where the query service is."""
    verbs = parser.add_subparsers(title="questions", metavar="QUESTION", required=True)

    def verb(name: str, what: str, answer: Callable[[QueryClient, argparse.Namespace], None]):
        added = verbs.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        if name != "runs":
            added.add_argument("run", metavar="RUN", help="the run's name")
        added.add_argument("--address", metavar="HOST:PORT", help="of a query service; by default one is started")
        added.add_argument("--json", action="store_true", help="one JSON object a line")
        add_home(added)
        added.set_defaults(command=lambda options: _ask(options, connect, answer))
        return added

    verb("runs", "list the runs", _runs)
    verb("run", "describe a run", _run)
    verb("targets", "list the targets of a run with lambda, gap and quality", _targets)
    top = verb("top", "show the training examples that help and harm a target most", _top)
    top.add_argument("target", metavar="TARGET", type=int32)
    top.add_argument("-k", type=int32, default=10, help="how many of each (default: 10)")
    similar = verb("similar", "show the targets whose weights are most like those of a target", _similar)
    similar.add_argument("target", metavar="TARGET", type=int32)
    similar.add_argument("-k", type=int32, default=10, help="how many (default: 10)")
    similar.add_argument("--metric", default="cosine", help="cosine (default) or rbf")
    similar.add_argument("--column", action="store_true", help="TARGET is a training column, and so are the answers")
    weights = verb("weights", "print the weights of targets", _weights)
    weights.add_argument("targets", metavar="TARGET", type=int32, nargs="*", help="all by default")
    weights.add_argument("-k", type=int32, default=0, help="only the k largest of each (default: all)")
    predict = verb("predict", "predict the outputs of a model trained on a subset", _predict)
    predict.add_argument(
        "subset", metavar="SUBSET", help="columns as 1,2,5-9, or @FILE with one column, or one such list, a line"
    )
    predict.add_argument("targets", metavar="TARGET", type=int32, nargs="*", help="all by default")


def int32(text: str) -> int:
    """A whole number of an argument."""
    if not text.lstrip("-").isdecimal() or not -(2**31) <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number")
    return int(text)


def _ask(
    options: argparse.Namespace, connect: Connect, answer: Callable[[QueryClient, argparse.Namespace], None]
) -> None:
    with connect(options) as settings, QueryClient(settings.query, settings) as client:
        answer(client, options)


def _print(options: argparse.Namespace, fields: dict[str, Any]) -> None:
    print(json.dumps(fields) if options.json else "  ".join(f"{name} {_spell(v)}" for name, v in fields.items()))


def _spell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _fields(message: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(message, name) for name in names}


def _runs(client: QueryClient, options: argparse.Namespace) -> None:
    for run in client.runs():
        _print(options, _fields(run, "run", "columns", "targets", "models", "fits"))


def _run(client: QueryClient, options: argparse.Namespace) -> None:
    run = client.run(options.run)
    if options.json:
        print(json.dumps(json_format.MessageToDict(run, preserving_proto_field_name=True)))
        return
    for name, value in _fields(
        run, "run", "spec_hash", "alpha", "columns", "examples", "targets", "models", "fits"
    ).items():
        print(f"{name:<10} {_spell(value)}")
    print(f"{'spec':<10} {run.spec_json}")


def _targets(client: QueryClient, options: argparse.Namespace) -> None:
    for target in client.targets(options.run):
        _print(
            options,
            _fields(target, "target", "own_example", "label", "lambda", "gap", "nonzeros", "heldout_r2", "status"),
        )


def _top(client: QueryClient, options: argparse.Namespace) -> None:
    answer = client.top(options.run, options.target, options.k)
    for kind in ("helpful", "harmful"):
        for influence in getattr(answer, kind):
            _print(options, {"effect": kind} | _fields(influence, "column", "label", "weight"))


def _similar(client: QueryClient, options: argparse.Namespace) -> None:
    kind = "column" if options.column else "target"
    answer = client.similar(options.run, k=options.k, metric=options.metric, **{kind: options.target})
    for found in answer.neighbours:
        _print(options, {kind: found.index} | _fields(found, "label", "score"))


def _weights(client: QueryClient, options: argparse.Namespace) -> None:
    for row in client.weights(options.run, options.targets or None, options.k):
        if options.json:
            fields = {"target": row.target, "intercept": row.intercept, "lambda": row.lambda_, "gap": row.gap}
            print(json.dumps(fields | {"columns": row.columns.tolist(), "weights": row.weights.tolist()}))
            continue
        for column, weight in zip(row.columns.tolist(), row.weights.tolist(), strict=True):
            print(f"{row.target}\t{column}\t{weight:.6g}")


def _predict(client: QueryClient, options: argparse.Namespace) -> None:
    answer = client.predict_columns(options.run, columns(options.subset), options.targets or None)
    for target, predicted in zip(answer.targets.tolist(), answer.predictions[0].tolist(), strict=True):
        _print(options, {"target": target, "prediction": predicted})


def columns(text: str) -> np.ndarray:
    """int32[k]: the columns that a text names: 1,2,5-9 or @FILE. Raises InputError naming what is wrong."""
    if text.startswith("@"):
        try:
            text = ",".join(Path(text[1:]).read_text(encoding="utf-8").split())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"subset {text}: cannot be read: {error}") from error
    return np.array(sorted({column for piece in text.split(",") if piece for column in _span(piece)}), dtype=np.int32)


def _span(piece: str) -> Iterable[int]:
    first, dash, last = piece.strip().partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise InputError(f"subset: {piece!r} is no column and no range; write 1,2,5-9")
    span = range(int(first), int(last if dash else first) + 1)
    if not span or span[-1] >= MAX_COLUMNS:
        raise InputError(f"subset: {piece!r} is an empty range, or beyond any column")
    return span
