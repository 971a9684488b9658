"""Serve the sampler: decode designs, draw subsets and encode them. It keeps no state."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Counter, Histogram

from datamodels.errors import InputError
from datamodels.rpc import codec, run_codec
from datamodels.rpc.context import CallContext
from datamodels.rpc.serve import Service
from datamodels.run import designs
from datamodels.telemetry.metrics import start_at_zero
from datamodels.v1 import sampler_pb2, sampler_pb2_grpc

MAX_SUBSETS = 10_000_000
"""Most subsets in one request."""

MAX_COLUMNS = 1_000_000
"""Most columns of a design. Its inclusion probabilities are one response, and responses stay under 4 MiB."""

MESSAGE_BYTES = 1_000_000 - 1_000
"""Most bytes of masks in one message, so that the whole message stays within 1 MB."""

MESSAGE_ROWS = 4096
"""Most masks in one message, so that small masks arrive steadily too, and the end of a call is noticed soon."""

SUBSETS = Counter("datamodels_sample_subsets_total", "Subsets drawn, by kind of design.", ["kind"])
DRAW_SECONDS = Histogram(
    "datamodels_sample_draw_seconds", "Seconds to draw the subsets of one message, by kind of design.", ["kind"]
)
start_at_zero(SUBSETS, *designs.KINDS)
start_at_zero(DRAW_SECONDS, *designs.KINDS)


class Sampler(sampler_pb2_grpc.SamplerServiceServicer):
    """Draws the subsets of the design in each request. Each call is described in sampler.proto."""

    def GetSubsets(
        self, request: sampler_pb2.GetSubsetsRequest, context: CallContext
    ) -> Iterator[sampler_pb2.GetSubsetsResponse]:
        design = _design(request.design)
        _check_range(request.first, request.last)
        rows = max(1, min(MESSAGE_BYTES // design.mask_bytes, MESSAGE_ROWS))
        for first in range(request.first, request.last, rows):
            if not context.is_active():
                return
            last = min(first + rows, request.last)
            with DRAW_SECONDS.labels(design.kind).time():
                masks = designs.subsets(design, first, last)
            SUBSETS.labels(design.kind).inc(last - first)
            yield sampler_pb2.GetSubsetsResponse(first=first, masks=codec.to_tensor(masks))

    def DescribeDesign(
        self, request: sampler_pb2.DescribeDesignRequest, context: CallContext
    ) -> sampler_pb2.DescribeDesignResponse:
        design = _design(request.design)
        return sampler_pb2.DescribeDesignResponse(
            columns=design.columns,
            size=design.size,
            mask_bytes=design.mask_bytes,
            inclusion=codec.to_tensor(design.inclusion),
            summary=design.summary(),
        )


def _design(message) -> designs.Design:
    design = run_codec.from_design(message)
    if design.columns > MAX_COLUMNS:
        raise InputError(
            f"the design has {design.columns} columns: this service draws at most {MAX_COLUMNS}; group the examples"
        )
    return design


def _check_range(first: int, last: int) -> None:
    if not 0 <= first < last:
        raise InputError(f"first = {first}, last = {last}: first must be at least 0 and less than last")
    if last - first > MAX_SUBSETS:
        raise InputError(
            f"first = {first}, last = {last}: asks for {last - first} subsets, at most {MAX_SUBSETS} allowed in one "
            "request; ask for them in parts"
        )


def service() -> Service:
    return Service(
        descriptor=sampler_pb2.DESCRIPTOR.services_by_name["SamplerService"],
        add=sampler_pb2_grpc.add_SamplerServiceServicer_to_server,
        servicer=Sampler(),
    )
