"""Connect to the query service that the options name, and format what all its answers have in common."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from datamodels.cli.common.output import of_output
from datamodels.cli.common.store import in_cluster, store_of, store_settings
from datamodels.errors import SettingsError
from datamodels.rpc.clients.analyses import Answer, Tell
from datamodels.rpc.clients.query import QueryClient
from datamodels.rpc.codec import from_output
from datamodels.runners.local import LocalRunner
from datamodels.runners.view import view
from datamodels.settings import ClientSettings


@contextlib.contextmanager
def query_client(options: argparse.Namespace) -> Iterator[QueryClient]:
    """Connect to the query service of --address, of a cluster or DATAMODELS_CLIENT_QUERY, else to one of this command.

    Raises SettingsError if both --address and --namespace are given, and what connecting to a cluster raises.
    """
    settings = ClientSettings.load()
    with contextlib.ExitStack() as stack:
        if in_cluster(options):
            settings = stack.enter_context(_in_cluster(options, settings))
        elif address := options.address or settings.query:
            settings = dataclasses.replace(settings, query=address)
        else:
            store_of(options)  # a service would create the store
            runner = LocalRunner(options.home, store=store_settings(options), trainers=1)
            settings = stack.enter_context(runner.services(["query"]))
        yield stack.enter_context(QueryClient(settings.query, settings))


@contextlib.contextmanager
def _in_cluster(options: argparse.Namespace, settings: ClientSettings) -> Iterator[ClientSettings]:
    """Forward a port to the query service of a namespace."""
    from datamodels.runners.cluster.api import connect  # needs the package kubernetes
    from datamodels.runners.cluster.forward import forwarded

    if options.address:
        raise SettingsError("--address and --namespace name two services; give one of them")
    cluster = connect(options.namespace, context=options.context, kubeconfig=options.kubeconfig)
    with forwarded(cluster, "query", options.release) as (address, name):
        yield dataclasses.replace(settings, query=address, server_name=settings.server_name or name)


@contextlib.contextmanager
def progress(name: str) -> Iterator[Tell]:
    """Yield a function that shows the progress of a long analysis."""
    with view().stage(name, "of it") as bar:
        yield lambda stage, fraction: bar.reach(round(fraction, 2), stage)


def class_names(client: QueryClient, run: str) -> tuple[str, ...]:
    """Return the names of a run's classes; empty if they have none."""
    return tuple(client.run(run).label_names)


def basis(answer: Answer[Any]) -> dict[str, Any]:
    """Name the fit that an answer comes from, and what its weights predict.

    `partial` is there if not all models of the run were fitted, `chosen` if the estimator has chosen between ways to
    weigh a prior.
    """
    found = answer.provenance
    fields = {"run": found.run, "fit": found.fit, "models": found.models} | of_output(from_output(found.output))
    chosen = {"chosen": found.chosen} if found.chosen else {}
    return fields | ({"partial": True} if found.partial else {}) | chosen
