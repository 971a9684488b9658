"""The verbs `support` and `counterfactual`: ask the query service; with --verify, train models to check its answer."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from datamodels import run as runs
from datamodels import spec
from datamodels.analyze import pool
from datamodels.analyze.interval import LEVEL
from datamodels.analyze.retrain import Measured, Retrainer, measure, measure_relabelled
from datamodels.analyze.support import FOUND
from datamodels.cli.ask import Connect, columns, int32
from datamodels.cli.evaluate import finite
from datamodels.rpc.clients.query import QueryClient, SupportOf
from datamodels.settings import TrainerSettings
from datamodels.train.device import limit_threads
from datamodels.v1 import types_pb2

Rows = Iterator[dict[str, Any]]


def add_verbs(verbs, add_home: Callable[[argparse.ArgumentParser], None], connect: Connect) -> None:
    """Adds the verbs to the command's. `connect` says where the query service is."""

    def verb(name: str, what: str, answer: Callable[[QueryClient, argparse.Namespace], Rows]):
        added = verbs.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        added.add_argument("run", metavar="RUN", help="the run's name")
        added.add_argument("targets", metavar="TARGET", type=int32, nargs="*", help="all by default")
        added.add_argument("--verify", metavar="R", type=int32, help="check it by training R models on each set, here")
        added.add_argument("--threshold", metavar="X", type=float, default=0.0, help=_THRESHOLD)
        added.add_argument("--address", metavar="HOST:PORT", help="of a query service; by default one is started")
        added.add_argument("--json", action="store_true", help="one JSON object a line")
        add_home(added)
        added.set_defaults(command=lambda options: _ask(options, connect, answer))
        return added

    support = verb("support", "show the smallest set of examples without which models get a target wrong", _support)
    support.add_argument("--limit", metavar="K", type=int32, default=0, help="largest set (default: a fifth of all)")
    support.add_argument(
        "--safety", metavar="X", type=float, default=0.0, help="how far below the threshold to foretell (default: 0)"
    )
    support.add_argument("--mislabel", action="store_true", help="labels to change, and not examples to take out")
    changed = verb("counterfactual", "say what models would say without some examples, or with others", _counterfactual)
    for name, what in (("remove", "to take out"), ("add", "to put in"), ("base", "trained on as it is")):
        default = "; default: the whole pool" if name == "base" else ""
        changed.add_argument(
            f"--{name}", metavar="SUBSET", help=f"columns {what}: 1,2,5-9, or @FILE with such lists{default}"
        )


_THRESHOLD = "outputs below it are wrong (default: 0, for margins)"


def _ask(options: argparse.Namespace, connect: Connect, answer: Callable[..., Rows]) -> None:
    with connect(options) as settings, QueryClient(settings.query, settings) as client:
        for row in answer(client, options):
            print(json.dumps(finite(row)) if options.json else _line(row), flush=True)


def _support(client: QueryClient, options: argparse.Namespace) -> Rows:
    asked = {name: getattr(options, name) for name in ("limit", "safety", "threshold", "mislabel")}
    check = _Check(client, options)
    for found in client.supports(options.run, options.targets or None, **asked):
        row = _basis(found.provenance) | {"target": found.target, "status": found.status, "size": len(found.columns)}
        if len(found.curve):
            row |= {"before": float(found.curve[0]), "after": float(found.curve[-1])}
        if found.label is not None:
            row |= {"new_label": found.label}
        if found.status == FOUND and check.wanted:
            row |= {"verified": _measured(check.support(found))}
        yield row | {"columns": found.columns.tolist()} | ({"curve": found.curve.tolist()} if options.json else {})


def _counterfactual(client: QueryClient, options: argparse.Namespace) -> Rows:
    sets = {name: columns(getattr(options, name) or "") for name in ("remove", "add")}
    base = None if options.base is None else columns(options.base)
    found = client.counterfactual(options.run, options.targets or None, base=base, **sets)
    check, verified = _Check(client, options), None
    if check.wanted:
        before = check.whole if base is None else check.members(base)
        after = (before & ~check.members(sets["remove"])) | check.members(sets["add"])
        targets = found.targets.tolist()
        measured = check.of([(target, members) for members in (before, after) for target in targets])
        verified = list(zip(measured[: len(targets)], measured[len(targets) :], strict=True))
    for i, target in enumerate(found.targets.tolist()):
        row = _basis(found.provenance) | {"target": target}
        row |= {name: getattr(found, name)[i].tolist() for name in _FORETOLD}
        if verified:
            row |= {name: _measured(m) for name, m in zip(("verified_before", "verified"), verified[i], strict=True)}
        yield row


_FORETOLD = ("before", "change", "change_interval", "after", "after_interval")


class _Check:
    """Trains the models that an answer is checked by; loads data and trainer when first asked."""

    def __init__(self, client: QueryClient, options: argparse.Namespace):
        self.wanted = options.verify is not None
        self._threshold = options.threshold
        if self.wanted:
            parsed = spec.parse(json.loads(client.run(options.run).spec_json))
            dataset = runs.load_dataset(parsed)
            self._run = runs.resolve(parsed, dataset)
            self._retrainer = Retrainer(self._run, dataset, options.verify)
            limit_threads(TrainerSettings.load().threads)
            self.whole = pool.whole(self._run)

    def members(self, chosen: np.ndarray) -> np.ndarray:
        return pool.members_of(self._run, chosen, "columns")

    def support(self, found: SupportOf) -> Measured:
        if found.label is not None:
            asked = found.target, found.columns, found.label, self._threshold
            return measure_relabelled(self._retrainer, self._run, *asked)
        return self.of([(found.target, self.whole & ~self.members(found.columns))])[0]

    def of(self, sets: Sequence[tuple[int, np.ndarray]]) -> list[Measured]:
        return measure(self._retrainer, self._run, sets, self._threshold)


def _basis(provenance: types_pb2.Provenance) -> dict[str, Any]:
    """That an answer is partial, where it is."""
    return {"partial": True, "models": provenance.models} if provenance.partial else {}


def _measured(found: Measured) -> dict[str, Any]:
    return {
        "models": len(found.outputs),
        "mean": found.mean,
        "interval": list(found.interval),
        "flipped": found.flipped,
        "share": found.share,
        "share_interval": list(found.share_interval),
    }


def _line(row: dict[str, Any]) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {_spell(value)}" for name, value in row.items())


def _spell(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return "unknown" if math.isnan(value) else f"{value:.4g}"
        case [float(), float()]:
            return f"({LEVEL:.0%}: {_spell(value[0])} to {_spell(value[1])})"
        case list():
            return ",".join(map(str, value)) or "-"
        case dict():
            mean, share = (f"{_spell(value[a])} {_spell(value[b])}" for a, b in _PAIRS)
            return f"{value['flipped']} of {value['models']} models flip, {share}, mean {mean}"
    return str(value)


_PAIRS = (("mean", "interval"), ("share", "share_interval"))
