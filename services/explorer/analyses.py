"""Answer long analyses as the query service does: computed once, shared by all callers, and stored if final."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Response
from starlette.responses import StreamingResponse

from datamodels.analyze.patterns.components import MAP
from datamodels.analyze.patterns.results import Clusters, Components, Conflicts
from datamodels.analyze.quality.agreement import Quality
from datamodels.errors import InputError, UnavailableError
from datamodels.explore import comparing, models, views
from datamodels.explore.opened import Explorer
from datamodels.query.weights import WeightStore
from datamodels.rpc import messages
from datamodels.v1 import query_pb2

from ..query.long import LongCalls
from .streams import Streams

Name = Literal["clusters", "components", "conflicts", "map", "quality"]
Few = Annotated[int, Query(ge=0, lt=2**31, description="0 for the default")]
LEAST = 20
"""Targets of a comparison that are named because they agree least."""


class Analyses:
    """Runs the long analyses of the query service in this process. Call `close` at the end."""

    def __init__(self, weights: WeightStore):
        self._calls = LongCalls(weights)
        self._closed = False

    def close(self) -> None:
        """Cancel what is running."""
        self._closed = True
        self._calls.operations.close()

    # These are what a call of gRPC offers to the methods of LongCalls.
    def watch(self, wake: Callable[[], None]) -> None:
        """Do nothing: `is_active` becomes False only at the end, and then all operations end."""

    def is_active(self) -> bool:
        return not self._closed

    def ask(
        self, name: Name, run: str, *, columns: bool, k: int, extremes: int, groups: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield ("progress", {stage, fraction}) as it goes on, then ("answer", an `Analysis`).

        Raises the errors of the query service.
        """
        calls = self._calls
        answers: dict[str, tuple[Callable[[], Iterator[Any]], type]] = {
            "clusters": (
                lambda: calls.Clusters(query_pb2.ClustersRequest(run=run, columns=columns, k=k), self),
                Clusters,
            ),
            "components": (
                lambda: calls.Components(
                    query_pb2.ComponentsRequest(run=run, columns=columns, k=k, extremes=extremes), self
                ),
                Components,
            ),
            "conflicts": (
                lambda: calls.Conflicts(query_pb2.ConflictsRequest(run=run, groups=groups, k=k), self),
                Conflicts,
            ),
            "map": (
                lambda: calls.Components(query_pb2.ComponentsRequest(run=run, columns=columns, k=MAP), self),
                Components,
            ),
            "quality": (lambda: calls.Evaluate(query_pb2.EvaluateRequest(run=run), self), Quality),
        }
        call, kind = answers[name]
        for response in call():
            if response.HasField("progress"):
                yield "progress", {"stage": response.progress.stage, "fraction": response.progress.fraction}
                continue
            basis = response.provenance
            result: Any = messages.read(getattr(response, "components" if name == "map" else name), kind)
            found = models.Analysis(
                fit=basis.fit,
                models=basis.models,
                partial=basis.partial,
                result=views.plain(views.drawn(result) if name == "map" else result),
            )
            yield "answer", found.model_dump(mode="json")
            return
        raise UnavailableError("the explorer is stopping; ask again")

    def answer(self, name: Name, run: str, **asked: Any) -> models.Analysis:
        """Return the result, once it is there. Raises as `ask` does."""
        *_, (_, found) = self.ask(name, run, **asked)
        return models.Analysis(**found)


def analyses_router(explorer: Explorer, analyses: Analyses, streams: Streams) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/runs/{run}/analyses/{name}")
    def analyse(
        run: str, name: Name, columns: bool = False, k: Few = 0, extremes: Few = 0, groups: str = ""
    ) -> models.Analysis:
        """Return the result of a long analysis of the newest fit, once it is there."""
        return analyses.answer(name, run, columns=columns, k=k, extremes=extremes, groups=groups)

    @router.get("/runs/{run}/analyses/{name}/events", response_class=StreamingResponse)
    def watch_analysis(
        run: str, name: Name, columns: bool = False, k: Few = 0, extremes: Few = 0, groups: str = ""
    ) -> Response:
        """Send the progress of a long analysis as server-sent events `progress`, and its result as `answer`."""
        return streams.analysis(analyses.ask(name, run, columns=columns, k=k, extremes=extremes, groups=groups))

    @router.get("/comparison")
    def compare(one: str, other: str) -> models.ComparisonInfo:
        """Compare two fits, each given as RUN or as RUN@FIT."""
        sides = [explorer.fit(*_side(text)) for text in (one, other)]
        fitted = [side.fitted for side in sides]
        found = comparing.compare(*fitted)
        known = np.flatnonzero(np.isfinite(found.cosine))
        least = known[np.argsort(found.cosine[known], kind="stable")[:LEAST]]
        quantiles = np.quantile(found.cosine[known], [0, 0.25, 0.5, 0.75, 1]).tolist() if len(known) else []
        shared = found.shared[np.isfinite(found.shared)]
        named = [
            models.Side(run=s.fitted.run.name, fit=views.fit(s.fitted.run, s.fitted.record, s.evaluation))
            for s in sides
        ]
        return models.ComparisonInfo(
            one=named[0],
            other=named[1],
            differ=found.differ,
            targets=len(known),
            cosine=quantiles,
            shared=float(shared.mean()) if len(shared) else None,
            least=list(zip(least.tolist(), found.cosine[least].tolist(), strict=True)),
        )

    return router


def _side(text: str) -> tuple[str, int | None]:
    run, _, number = text.partition("@")
    if number and not (number.isdecimal() and len(number) <= 6):
        raise InputError(f"{text[:100]!r}: must be RUN or RUN@FIT")
    return run, int(number) if number else None
