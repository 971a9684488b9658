"""Call long analyses of the query service: report their progress, and return their results as dataclasses."""

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
"""Receives the current stage, as text, and the fraction of the work that is done, 0 to 1."""


@dataclasses.dataclass(frozen=True, eq=False)
class Answer(Generic[T]):
    """Result of an analysis, and the fit that it comes from.

    provenance  the run, the fit and its number of models
    found       the dataclass that the analysis returns
    """

    provenance: types_pb2.Provenance
    found: T


def quiet(stage: str, fraction: float) -> None:
    """Report no progress."""


class AnalysesClient(Client):
    """Calls long analyses. Each call waits for its answer, and is repeated while the service is unavailable.

    `tell` is called with the progress. An exception in it, or Ctrl-C, cancels the analysis. Calls raise the errors of
    the service.
    """

    with_token = True
    _stub: query_pb2_grpc.QueryServiceStub

    def evaluate(self, run: str, *, tell: Tell = quiet) -> Answer[Quality]:
        """Measure how good predictions of unseen subsets are.

        `evaluation.deviations` of the result is empty, because messages do not have it.
        """
        request = query_pb2.EvaluateRequest(run=run)
        return self._repeat(lambda: _answer(self._stub.Evaluate(request), "quality", Quality, tell))

    def clusters(self, run: str, *, columns: bool = False, k: int = 0, tell: Tell = quiet) -> Answer[Clusters]:
        """Find k clusters of targets, or of columns. For k = 0, the eigengap chooses their number."""
        request = query_pb2.ClustersRequest(run=run, columns=columns, k=k)
        return self._repeat(lambda: _answer(self._stub.Clusters(request), "clusters", Clusters, tell))

    def components(
        self, run: str, *, columns: bool = False, k: int = 0, extremes: int = 0, tell: Tell = quiet
    ) -> Answer[Components]:
        """Find principal components of targets, or of columns.

        k         number of components; 0 for 5
        extremes  number of vectors and of features to return for each end of a component; 0 for 10
        """
        request = query_pb2.ComponentsRequest(run=run, columns=columns, k=k, extremes=extremes)
        return self._repeat(lambda: _answer(self._stub.Components(request), "components", Components, tell))

    def conflicts(self, run: str, *, groups: str = "", k: int = 0, tell: Tell = quiet) -> Answer[Conflicts]:
        """Find groups of columns that harm groups of targets.

        groups  "classes" or "clusters"; by default classes
        k       number of clusters of each kind; 0 lets the eigengap choose
        """
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
