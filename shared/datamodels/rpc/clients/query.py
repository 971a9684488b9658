"""Call the query service."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import numpy as np

from datamodels.errors import UnavailableError
from datamodels.query.limits import MAX_ANSWER_BYTES
from datamodels.rpc import codec
from datamodels.rpc.clients.analyses import AnalysesClient
from datamodels.settings import ClientSettings
from datamodels.spans import Span
from datamodels.v1 import query_pb2, query_pb2_grpc, types_pb2

MASKS_BYTES = 4 * 2**20
"""Largest size of the masks in one call, in bytes: half of what servers take by default."""

FLOATS = ("float64", "float32")
"""Types of predicted outputs: services of version 0.2.0 and earlier send float32."""

Numbers = Sequence[int] | np.ndarray
"""Numbers of targets or columns."""


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted outputs of models trained on s subsets, for t targets.

    provenance   which fit they come from
    predictions  float64[s, t]
    targets      int32[t]
    lambda_      float64[t]; penalty of each target's fit
    gap          float64[t]; its relative duality gap
    """

    provenance: types_pb2.Provenance
    predictions: np.ndarray
    targets: np.ndarray
    lambda_: np.ndarray
    gap: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class WeightRow:
    """Weights of one target. Its predicted output is the intercept plus the weights of the columns in the subset.

    columns  int32[k]
    weights  float32[k]
    lambda_  penalty of the fit
    gap      relative duality gap of the fit
    measured float32[k]; how much of each weight was measured, to a sixteenth of the weight; the rest is the prior.
             None if the fit has no prior, or an earlier version made it
    """

    target: int
    columns: np.ndarray
    weights: np.ndarray
    intercept: float
    lambda_: float
    gap: float
    measured: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class SupportOf:
    """Support of one target.

    status   whether one was found, see `what_if.support`
    columns  int32[k]; the columns to remove, in order
    curve    float64[k + 1]; the predicted output after the first 0 to k of them are removed
    label    the label to give them instead, if the call asked for wrong labels; else None
    before_interval   95% interval of the mean output of models of the unchanged pool, NaN if it is unknown
    span     the part of a text that the target is; None if it is a whole example
    """

    provenance: types_pb2.Provenance
    target: int
    status: str
    columns: np.ndarray
    curve: np.ndarray
    label: int | None = None
    before_interval: tuple[float, float] = (math.nan, math.nan)
    span: Span | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Counterfactual:
    """The predicted effect of a change of the training set on targets.

    targets          int32[t]
    before           float64[t]; predicted output, as it was
    before_interval  float64[t, 2]; 95% interval of the mean output, as it was
    change           float64[t]; predicted change of the mean output
    change_interval  float64[t, 2]; 95% interval of that change, NaN if it is unknown
    after            float64[t]; predicted output after the change
    after_interval   float64[t, 2]; 95% interval of the output of one model
    spans            the parts of texts that the targets are; empty if they are whole examples
    """

    provenance: types_pb2.Provenance
    targets: np.ndarray
    before: np.ndarray
    before_interval: np.ndarray
    change: np.ndarray
    change_interval: np.ndarray
    after: np.ndarray
    after_interval: np.ndarray
    spans: Sequence[Span] = ()


class QueryClient(AnalysesClient):
    """Client of the query service. Use it as a context manager, or call `close` at the end.

    to        `host:port`, any gRPC target such as `dns:///name:port`, or a channel
    settings  deadline, attempts and TLS; by default those of ClientSettings()

    By default a call is about all targets. Calls raise the errors of the service: RunNotFoundError, TargetRangeError,
    InputError, NotReadyError if the run has no weights yet; UnavailableError and DeadlineError if there is no answer.
    """

    def __init__(self, to: str | grpc.Channel, settings: ClientSettings | None = None):
        super().__init__(to, settings)
        self._stub = query_pb2_grpc.QueryServiceStub(self._channel)

    def run(self, name: str) -> query_pb2.Run:
        """Describe a run: `columns`, `targets`, `models`, `fits`, `alpha`, `spec_json`, `output`, `label_names`."""
        return self._stub.GetRun(query_pb2.GetRunRequest(run=name)).run

    def runs(self, page_size: int = 0) -> Iterator[query_pb2.Run]:
        """Yield all runs by name. They are read page by page."""
        for page in _pages(self._stub.ListRuns, query_pb2.ListRunsRequest(page_size=page_size)):
            yield from page.runs

    def targets(self, run: str, page_size: int = 0) -> Iterator[query_pb2.Target]:
        """Yield all targets of a run: status, label, and how well each was fitted. They are read page by page."""
        for page in _pages(self._stub.ListTargets, query_pb2.ListTargetsRequest(run=run, page_size=page_size)):
            yield from page.targets

    def weights(self, run: str, targets: Numbers | None = None, top_k: int = 0) -> Iterator[WeightRow]:
        """Yield the weights of each target: all by column, or the top_k of largest magnitude, largest first."""
        request = query_pb2.GetWeightsRequest(run=run, targets=_int32(targets), top_k=top_k)
        row = None
        for message in self._stub.GetWeights(request):
            for piece in _rows(message.weights):
                if row is not None and piece.target == row.target:
                    row = _joined(row, piece)
                    continue
                if row is not None:
                    yield row
                row = piece
        if row is not None:
            yield row

    def predict(self, run: str, masks: np.ndarray, targets: Numbers | None = None) -> Prediction:
        """Predict the outputs of models trained on s subsets.

        masks  uint8[s, ceil(d / 8)]; column c is bit c % 8, least significant first, of byte c // 8

        Makes as many calls as the sizes of messages need. Raises UnavailableError if a new fit was finished between
        them.
        """
        count = self.run(run).targets if targets is None else len(targets)
        most = min(MAX_ANSWER_BYTES // (8 * max(1, count)), MASKS_BYTES // max(1, masks.shape[-1]))
        rows = max(1, most)
        answers = [
            self._predict(run, targets, masks=codec.to_tensor(masks[first : first + rows]))
            for first in range(0, max(1, len(masks)), rows)
        ]
        if any(answer.provenance != answers[0].provenance for answer in answers):
            raise UnavailableError(f"run {run}: a new fit was finished during the call; call again")
        return dataclasses.replace(answers[0], predictions=np.concatenate([answer.predictions for answer in answers]))

    def predict_columns(self, run: str, columns: Numbers, targets: Numbers | None = None) -> Prediction:
        """Predict the outputs of models trained on one subset, the given columns."""
        return self._predict(run, targets, columns=codec.to_tensor(np.asarray(columns, dtype=np.int32)))

    def _predict(self, run: str, targets: Numbers | None, **subset: types_pb2.Tensor) -> Prediction:
        request = query_pb2.PredictRequest(run=run, targets=_int32(targets), double_precision=True, **subset)
        answer = self._stub.Predict(request)
        count = answer.targets.shape[0]
        return Prediction(
            provenance=answer.provenance,
            predictions=codec.from_tensor(answer.predictions, "predictions", dtypes=FLOATS, shape=(None, count)),
            targets=codec.from_tensor(answer.targets, "targets", dtypes=("int32",), shape=(count,)),
            lambda_=codec.from_tensor(getattr(answer, "lambda"), "lambda", dtypes=("float64",), shape=(count,)),
            gap=codec.from_tensor(answer.gap, "gap", dtypes=("float64",), shape=(count,)),
        )

    def top(self, run: str, target: int, k: int = 0) -> query_pb2.TopInfluencesResponse:
        """Find the columns that help and harm a target most: k of each, 10 for k = 0.

        If `provenance.output` says that neither high nor low is better, those that raise and lower the output most.
        """
        return self._stub.TopInfluences(query_pb2.TopInfluencesRequest(run=run, target=target, k=k))

    def supports(
        self,
        run: str,
        targets: Numbers | None = None,
        *,
        limit: int = 0,
        safety: float = 0.0,
        threshold: float | None = None,
        mislabel: bool = False,
    ) -> Iterator[SupportOf]:
        """Yield the support of each target as it is found.

        limit      most columns; 0 for a fifth of all
        safety     how far past the threshold the predicted output must be
        threshold  outputs worse than this are wrong; by default the threshold of the run's output
        mislabel   find columns to relabel (`what_if.relabel`) instead of columns to remove (`what_if.support`)

        Raises InputError if no threshold is known, or if neither high nor low outputs are better.
        """
        request = query_pb2.SupportRequest(
            run=run, targets=_int32(targets), limit=limit, safety=safety, worse_than=threshold, mislabel=mislabel
        )
        for message in self._stub.Support(request):
            columns = codec.from_tensor(message.columns, "columns", dtypes=("int32",), shape=(None,))
            curve = codec.from_tensor(message.curve, "curve", dtypes=FLOATS, shape=(None,))
            label = message.label if message.HasField("label") else None
            before = (message.before.low, message.before.high) if message.HasField("before") else (math.nan, math.nan)
            span = codec.from_span(message.span) if message.HasField("span") else None
            yield SupportOf(message.provenance, message.target, message.status, columns, curve, label, before, span)

    def counterfactual(
        self,
        run: str,
        targets: Numbers | None = None,
        *,
        base: Numbers | None = None,
        remove: Numbers = (),
        add: Numbers = (),
        relabel: Numbers = (),
    ) -> Counterfactual:
        """Predict how outputs change if columns are removed from the base, others are added, or get another label.

        base  columns of the unchanged set; by default the whole pool
        """
        sets = {"base": base, "remove": remove, "add": add, "relabel": relabel}
        answer = self._stub.Counterfactual(
            query_pb2.CounterfactualRequest(
                run=run, targets=_int32(targets), **{name: _int32(columns) for name, columns in sets.items()}
            )
        )
        count = answer.targets.shape[0]
        shapes: dict[str, tuple[int, ...]] = {"before": (count,), "change": (count,), "after": (count,)}
        shapes |= {f"{name}_interval": (count, 2) for name in ("before", "change", "after")}
        return Counterfactual(
            provenance=answer.provenance,
            targets=codec.from_tensor(answer.targets, "targets", dtypes=("int32",), shape=(count,)),
            **{
                name: codec.from_tensor(getattr(answer, name), name, dtypes=FLOATS, shape=shape)
                for name, shape in shapes.items()
            },
            spans=codec.from_spans(answer.spans, count),
        )

    def similar(
        self, run: str, *, target: int | None = None, column: int | None = None, k: int = 0, metric: str = ""
    ) -> query_pb2.SimilarResponse:
        """Find the targets most similar to a target, or the columns most similar to a column: k, or 10 for k = 0."""
        request = query_pb2.SimilarRequest(run=run, target=target, column=column, k=k, metric=metric)
        return self._stub.Similar(request)

    def leakage(self, run: str, k: int = 0) -> query_pb2.LeakageResponse:
        """Find the k pairs of a target and a column whose weights suggest that the two are copies; 10 for k = 0."""
        return self._stub.Leakage(query_pb2.LeakageRequest(run=run, k=k))

    def objects(
        self, run: str, prefix: str, *, after: str = "", shallow: bool = False
    ) -> Iterator[query_pb2.StoredObject]:
        """Yield what the store has of a run under a prefix, by key: `key`, `bytes`, `modified`.

        after    leave out keys up to and including this one
        shallow  leave out keys with a slash after the prefix
        """
        request = query_pb2.ListObjectsRequest(run=run, prefix=prefix, after=after, shallow=shallow)
        for page in _pages(self._stub.ListObjects, request):
            yield from page.objects

    def object(self, run: str, key: str) -> bytes:
        """Return the bytes of an object of a run. Raises ObjectNotFoundError."""
        request = query_pb2.ReadObjectRequest(run=run, key=key)
        return self._repeat(lambda: b"".join(message.data for message in self._stub.ReadObject(request)))


def _pages(call: Callable[[Any], Any], request: Any) -> Iterator[Any]:
    """Yield the responses of a list call, page by page."""
    while True:
        page = call(request)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _int32(numbers: Numbers | None) -> types_pb2.Tensor | None:
    return None if numbers is None else codec.to_tensor(np.asarray(numbers, dtype=np.int32))


def _rows(message: query_pb2.SparseWeights) -> Iterator[WeightRow]:
    def vector(field: str, *dtypes: str) -> np.ndarray:
        return codec.from_tensor(getattr(message, field), field, dtypes=dtypes, shape=(None,))

    indptr, columns, weights = vector("indptr", "int64"), vector("indices", "int32"), vector("weights", "float32")
    lambda_, gap, intercept = vector("lambda", "float64"), vector("gap", "float64"), vector("intercept", *FLOATS)
    measured = weights * vector("measured", "float16") if message.HasField("measured") else None
    for i, target in enumerate(vector("targets", "int32").tolist()):
        row = slice(indptr[i], indptr[i + 1])
        parts = None if measured is None else measured[row]
        numbers = float(intercept[i]), float(lambda_[i]), float(gap[i])
        yield WeightRow(target, columns[row], weights[row], *numbers, parts)


def _joined(row: WeightRow, more: WeightRow) -> WeightRow:
    return dataclasses.replace(
        row,
        columns=np.concatenate([row.columns, more.columns]),
        weights=np.concatenate([row.weights, more.weights]),
        measured=None
        if row.measured is None or more.measured is None
        else np.concatenate([row.measured, more.measured]),
    )
