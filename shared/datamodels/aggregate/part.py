"""Check the outputs of one sub-chunk of models as they arrive, and convert them to and from a Parquet part.

Parts of several sub-chunks can be merged into one.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodels.aggregate import parquet
from datamodels.errors import CorruptObjectError, OutputsError
from datamodels.run import precision
from datamodels.run.runs import Run
from datamodels.storage import schema

GROUP_BYTES = 8 * 2**20
"""About the size of the outputs of a row group, which readers decode at a time."""
LONGEST_REASON = 300
"""Characters to which the reason of a failed model is cut, because each manifest holds all reasons of its run."""


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """Outputs of the models of one sub-chunk, or of several whose parts were merged, on every target.

    run          name of the run
    models       first <= index < last
    model_index  int32[r], ascending
    outputs      float16 or float32 [r, n], finite; the type is that of the run
    failed       {model: reason} for each model of the sub-chunk that is not in model_index
    retried      models in model_index that were trained with their second seed, ascending; see `train.job`
    merged       sha256 of the parts that were merged; empty for the outputs of one sub-chunk
    seconds      that trainers took for the models; 0 if they did not say
    """

    run: str
    models: range
    model_index: np.ndarray
    outputs: np.ndarray
    failed: dict[int, str]
    retried: tuple[int, ...] = ()
    merged: tuple[str, ...] = ()
    seconds: float = 0.0

    def only(self, models: range) -> Outputs:
        """Return the outputs of some of the models, a range within them."""
        chosen = (self.model_index >= models.start) & (self.model_index < models.stop)
        return dataclasses.replace(
            self,
            models=models,
            model_index=self.model_index[chosen],
            outputs=self.outputs[chosen],
            failed={model: reason for model, reason in self.failed.items() if model in models},
            retried=tuple(model for model in self.retried if model in models),
            merged=(),
            seconds=self.seconds * len(models) / len(self.models),
        )


def joined(pieces: Sequence[Outputs], merged: Sequence[str]) -> Outputs:
    """Return the outputs of ranges of models that follow each other. merged: the sha256 of the parts they come from."""
    return Outputs(
        run=pieces[0].run,
        models=range(pieces[0].models.start, pieces[-1].models.stop),
        model_index=np.concatenate([piece.model_index for piece in pieces]),
        outputs=np.concatenate([piece.outputs for piece in pieces]),
        failed={model: reason for piece in pieces for model, reason in piece.failed.items()},
        retried=tuple(model for piece in pieces for model in piece.retried),
        merged=tuple(merged),
        seconds=sum(piece.seconds for piece in pieces),
    )


class Assembly:
    """Collects the outputs of one sub-chunk from batches of rows, in any order, and checks each batch.

    `models` must be exactly one sub-chunk of the run; `seconds` are what a trainer took for them, 0 if it does not say.
    Memory is bounded by the sub-chunk: len(models) * n * 4 bytes.
    The constructor and all methods raise OutputsError.
    """

    def __init__(self, run: Run, models: range, seconds: float = 0.0):
        if not 0 <= seconds < math.inf:
            raise OutputsError(f"seconds of run {run.name} are {seconds}: must be a number, at least 0")
        if run.spec.sub_chunk_of(models.start) != models:
            raise OutputsError(
                f"models {models.start} to {models.stop} of run {run.name}: are not a sub-chunk; chunks of "
                f"{run.spec.chunk} models are committed in steps of {run.spec.sub_chunk}, up to model {run.spec.models}"
            )
        self._run = run
        self._models = models
        self._seconds = seconds
        self._outputs = np.empty((len(models), run.n), dtype=run.dtype)
        self._present = np.zeros(len(models), dtype=bool)
        self._failed: dict[int, str] = {}
        self._retried: set[int] = set()

    def add(
        self,
        model_index: np.ndarray,
        outputs: np.ndarray,
        failed: Mapping[int, str] | None = None,
        retried: Iterable[int] = (),
    ) -> None:
        """Add outputs float[r, n] of the models int[r], and the reasons of models that could not be trained.

        `retried` may name models of later batches. A batch that is refused changes nothing.
        """
        model_index, outputs = np.asarray(model_index), np.asarray(outputs)
        self._check_shapes(model_index, outputs)
        rows = [self._row(model) for model in model_index.tolist()]
        if len(set(rows)) < len(rows):
            twice = next(model for model in model_index.tolist() if (model_index == model).sum() > 1)
            raise OutputsError(f"model {twice} of run {self._run.name}: occurs twice")
        kept = self._stored(model_index, outputs)
        for model, reason in (failed or {}).items():
            self._fail(model, reason, rows)
        self._retried |= set(retried)
        places = slice(rows[0], rows[-1] + 1) if rows and rows == [*range(rows[0], rows[-1] + 1)] else rows
        self._outputs[places] = kept  # a slice takes half as long as a list
        self._present[places] = True

    def finish(self) -> Outputs:
        """Return the outputs of the sub-chunk, once all of its models have been added."""
        absent = (np.flatnonzero(~self._present) + self._models.start).tolist()
        missing = [model for model in absent if model not in self._failed]
        if missing:
            raise OutputsError(
                f"run {self._run.name}: {len(missing)} of the models {self._models.start} to {self._models.stop} are "
                f"neither in outputs nor in failed, the first is {missing[0]}"
            )
        model_index = np.flatnonzero(self._present).astype(np.int32) + np.int32(self._models.start)
        strange = sorted(self._retried.difference(model_index.tolist()))
        if strange:
            raise OutputsError(f"model {strange[0]} of run {self._run.name}: is in retried but has no outputs")
        failed, retried = dict(sorted(self._failed.items())), tuple(sorted(self._retried))
        name, outputs = self._run.name, self._squeezed()
        return Outputs(name, self._models, model_index, outputs, failed, retried, seconds=self._seconds)

    def _squeezed(self) -> np.ndarray:
        """Return the rows that are present, in the memory of the array: they move up in place."""
        rows = np.flatnonzero(self._present)
        for place, row in enumerate(rows.tolist()):
            if place != row:
                self._outputs[place] = self._outputs[row]
        return self._outputs[: len(rows)]

    def _check_shapes(self, model_index: np.ndarray, outputs: np.ndarray) -> None:
        if model_index.ndim != 1 or (model_index.size and model_index.dtype.kind not in "iu"):
            raise OutputsError(
                f"model_index has shape {model_index.shape} and type {model_index.dtype}: must be a list of integers"
            )
        expected = (len(model_index), self._run.n)
        if outputs.shape != expected:
            raise OutputsError(
                f"outputs of run {self._run.name} have shape {outputs.shape}: must be {expected}, models by targets"
            )
        if outputs.dtype.name not in precision.GIVEN:
            raise OutputsError(f"outputs have type {outputs.dtype}: must be {' or '.join(precision.GIVEN)}")

    def _row(self, model: int) -> int:
        """Return the row of a model. Raises OutputsError if it is not in the sub-chunk, or was added before."""
        if model not in self._models:
            raise OutputsError(
                f"model {model} of run {self._run.name}: must be {self._models.start} to {self._models.stop - 1} in "
                "this sub-chunk"
            )
        row = model - self._models.start
        if self._present[row] or model in self._failed:
            raise OutputsError(f"model {model} of run {self._run.name}: occurs twice")
        return row

    def _fail(self, model: int, reason: str, rows: list[int]) -> None:
        if self._row(model) in rows:
            raise OutputsError(f"model {model} of run {self._run.name}: is both in outputs and in failed")
        reason = " ".join(reason.split())[:LONGEST_REASON]
        if not reason:
            raise OutputsError(f"model {model} of run {self._run.name}: failed without a reason; say why")
        self._failed[model] = reason

    def _stored(self, model_index: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        kept = precision.stored(outputs, self._run.dtype)
        if not precision.finite(kept):
            row, target = np.argwhere(~np.isfinite(kept))[0]
            raise OutputsError(
                f"output of model {model_index[row]} on target {target} of run {self._run.name} is "
                f"{outputs[row, target]}: {precision.fault(outputs, self._run.dtype)}"
            )
        return kept


def validate(
    run: Run, models: range, model_index: np.ndarray, outputs: np.ndarray, failed: Mapping[int, str] | None = None
) -> Outputs:
    """Check outputs float[r, n] of the models int[r], which must be a whole sub-chunk. Raises OutputsError."""
    assembly = Assembly(run, models)
    assembly.add(model_index, outputs, failed)
    return assembly.finish()


def encode(outputs: Outputs) -> bytes:
    """Return the outputs as the bytes of a Parquet part."""
    n = outputs.outputs.shape[1]
    found = schema.outputs(n, outputs.outputs.dtype.name)
    metadata = {
        schema.PART: json.dumps({"run": outputs.run, "first": outputs.models.start, "last": outputs.models.stop}),
        schema.FAILED_MODELS: json.dumps([{"model_index": m, "reason": r} for m, r in outputs.failed.items()]),
    }
    if outputs.retried:
        metadata[schema.RETRIED_MODELS] = json.dumps(outputs.retried)
    if outputs.merged:
        metadata[schema.MERGED_PARTS] = json.dumps(outputs.merged)
    if outputs.seconds:
        metadata[schema.SECONDS] = json.dumps(outputs.seconds)
    found, step = found.with_metadata(metadata), max(1, GROUP_BYTES // (n * outputs.outputs.itemsize))
    return parquet.encode(outputs.model_index.astype(np.int32), outputs.outputs, found, step)


def decode(data: bytes, where: str, *, run: str, models: range, n: int | None = None) -> Outputs:
    """Read the bytes of a part, as `encode` returns them. If `n` is given, the part must have n targets.

    Raises CorruptObjectError, which names `where`, if the bytes are not the part of these models.
    """
    try:
        file = schema.opened(data)
        written = file.schema_arrow
        metadata = written.metadata or {}
        part = json.loads(metadata[schema.PART])
        failed = {f["model_index"]: f["reason"] for f in json.loads(metadata[schema.FAILED_MODELS])}
        retried = tuple(json.loads(metadata.get(schema.RETRIED_MODELS, b"[]")))
        merged = tuple(json.loads(metadata.get(schema.MERGED_PARTS, b"[]")))
        seconds = float(json.loads(metadata.get(schema.SECONDS, b"0")))
        margins = written.field("margins").type
        found, dtype = margins.list_size, np.dtype(margins.value_type.to_pandas_dtype()).name
        model_index, flat = _values(file)
        complete = sorted([*model_index.tolist(), *failed]) == list(models)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObjectError(
            f"{where}: is not a complete part ({' '.join(str(error).split())[:200]}); restore it from a copy"
        ) from error
    expected = {"run": run, "first": models.start, "last": models.stop}
    if part != expected:
        raise CorruptObjectError(f"{where}: is the part {part}, its name says {expected}; restore it from a copy")
    if dtype not in precision.DTYPES or not written.equals(schema.outputs(found if n is None else n, dtype)):
        raise CorruptObjectError(f"{where}: its columns are not those of a part of {n or found} targets")
    if not complete:
        raise CorruptObjectError(f"{where}: does not hold each of the models {models.start} to {models.stop} once")
    outputs = flat.reshape(len(model_index), found)
    return Outputs(run, models, model_index, outputs, failed, retried, merged, seconds)


def _values(file: pq.ParquetFile) -> tuple[np.ndarray, np.ndarray]:
    """Read (model_index int32[r], outputs [r * n]) of a part, one row group after the other.

    So it takes little more memory than the outputs. Raises pa.ArrowException, OSError.
    """
    index, flat = [], []
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, use_threads=False)
        index.append(schema.numbers(table["model_index"]))
        flat.append(schema.numbers(table["margins"].combine_chunks().flatten()))
    return _joined(index), _joined(flat)


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    """Concatenate arrays, dropping each from the list as soon as it is copied; one alone is not copied."""
    if len(pieces) == 1:
        return pieces.pop()
    whole = np.empty(sum(map(len, pieces)), dtype=pieces[0].dtype if pieces else np.float32)
    place = len(whole)
    while pieces:
        piece = pieces.pop()
        place -= len(piece)
        whole[place : place + len(piece)] = piece
    return whole
