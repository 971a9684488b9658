"""Run the commands about runs of a Kubernetes cluster: submit, status, logs, cancel, list."""

from __future__ import annotations

import argparse
import functools
from typing import Any

from datamodels.cli.common.output import print_json
from datamodels.errors import SettingsError
from datamodels.run import specs
from datamodels.runners.cluster import runs
from datamodels.runners.cluster.api import Cluster, connect
from datamodels.runners.cluster.runs import Listed


def status(options: argparse.Namespace) -> None:
    """Print what the cluster says about a run, or about all its runs and services."""
    if options.verify:
        raise SettingsError("--verify reads the store; give --store instead of --namespace, --context and --kubeconfig")
    cluster = _cluster(options)
    if options.run:
        found = runs.described(cluster, options.run, options.release)
        notes = list(runs.notes(cluster, options.run, options.release))
        _print(options, _fields(found) | {"notes": notes}, "\n".join([f"{found}", *notes]))
        return
    _print_runs(cluster, options)
    for line in runs.service_lines(cluster, options.release):
        _print(options, {"service": line.partition(":")[0], "note": line.partition(": ")[2]}, line)


def _cluster(options: argparse.Namespace) -> Cluster:
    return connect(options.namespace, context=options.context, kubeconfig=options.kubeconfig)


def _print(options: argparse.Namespace, fields: dict[str, Any], line: str) -> None:
    print_json(fields) if options.json else print(line, flush=True)


def _print_note(options: argparse.Namespace, run: str, line: str) -> None:
    _print(options, {"run": run, "note": line}, line)


def _fields(found: Listed) -> dict[str, Any]:
    where = {"release": found.release or None, "store": found.store or None}
    return {"run": found.run, "state": found.state.value, "reason": found.reason or None} | where


def submit(options: argparse.Namespace) -> None:
    """Submit runs, and print what happens to them."""
    wanted = [specs.load(path) for path in options.specs]
    cluster = _cluster(options)
    for each in wanted:
        done = runs.submit(cluster, each, options.release)
        _print(options, {"run": each.run, "note": done.words}, f"run {each.run} {done.words}")
    if not options.watch:
        if not options.json:
            print(f"datamodels status {wanted[-1].run} --namespace {cluster.namespace}   # shows its progress")
        return
    for each in wanted:
        runs.watch(cluster, each.run, functools.partial(_print_note, options, each.run), options.release)


def logs(options: argparse.Namespace) -> None:
    """Print the log of a pod."""
    chosen = {"index": options.index, "follow": options.follow, "release": options.release}
    for line in runs.log(_cluster(options), options.run, **chosen):
        print(line, flush=True)


def cancel(options: argparse.Namespace) -> None:
    """Stop a run."""
    runs.cancel(_cluster(options), options.run, options.release)
    said = "is cancelled; what is committed is kept, submit it again to resume"
    _print(options, {"run": options.run, "note": said}, f"run {options.run} {said}")


def scale(options: argparse.Namespace) -> None:
    """Change how many trainers of a run work at once."""
    runs.scale(_cluster(options), options.run, options.trainers, options.release, options.pool)
    said = f"has up to {options.trainers} trainers at once"
    _print(options, {"run": options.run, "note": said}, f"run {options.run} {said}")


def suspend(options: argparse.Namespace) -> None:
    """Stop the trainers of a run."""
    runs.suspend(_cluster(options), options.run, True, options.release)
    said = "is suspended: its trainers commit finished models and stop; `datamodels resume` lets them go on"
    _print(options, {"run": options.run, "note": said}, f"run {options.run} {said}")


def resume(options: argparse.Namespace) -> None:
    """Let the trainers of a run go on."""
    runs.suspend(_cluster(options), options.run, False, options.release)
    said = "goes on"
    _print(options, {"run": options.run, "note": said}, f"run {options.run} {said}")


def list_runs(options: argparse.Namespace) -> None:
    """Print one line for each run."""
    _print_runs(_cluster(options), options)


def _print_runs(cluster: Cluster, options: argparse.Namespace) -> None:
    for found in runs.listed(cluster, options.release):
        _print(options, _fields(found), f"{found}")
