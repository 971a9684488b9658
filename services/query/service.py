"""Serve queries: each call decodes its request, calls one core function and encodes the result."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from datamodels.analyze.patterns import leakage, similar
from datamodels.analyze.what_if import pool
from datamodels.analyze.what_if.counterfactual import before_interval, counterfactual
from datamodels.analyze.what_if.relabel import NO_LABEL, relabelling
from datamodels.analyze.what_if.support import support
from datamodels.errors import InputError, ObjectNotFoundError, PageTokenError
from datamodels.query import pages
from datamodels.query.limits import MAX_TOP
from datamodels.query.warm import Warm
from datamodels.query.weights import Fitted, WeightStore
from datamodels.rpc import codec, run_codec
from datamodels.rpc.serve import Service
from datamodels.run import designs
from datamodels.run.runs import Run
from datamodels.v1 import query_pb2, query_pb2_grpc, types_pb2

from . import wire
from .long import LongCalls, provenance_of
from .objects import ObjectCalls

DEFAULT_TOP = 10
LISTS = frozenset({"ListRuns"})
"""Calls that name no run."""


CHANGES = ("base", "remove", "add", "relabel")
"""Fields of a question that hold columns."""


class QueryService(LongCalls, ObjectCalls, query_pb2_grpc.QueryServiceServicer):
    """Answers calls from a weight store. Each call is described in query.proto.

    `LongCalls` has the long analyses. `ObjectCalls` lets other programs read objects of the store through the service.
    """

    def __init__(self, weights: WeightStore):
        LongCalls.__init__(self, weights)
        ObjectCalls.__init__(self, weights)
        self._wholes = wire.Wholes()
        self._answers = wire.Answers()

    def GetRun(self, request, context):
        return query_pb2.GetRunResponse(run=self._run(self._weights.run(request.run)))

    def ListRuns(self, request, context):
        caller = context.entry.caller if context.entry else None
        may_read = None if caller is None else caller.may_read
        found, token = self._weights.page_of_runs(request.page_size, request.page_token, self._run, may_read)
        return query_pb2.ListRunsResponse(runs=found, next_page_token=token)

    def ListTargets(self, request, context):
        asked = {"run": request.run}
        number, start = pages.position(asked, request.page_token, int, int) if request.page_token else (None, 0)
        size = pages.size(request.page_size)
        try:
            fitted = self._weights.fitted(request.run, number)
        except ObjectNotFoundError:  # a forged token may name a fit that does not exist
            raise PageTokenError(pages.FOREIGN) from None
        start = min(start, fitted.n)
        found, taken = pages.fill(range(start, min(start + size, fitted.n)), lambda t: _target(fitted, t))
        stop = start + taken
        return query_pb2.ListTargetsResponse(
            provenance=provenance_of(fitted),
            targets=found,
            next_page_token=pages.token(asked, fitted.record.number, stop) if stop < fitted.n else "",
        )

    def GetWeights(self, request, context) -> Iterator[bytes]:
        if request.top_k < 0:
            raise InputError(f"top_k = {request.top_k}: must be at least 0")
        fitted = self._weights.fitted(request.run)
        chosen = codec.optional_int32(request.targets, "targets")
        if chosen is None and not request.top_k:
            yield from self._wholes.messages(fitted)
        else:
            yield from wire.weights(fitted, fitted.chunks(fitted.targets(chosen), request.top_k))

    def Predict(self, request, context):
        fitted = self._weights.fitted(request.run)
        design = fitted.run.design
        match request.WhichOneof("subset"):
            case "masks":
                masks = codec.from_tensor(request.masks, "masks", dtypes=("uint8",), shape=(None, None))
            case "columns":
                columns = codec.from_tensor(request.columns, "columns", dtypes=("int32",), shape=(None,))
                masks = designs.mask_of(columns, design.columns)[None]
            case _:
                raise InputError("subset: is missing; give masks or columns")
        chosen = codec.optional_int32(request.targets, "targets")
        targets = fitted.targets(chosen)
        predictions = fitted.predict(masks, None if chosen is None else targets)
        if not request.double_precision:
            predictions = predictions.astype(np.float32)
        return query_pb2.PredictResponse(
            provenance=provenance_of(fitted),
            predictions=codec.to_tensor(predictions),
            targets=codec.to_tensor(targets),
            **{"lambda": codec.to_tensor(fitted.solution.lambda_[targets])},
            gap=codec.to_tensor(fitted.solution.gap[targets]),
        )

    def TopInfluences(self, request, context) -> bytes:
        fitted, target, k = self._weights.fitted(request.run), request.target, request.k or DEFAULT_TOP
        return self._answers.get(fitted, ("top", target, k), lambda: _top(fitted, target, k))

    def Support(self, request, context) -> Iterator[query_pb2.SupportResponse]:
        fitted = self._weights.fitted(request.run)
        targets = fitted.targets(codec.optional_int32(request.targets, "targets"))
        provenance = provenance_of(fitted)
        asked = {name: getattr(request, name) for name in ("limit", "safety")}
        asked["threshold"] = request.worse_than if request.HasField("worse_than") else request.threshold or None
        for target in targets.tolist():
            label = None
            if request.mislabel:
                relabelled = relabelling(fitted.run, fitted.solution, target, **asked)
                found, label = relabelled.support, relabelled.label if relabelled.label != NO_LABEL else None
            else:
                found = support(fitted.run, fitted.solution, target, **asked)
            yield query_pb2.SupportResponse(
                provenance=provenance,
                target=target,
                status=found.status,
                columns=codec.to_tensor(found.columns),
                curve=codec.to_tensor(found.curve),
                label=label,
                before=_before(fitted, target) if len(found.curve) else None,
                span=_span(fitted.run, target),
            )

    def Counterfactual(self, request, context):
        fitted = self._weights.fitted(request.run)
        run, targets = fitted.run, fitted.targets(codec.optional_int32(request.targets, "targets"))
        columns = {name: codec.optional_int32(getattr(request, name), name) for name in CHANGES}
        base = columns.pop("base")
        chosen = {name: pool.NO_COLUMNS if value is None else value for name, value in columns.items()}
        found = counterfactual(
            run,
            fitted.solution,
            fitted.noise,
            fitted.record.rows,
            targets=targets,
            base=pool.whole(run) if base is None else pool.members_of(run, base, "base"),
            remove=chosen["remove"],
            add=chosen["add"],
            other_label=chosen["relabel"],
        )
        fields = ("before", "before_interval", "change", "change_interval", "after", "after_interval")
        return query_pb2.CounterfactualResponse(
            provenance=provenance_of(fitted),
            targets=codec.to_tensor(targets),
            **{name: codec.to_tensor(getattr(found, name)) for name in fields},
            spans=[codec.to_span(run.spans[target]) for target in targets.tolist()] if run.spans else (),
        )

    def Similar(self, request, context):
        fitted = self._weights.fitted(request.run)
        run, k, metric = fitted.run, _count(request.k), request.metric or similar.METRICS[0]
        match request.WhichOneof("what"):
            case "target":
                found = similar.targets(fitted.theta, request.target, k=k, metric=metric)
                labels = [_target_label(run, index) for index in found.index]
                spans = [_span(run, index) for index in found.index]
            case "column":
                found = similar.columns(fitted.theta, request.column, k=k, metric=metric)
                labels = [_label(run, index) for index in found.index]
                spans = [None] * len(labels)
            case _:
                raise InputError("what: is missing; give a target or a column")
        rows = zip(found.index.tolist(), found.score.tolist(), labels, spans, strict=True)
        return query_pb2.SimilarResponse(
            provenance=provenance_of(fitted),
            neighbours=[
                query_pb2.Neighbour(index=i, score=score, label=label, span=span) for i, score, label, span in rows
            ],
        )

    def Leakage(self, request, context):
        fitted = self._weights.fitted(request.run)
        found = leakage.by_weights(fitted.run, fitted.solution, _count(request.k))
        return query_pb2.LeakageResponse(
            provenance=provenance_of(fitted),
            leaks=[
                query_pb2.Leak(
                    target=target,
                    column=column,
                    share=share,
                    weight=weight,
                    target_label=_target_label(fitted.run, target),
                    label=_label(fitted.run, column),
                    measured=measured,
                )
                for target, column, share, weight, measured in found.rows()
            ],
        )

    def _run(self, run: Run) -> query_pb2.Run:
        return query_pb2.Run(
            run=run.name,
            spec_hash=run.spec.hash,
            spec_json=run_codec.to_run_record(run).spec_json,
            alpha=run.spec.alpha,
            columns=run.design.columns,
            examples=run.design.examples,
            targets=run.n,
            models=run.spec.m,
            fits=self._weights.fits(run.name),
            output=codec.to_output(run.output),
            output_declared=run.declared is not None,
            label_names=run.label_names,
        )


def _target(fitted: Fitted, target: int) -> query_pb2.Target:
    solution, run = fitted.solution, fitted.run
    columns, _ = solution.row(target)
    return query_pb2.Target(
        target=target,
        own_example=run.own[target],
        label=_target_label(run, target),
        **{"lambda": solution.lambda_[target]},
        gap=solution.gap[target],
        intercept=solution.intercept[target],
        nonzeros=len(columns),
        heldout_r2=solution.heldout_r2[target],
        status=solution.status[target],
        span=_span(run, target),
    )


def _top(fitted: Fitted, target: int, k: int) -> query_pb2.TopInfluencesResponse:
    answer = query_pb2.TopInfluencesResponse(provenance=provenance_of(fitted), target=_target(fitted, target))
    helpful, harmful = fitted.top_places(target, k)
    _add_influences(answer.helpful, fitted, helpful)
    _add_influences(answer.harmful, fitted, harmful)
    return answer


def _add_influences(to: Any, fitted: Fitted, places: np.ndarray) -> None:
    """Add the weights at some places of the solution to a field of an answer. A constructor would copy each message."""
    solution, labels = fitted.solution, pool.column_labels(fitted.run)
    columns, weights = solution.columns[places], solution.weights[places].tolist()
    label = itertools.repeat(-1) if labels is None else labels[columns].tolist()
    parts = solution.measured_of(places)
    for column, weight, of in zip(columns.tolist(), weights, label, strict=False):
        to.add(column=column, weight=weight, label=of)
    if parts is not None:
        for influence, part in zip(to, parts.tolist(), strict=True):
            influence.measured = part


def _label(run: Run, column: int) -> int:
    labels = pool.column_labels(run)
    return -1 if labels is None else labels[column]


def _target_label(run: Run, target: int) -> int:
    return -1 if run.target_labels is None else run.target_labels[target]


def _span(run: Run, target: int) -> types_pb2.Span | None:
    return codec.to_span(run.spans[target]) if run.spans else None


def _before(fitted: Fitted, target: int) -> query_pb2.Interval:
    low, high = before_interval(fitted.run, fitted.solution, fitted.noise, target)
    return query_pb2.Interval(low=low, high=high)


def _count(k: int) -> int:
    if not 0 <= k <= MAX_TOP:
        raise InputError(f"k = {k}: must be 0 to {MAX_TOP}")
    return k or DEFAULT_TOP


def service(weights: WeightStore, *, warm: bool = False) -> Service:
    """Return the service, which cancels long analyses when the server stops.

    warm  be ready only after the newest fit is in memory
    """
    servicer = QueryService(weights)
    return Service(
        descriptor=query_pb2.DESCRIPTOR.services_by_name["QueryService"],
        add=query_pb2_grpc.add_QueryServiceServicer_to_server,
        servicer=servicer,
        close=servicer.operations.close,
        check=Warm(weights).check if warm else weights.store.ping,
        run_of=lambda request: request.run,
        reads=frozenset(method.name for method in query_pb2.DESCRIPTOR.services_by_name["QueryService"].methods)
        - LISTS,
        lists=LISTS,
    )
