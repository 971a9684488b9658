"""Run `datamodels support` and `counterfactual`: ask the query service; with --verify, train models to check it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from datamodels import words
from datamodels.analyze.what_if import pool
from datamodels.analyze.what_if.retrain import Measured, Retrainer, conclusion, measure, measure_relabelled
from datamodels.analyze.what_if.support import FOUND, WRONG
from datamodels.cli.analyses import answers
from datamodels.cli.analyses.ask import columns
from datamodels.cli.common.output import field_of, of_output, print_json
from datamodels.cli.common.service import class_names, query_client
from datamodels.cli.common.training import beside_bars, training
from datamodels.errors import InputError
from datamodels.rpc.clients.query import QueryClient, SupportOf
from datamodels.rpc.codec import from_output
from datamodels.run import runs, specs
from datamodels.settings import TrainerSettings
from datamodels.train.device import limit_threads
from datamodels.train.observer import Counter
from datamodels.v1 import types_pb2

Rows = Iterator[dict[str, Any]]
CHANGES = ("remove", "add", "relabel")
"""Options with sets of columns that change the training set."""


def supports(options: argparse.Namespace) -> None:
    """Print, for each target, the smallest set of examples or labels without which models get it wrong."""
    with query_client(options) as client, training() as counter:
        _print(_supports(client, options, counter), options, answers.of_support)


def counterfactual(options: argparse.Namespace) -> None:
    """Print the predicted outputs of models trained on a changed set of examples."""
    sets = {name: columns(getattr(options, name) or "", f"--{name}") for name in CHANGES}
    if len(sets["relabel"]) and options.verify is not None and options.label is None:
        raise InputError("--relabel: give the class that these get, --label CLASS, to train models with it")
    base = None if options.base is None else columns(options.base, "--base")
    with query_client(options) as client, training() as counter:
        _print(_counterfactual(client, options, base, sets, counter), options, answers.Counterfactuals().lines)


def _print(rows: Rows, options: argparse.Namespace, lines: Callable[[dict[str, Any]], Iterator[str]]) -> None:
    for row in rows:
        with beside_bars():
            print_json(row) if options.json else print("\n".join(lines(row)), flush=True)


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
    if found.status not in (FOUND, WRONG):
        return {"verified": None}
    before, after = check.of([(found.target, check.whole)])[0], None
    if found.status == FOUND:
        after = check.support(found)
    measured = {"verified_before": _measured(before), "verified": None if after is None else _measured(after)}
    return measured | {"conclusion": conclusion(before, after)}


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
        targets, other = found.targets.tolist(), sets["relabel"]
        measured = check.of([(target, before) for target in targets])
        if len(other):
            changed = [check.relabelled(target, other, options.label, after) for target in targets]
        else:
            changed = check.of([(target, after) for target in targets])
        verified = list(zip(measured, changed, strict=True))
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
            return self.relabelled(found.target, found.columns, found.label, self.whole)
        return self.of([(found.target, self.whole & ~self.members(found.columns))])[0]

    def relabelled(self, target: int, columns: np.ndarray, label: int, members: np.ndarray) -> Measured:
        """Measure a target by models of a set bool[d] in which columns int[k] have another label."""
        return measure_relabelled(self._retrainer, self._run, target, columns, label, members)

    def of(self, sets: Sequence[tuple[int, np.ndarray]]) -> list[Measured]:
        return measure(self._retrainer, self._run, sets)


def _basis(provenance: types_pb2.Provenance) -> dict[str, Any]:
    """Mark an answer as partial if the run still trains, and say what is predicted."""
    partial = {"partial": True, "models": provenance.models} if provenance.partial else {}
    return partial | of_output(from_output(provenance.output))


def _measured(found: Measured) -> dict[str, Any]:
    measured = {"models": len(found.outputs), "mean": found.mean, "interval": list(found.interval)}
    if found.share_interval is None:  # nothing says which outputs are wrong
        return measured
    return measured | {"flipped": found.flipped, "share": found.share, "share_interval": list(found.share_interval)}
