"""Connect clients of the services that a run uses from start to end. The fitter is separate; see `runners.base`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator

from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.rpc.clients.query import QueryClient
from datamodels.rpc.clients.sampler import SamplerClient
from datamodels.settings import ClientSettings


@dataclasses.dataclass(frozen=True)
class Services:
    """Connected clients of the services that a run uses from start to end.

    query  None if the run ends before it asks the query service
    """

    sampler: SamplerClient
    aggregator: AggregatorClient
    query: QueryClient | None


@contextlib.contextmanager
def connect_services(settings: ClientSettings, names: Collection[str]) -> Iterator[Services]:
    """Yield clients of the services `names` and close them at the end. Raises SettingsError if an address is missing.

    The sampler and the aggregator are always among them.
    """
    with contextlib.ExitStack() as stack:
        yield Services(
            sampler=stack.enter_context(SamplerClient(settings.sampler, settings)),
            aggregator=stack.enter_context(AggregatorClient(settings.aggregator, settings)),
            query=stack.enter_context(QueryClient(settings.query, settings)) if "query" in names else None,
        )
