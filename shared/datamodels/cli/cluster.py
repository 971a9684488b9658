"""The verbs about runs of a Kubernetes cluster: submit, status, logs, cancel, list."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from datamodels import spec
from datamodels.errors import SettingsError
from datamodels.runners.cluster import runs
from datamodels.runners.cluster.api import Cluster, connect


def add_verbs(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the verbs by `verb(name, what, command)`, which makes the parser of one."""
    submit = verb("submit", "submit runs to a Kubernetes cluster; again does nothing, or tops up", _submit)
    submit.add_argument("specs", metavar="SPEC", nargs="+", help="YAML file, e.g. deploy/specs/digits.yaml")
    submit.add_argument("--watch", action="store_true", help="stay and show how the run goes, until it is done")
    submit.add_argument("--release", default="", help="of the chart, where a namespace has several")
    logs = verb("logs", "print the log of a run's driver, or of a trainer", _logs)
    logs.add_argument("--index", type=int, help="of the trainer Job; the driver by default")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the pod ends")
    cancel = verb("cancel", "stop a run of a cluster; what is committed is kept", _cancel)
    for each in (logs, cancel):
        each.add_argument("run", metavar="RUN", help="the run's name")
    listed = verb("list", "list the runs of a cluster's namespace", _list)
    for each in (submit, logs, cancel, listed):
        add_place(each)


def add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--namespace", default="", help="of the cluster (default: the context's)")
    parser.add_argument("--context", default="", help="of the kubeconfig (default: the current one)")
    parser.add_argument("--kubeconfig", default="", metavar="FILE", help="default: KUBECONFIG, or ~/.kube/config")


def status(options: argparse.Namespace) -> None:
    """`datamodels status` with a namespace: what the cluster says of its runs and services, or of a run."""
    if options.verify:
        raise SettingsError("--verify reads the store; leave out --namespace and give --store")
    said: Iterable[str]
    if not options.run:
        cluster = _cluster(options)
        said = [*runs.listed(cluster), *runs.service_lines(cluster)]
    else:
        said = runs.lines(_cluster(options), options.run)
    for line in said:
        print(line)


def _cluster(options: argparse.Namespace) -> Cluster:
    return connect(options.namespace, context=options.context, kubeconfig=options.kubeconfig)


def _submit(options: argparse.Namespace) -> None:
    wanted = [spec.load(path) for path in options.specs]
    cluster = _cluster(options)
    for each in wanted:
        print(f"run {each.run} {runs.submit(cluster, each, options.release).words}", flush=True)
    if not options.watch:
        print(f"datamodels status {wanted[-1].run} --namespace {cluster.namespace}   # how it goes")
        return
    for each in wanted:
        runs.watch(cluster, each.run, lambda line: print(line, flush=True))


def _logs(options: argparse.Namespace) -> None:
    for line in runs.log(_cluster(options), options.run, index=options.index, follow=options.follow):
        print(line, flush=True)


def _cancel(options: argparse.Namespace) -> None:
    runs.cancel(_cluster(options), options.run)
    print(f"run {options.run} is cancelled; what is committed is kept, submit it again to go on")


def _list(options: argparse.Namespace) -> None:
    for line in runs.listed(_cluster(options)):
        print(line)
