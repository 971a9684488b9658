"""Open what commands read runs from: a store, or a service that reads one."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

from datamodels.cli.common.store import in_cluster, store_of
from datamodels.storage import ObjectStore


@contextlib.contextmanager
def source_of(options: argparse.Namespace) -> Iterator[ObjectStore]:
    """Open the store of `options.run`, or what the query service of --address or of a cluster has of it.

    Through a service nothing is stored: what is computed is lost when the command ends. Raises as `store_of`.
    """
    if not (options.address or in_cluster(options)):
        yield store_of(options)
        return
    from datamodels.cli.common.service import query_client  # brings gRPC along
    from datamodels.rpc.clients.objects import RunStore

    with query_client(options) as client:
        yield RunStore(client, options.run, f"the query service {options.address or 'of the cluster'}")
