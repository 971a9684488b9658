"""Convert designs and runs to and from messages."""

from __future__ import annotations

import json

import numpy as np

from datamodels.errors import InputError
from datamodels.rpc import codec
from datamodels.run import designs, precision, runs, specs
from datamodels.v1 import types_pb2

_KINDS = {kind: f"KIND_{kind.upper()}" for kind in designs.KINDS}
_KIND_OF = {types_pb2.Design.Kind.Value(name): kind for kind, name in _KINDS.items()}


def _from_optional(array: np.ndarray | None) -> types_pb2.Tensor | None:
    return None if array is None else codec.to_tensor(np.asarray(array, dtype=np.int32))


def to_design(design: designs.Design) -> types_pb2.Design:
    return types_pb2.Design(
        kind=_KINDS[design.kind],
        seed=design.seed,
        alpha=design.alpha,
        examples=design.examples,
        groups=_from_optional(design.groups),
        pinned_in=_from_optional(np.array(design.pinned_in)) if design.pinned_in else None,
        pinned_out=_from_optional(np.array(design.pinned_out)) if design.pinned_out else None,
        unseen_from=design.unseen_from,
    )


def from_design(message: types_pb2.Design) -> designs.Design:
    """Return the design of a message. Raises InputError, which names every fault."""

    def pins(tensor, name):
        columns = codec.optional_int32(tensor, name)
        return () if columns is None else tuple(columns.tolist())

    return designs.Design(
        kind=_KIND_OF.get(message.kind, "unspecified"),
        seed=message.seed,
        alpha=message.alpha,
        examples=message.examples,
        groups=codec.optional_int32(message.groups, "design.groups"),
        pinned_in=pins(message.pinned_in, "design.pinned_in"),
        pinned_out=pins(message.pinned_out, "design.pinned_out"),
        unseen_from=message.unseen_from if message.HasField("unseen_from") else None,
    )


def to_run_record(run: runs.Run) -> types_pb2.RunRecord:
    return types_pb2.RunRecord(
        run=run.name,
        spec_json=json.dumps(run.spec.document()),
        design=to_design(run.design),
        own_example=codec.to_tensor(run.own.astype(np.int32)),
        labels=_from_optional(run.labels),
        target_labels=_from_optional(run.target_labels),
        dtype=codec.dtype_code(run.dtype),
        output=None if run.declared is None else codec.to_output(run.declared),
        label_names=run.label_names,
        spans=map(codec.to_span, run.spans),
    )


def from_run_record(message: types_pb2.RunRecord) -> runs.Run:
    """Return the run of a message. Raises InputError or SpecError, which name every fault."""
    try:
        parsed = specs.parse(json.loads(message.spec_json))
        name = parsed.run
    except (ValueError, RecursionError):
        raise InputError("spec_json: is not JSON, or is nested too deeply") from None
    design = from_design(message.design)
    own = codec.from_tensor(message.own_example, "own_example", dtypes=("int32",), shape=(None,))
    faults, dtype = list(_record_faults(parsed, design, own)), codec.dtype_name(message.dtype, precision.FIRST)
    if dtype not in precision.DTYPES:
        faults.append(f"dtype: is {dtype}, must be {' or '.join(precision.DTYPES)}")
    if message.run != name:
        faults.append(f"run = {message.run!r}: the spec's name and hash make it {name!r}")
    if faults:
        raise InputError("; ".join(faults))
    return runs.Run(
        spec=parsed,
        design=design,
        own=own,
        labels=codec.optional_int32(message.labels, "labels", design.examples),
        target_labels=codec.optional_int32(message.target_labels, "target_labels", len(own)),
        dtype=dtype,
        declared=codec.from_output(message.output) if message.HasField("output") else None,
        label_names=tuple(message.label_names),
        spans=codec.from_spans(message.spans, len(own)),
    )


def _record_faults(parsed: specs.RunSpec, design: designs.Design, own: np.ndarray):
    wanted = {
        "kind": parsed.design.kind,
        "seed": parsed.seed,
        "alpha": parsed.alpha,
        "pinned_in": parsed.design.pinned_in,
        "pinned_out": parsed.design.pinned_out,
        "unseen_from": designs.unseen_from(parsed.design.kind, parsed.m),
    }
    for field, value in wanted.items():
        found = getattr(design, field)
        if found != value:
            yield f"design.{field} = {found!r}: the spec says {value!r}"
    if not len(own):
        yield "own_example: is empty; a run needs at least one target"
    elif own.min() < -1 or own.max() >= design.examples:
        yield f"own_example: holds {own.min()} to {own.max()}, must be -1 to {design.examples - 1}"
