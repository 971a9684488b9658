"""The long calls of the query client, which report progress and return what the analysis itself returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from datamodels.analyze.patterns.results import Clusters, Components, Conflicts
from datamodels.analyze.quality.agreement import Quality
from datamodels.errors import UnavailableError
from datamodels.rpc import messages
from datamodels.rpc.clients.base import Client
from datamodels.v1 import query_pb2, query_pb2_grpc, types_pb2

T = TypeVar("T")

Tell = Callable[[str, float], None]
"""Called with what is being done and the fraction that is done."""


@dataclasses.dataclass(frozen=True, eq=False)
class Answer(Generic[T]):
    """What an analysis found, and which fit it comes from."""

    provenance: types_pb2.Provenance
    found: T


def quiet(stage: str, fraction: float) -> None:
    """Report no progress."""


class AnalysesClient(Client):
    """Long calls. Each waits for its answer, and is repeated while the service is unavailable.

    An exception in `tell`, or Ctrl-C, cancels the analysis. Raises the errors of the service.
    """

    _stub: query_pb2_grpc.QueryServiceStub

    def evaluate(self, run: str, *, tell: Tell = quiet) -> Answer[Quality]:
        """Measure how good predictions of unseen subsets are. `evaluation.deviations` is empty: it does not travel."""
        request = query_pb2.EvaluateRequest(run=run)
        return self._repeat(lambda: _answer(self._stub.Evaluate(request), "quality", Quality, tell))

    def clusters(self, run: str, *, columns: bool = False, k: int = 0, tell: Tell = quiet) -> Answer[Clusters]:
        """Find k clusters of targets, or of columns; for k = 0 the eigengap chooses their number."""
        request = query_pb2.ClustersRequest(run=run, columns=columns, k=k)
        return self._repeat(lambda: _answer(self._stub.Clusters(request), "clusters", Clusters, tell))

    def components(
        self, run: str, *, columns: bool = False, k: int = 0, extremes: int = 0, tell: Tell = quiet
    ) -> Answer[Components]:
        """Find k principal components of targets, or of columns, 5 for k = 0; with 10 extremes of each for 0."""
        request = query_pb2.ComponentsRequest(run=run, columns=columns, k=k, extremes=extremes)
        return self._repeat(lambda: _answer(self._stub.Components(request), "components", Components, tell))

    def conflicts(self, run: str, *, groups: str = "", k: int = 0, tell: Tell = quiet) -> Answer[Conflicts]:
        """Find groups of columns that harm groups of targets: classes, or k clusters."""
        request = query_pb2.ConflictsRequest(run=run, groups=groups, k=k)
        return self._repeat(lambda: _answer(self._stub.Conflicts(request), "conflicts", Conflicts, tell))


def _answer(call: Any, field: str, kind: type[T], tell: Tell) -> Answer[T]:
    try:
        for message in call:
            if message.WhichOneof("answer") == field:
                return Answer(message.provenance, messages.read(getattr(message, field), kind))
            tell(message.progress.stage, message.progress.fraction)
    finally:
        call.cancel()
    raise UnavailableError("the query service ended the call without an answer; ask again")
