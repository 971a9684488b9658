"""Run the commands about runs of a Kubernetes cluster: submit, status, logs, cancel, list."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from datamodels.errors import SettingsError
from datamodels.run import specs
from datamodels.runners.cluster import runs
from datamodels.runners.cluster.api import Cluster, connect


def status(options: argparse.Namespace) -> None:
    """Print what the cluster says about a run, or about all its runs and services."""
    if options.verify:
        raise SettingsError("--verify reads the store; give --store instead of --namespace, --context and --kubeconfig")
    if not options.run:
        cluster = _cluster(options)
        said: Iterable[str] = [*runs.listed(cluster), *runs.service_lines(cluster)]
    else:
        said = runs.lines(_cluster(options), options.run)
    for line in said:
        print(line)


def _cluster(options: argparse.Namespace) -> Cluster:
    return connect(options.namespace, context=options.context, kubeconfig=options.kubeconfig)


def submit(options: argparse.Namespace) -> None:
    """Submit runs, and print what happens to them."""
    wanted = [specs.load(path) for path in options.specs]
    cluster = _cluster(options)
    for each in wanted:
        print(f"run {each.run} {runs.submit(cluster, each, options.release).words}", flush=True)
    if not options.watch:
        print(f"datamodels status {wanted[-1].run} --namespace {cluster.namespace}   # shows its progress")
        return
    for each in wanted:
        runs.watch(cluster, each.run, lambda line: print(line, flush=True))


def logs(options: argparse.Namespace) -> None:
    """Print the log of a pod."""
    for line in runs.log(_cluster(options), options.run, index=options.index, follow=options.follow):
        print(line, flush=True)


def cancel(options: argparse.Namespace) -> None:
    """Stop a run."""
    runs.cancel(_cluster(options), options.run)
    print(f"run {options.run} is cancelled; what is committed is kept, submit it again to resume")


def list_runs(options: argparse.Namespace) -> None:
    """Print one line for each run."""
    for line in runs.listed(_cluster(options)):
        print(line)
