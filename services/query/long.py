"""Serve the long calls of the query service. Each runs an operation, and streams its progress and then its answer."""

from __future__ import annotations

import dataclasses
import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from datamodels.aggregate import manifest
from datamodels.analyze.patterns import clusters, components, conflicts
from datamodels.analyze.quality.unseen import Unseen
from datamodels.analyze.what_if import pool
from datamodels.errors import InputError, UnavailableError
from datamodels.query.limits import MAX_ANSWER_BYTES, MAX_TOP
from datamodels.query.operations import OperationProgress, Operations, Tell
from datamodels.query.weights import Fitted, WeightStore
from datamodels.rpc import codec, messages
from datamodels.run.runs import Run
from datamodels.storage import decode, keys, records
from datamodels.v1 import query_pb2, types_pb2

DEFAULT_COMPONENTS, DEFAULT_EXTREMES = 5, 10


class Caller(Protocol):
    """Who waits for an answer: a call of gRPC, or another service of this package."""

    def watch(self, wake: Callable[[], None]) -> None:
        """Take a function to call whenever `is_active` may have become False."""

    def is_active(self) -> bool:
        """Return whether the caller still waits."""


Compute = Callable[[Callable[[float], None]], Any]


class LongCalls:
    """Serves the long calls of the query service: one method for each, which the servicer inherits.

    streams  most calls at a time, because each holds a thread that short calls need
    """

    def __init__(self, weights: WeightStore, streams: int = 8):
        self._weights = weights
        self.operations = Operations(weights.store)
        self._streams = threading.BoundedSemaphore(streams)

    def Evaluate(self, request, context: Caller) -> Iterator[query_pb2.EvaluateResponse]:
        fitted = self._weights.fitted(request.run)

        def compute(tell):
            snapshot = manifest.read_newest(fitted.store, fitted.run.name)
            unseen = Unseen.read(fitted.run, snapshot, fitted.store)
            return unseen.predicted_by(fitted.solution).quality(progress=tell)

        return self._stream(fitted, context, query_pb2.EvaluateResponse, "quality", {}, compute, of_weights=False)

    def Clusters(self, request, context: Caller) -> Iterator[query_pb2.ClustersResponse]:
        fitted = self._weights.fitted(request.run)
        asked = {"columns": request.columns, "k": request.k}

        def compute(tell):
            vectors = fitted.theta.T if request.columns else fitted.theta
            found = clusters.clusters(vectors, k=request.k, seed=fitted.run.spec.seed, progress=tell)
            return dataclasses.replace(found, labels=_labels(fitted.run, request.columns))

        return self._stream(fitted, context, query_pb2.ClustersResponse, "clusters", asked, compute)

    def Components(self, request, context: Caller) -> Iterator[query_pb2.ComponentsResponse]:
        fitted = self._weights.fitted(request.run)
        if not 0 <= request.extremes <= MAX_TOP:
            raise InputError(f"extremes = {request.extremes}: must be 0 to {MAX_TOP}")
        chosen = {"k": request.k or DEFAULT_COMPONENTS, "extremes": request.extremes or DEFAULT_EXTREMES}
        asked = chosen | {"columns": request.columns}

        def compute(tell):
            vectors = fitted.theta.T if request.columns else fitted.theta
            found = components.components(vectors, **chosen, seed=fitted.run.spec.seed, progress=tell)
            labels, others = (_labels(fitted.run, of) for of in (request.columns, not request.columns))
            return dataclasses.replace(found, labels=labels, feature_labels=others)

        return self._stream(fitted, context, query_pb2.ComponentsResponse, "components", asked, compute)

    def Conflicts(self, request, context: Caller) -> Iterator[query_pb2.ConflictsResponse]:
        fitted = self._weights.fitted(request.run)
        chosen = {"groups": request.groups or conflicts.GROUPS[0], "k": request.k}
        # The answer depends on the direction of the output, which may be declared anew.
        asked = chosen | ({"sign": -1} if fitted.run.predicted.sign < 0 else {})

        def compute(tell):
            return conflicts.of_fit(fitted.run, fitted.solution, **chosen, progress=tell)

        return self._stream(fitted, context, query_pb2.ConflictsResponse, "conflicts", asked, compute)

    def _stream(
        self,
        fitted: Fitted,
        context: Caller,
        response: Callable[..., Any],
        field: str,
        asked: dict[str, Any],
        compute: Compute,
        *,
        of_weights: bool = True,
    ) -> Iterator[Any]:
        """Yield messages with progress, then one with the answer.

        response  class of the messages
        field     field of `response` for the answer; also names the answer in the store
        asked     parameters that the answer depends on, besides the fit
        compute   computes the dataclass that becomes the answer's message; see `rpc.messages`
        of_weights  whether the answer follows from the weights alone, and not from models that may come
        """
        response = functools.partial(response, provenance=provenance_of(fitted))
        key = keys.analysis(fitted.run.name, fitted.record.number, field, records.digest(asked)[:16])

        def encoded(tell: Tell) -> bytes:
            found = compute(lambda fraction: tell("computing", fraction))
            answer = messages.fill(getattr(response(), field), found).SerializeToString()
            if len(answer) > MAX_ANSWER_BYTES:
                raise InputError(
                    f"{field} of run {fitted.run.name}: takes {len(answer)} bytes, too many for one message; ask for "
                    "less, or use fewer targets"
                )
            return answer

        if not self._streams.acquire(blocking=False):
            raise UnavailableError("too many long analyses are being watched; ask again later")
        try:
            final = fitted.final()
            context.watch(self.operations.wake)
            basis = (fitted.record.digest, fitted.record.blocks) if of_weights else None
            for found in self.operations.ask(key, encoded, final=final, basis=basis, active=context.is_active):
                if isinstance(found, OperationProgress):
                    progress = query_pb2.AnalysisProgress(stage=found.stage, fraction=found.fraction)
                    yield response(progress=progress)
                else:
                    answer = response()
                    answer.provenance.partial |= not final
                    with decode.decoding(f"{self._weights.store.url}/{key}", "the result of an analysis"):
                        getattr(answer, field).MergeFromString(found)
                    yield answer
        finally:
            self._streams.release()


def _labels(run: Run, columns: bool) -> np.ndarray:
    """Return the classes of columns or targets as int32[n]; empty if there are none."""
    found = pool.column_labels(run) if columns else run.target_labels
    return np.zeros(0, dtype=np.int32) if found is None else found.astype(np.int32)


_provenances: weakref.WeakKeyDictionary[Fitted, types_pb2.Provenance] = weakref.WeakKeyDictionary()


def provenance_of(fitted: Fitted) -> types_pb2.Provenance:
    """Return the provenance of an answer: the fit that it comes from. All answers share the message."""
    known = _provenances.get(fitted)
    if known is None:
        known = _provenances[fitted] = _provenance(fitted)
    return known


def _provenance(fitted: Fitted) -> types_pb2.Provenance:
    return types_pb2.Provenance(
        run=fitted.record.run,
        spec_hash=fitted.record.spec_hash,  # run.spec.hash would take as long as all the rest of a small response
        alpha=fitted.run.spec.alpha,
        fit=fitted.record.number,
        manifest_version=fitted.record.manifest_version,
        solver=fitted.record.solver,
        models=fitted.record.rows,
        partial=fitted.record.rows < fitted.run.spec.m,
        estimator=fitted.run.spec.fit.estimator,
        output=codec.to_output(fitted.run.predicted),
        chosen=fitted.record.chosen,
    )
