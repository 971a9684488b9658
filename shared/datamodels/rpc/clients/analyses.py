"""The long calls of the query client: progress as it comes, and the answer as the analysis itself gives it."""

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
"""Called with what is being done and the share that is done."""


@dataclasses.dataclass(frozen=True, eq=False)
class Answer(Generic[T]):
    provenance: types_pb2.Provenance
    found: T


def quiet(stage: str, fraction: float) -> None:
    pass


class AnalysesClient(Client):
    """Each call waits for its answer, and is made again while the service is unavailable. Raises its errors.

    An exception that `tell` raises, or Ctrl-C, cancels the analysis.
    """

    _stub: query_pb2_grpc.QueryServiceStub

    def evaluate(self, run: str, *, tell: Tell = quiet) -> Answer[Quality]:
        """How good predictions of unseen subsets are; `evaluation.deviations` stay behind."""
        request = query_pb2.EvaluateRequest(run=run)
        return self._repeat(lambda: _answer(self._stub.Evaluate(request), "quality", Quality, tell))

    def clusters(self, run: str, *, columns: bool = False, k: int = 0, tell: Tell = quiet) -> Answer[Clusters]:
        """Clusters of targets, or of columns; by the eigengap where k is 0."""
        request = query_pb2.ClustersRequest(run=run, columns=columns, k=k)
        return self._repeat(lambda: _answer(self._stub.Clusters(request), "clusters", Clusters, tell))

    def components(
        self, run: str, *, columns: bool = False, k: int = 0, extremes: int = 0, tell: Tell = quiet
    ) -> Answer[Components]:
        """Principal components of targets, or of columns; 5 where k is 0, with 10 extremes where that is 0."""
        request = query_pb2.ComponentsRequest(run=run, columns=columns, k=k, extremes=extremes)
        return self._repeat(lambda: _answer(self._stub.Components(request), "components", Components, tell))

    def conflicts(self, run: str, *, groups: str = "", k: int = 0, tell: Tell = quiet) -> Answer[Conflicts]:
        """Groups of columns that harm groups of targets: classes, or clusters."""
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
