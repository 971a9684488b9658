"""Define the schemas of all Parquet files, and convert their columns from and to NumPy.

Arrow's own conversions import pandas if it is installed, which takes 0.4 CPU s in every process of a run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pyarrow import parquet

COMPRESSION = "zstd"


def outputs(n: int, dtype: str) -> pa.Schema:
    """Return the schema of parts: outputs of trained models on n targets, one row per model.

    A fixed-size list of non-null numbers reads several times as fast as a list of any size. The numbers are stored
    plain: split by bytes, float32 takes a tenth less, but fastparquet cannot read it (benchmarks/fit/storage.py).
    """
    margins = pa.list_(pa.field("element", pa.from_numpy_dtype(dtype), nullable=False), n)
    return pa.schema(
        [
            pa.field("model_index", pa.int32(), nullable=False),
            pa.field("margins", margins, nullable=False),
        ]
    )


FAILED_MODELS = b"datamodels.failed_models"
"""Metadata key of a part: JSON list of {"model_index", "reason"} of the models that could not be trained."""

RETRIED_MODELS = b"datamodels.retried_models"
"""Metadata key of a part: JSON list of the models that were trained with their second seed; absent if none were."""

MERGED_PARTS = b"datamodels.merged_parts"
"""Metadata key of a part: JSON list of the sha256 of the parts that were merged into it; absent if none were."""

SECONDS = b"datamodels.seconds"
"""Metadata key of a part: seconds that trainers took for its models, a JSON number; absent if they did not say."""

PART = b"datamodels.part"
"""Metadata key of a part: JSON {"run", "first", "last"}, so that readers notice a part under the key of another."""


WEIGHTS = pa.schema(
    [
        pa.field("target", pa.int32(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("lambda", pa.float64(), nullable=False),
        pa.field("gap", pa.float64(), nullable=False),
        pa.field("heldout_r2", pa.float64(), nullable=False),
        pa.field("intercept", pa.float64(), nullable=False),
        pa.field("columns", pa.list_(pa.field("element", pa.int32(), nullable=False)), nullable=False),
        pa.field("weights", pa.list_(pa.field("element", pa.float32(), nullable=False)), nullable=False),
    ]
)
"""Fitted weights: one row per target, sparse, columns ascending, on the raw 0/1 scale of membership."""

MEASURED = pa.field("measured", pa.list_(pa.field("element", pa.int8(), nullable=False)), nullable=False)
"""One more column of fitted weights, if a prior is part of them: how many eighths of each weight were measured."""

LOOKS = pa.schema(
    [
        pa.field("index", pa.int32(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("value", pa.float64()),
        pa.field("name", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("picture", pa.binary()),
        pa.field("text", pa.string()),
        pa.field("span_first", pa.int32()),
        pa.field("span_last", pa.int32()),
        pa.field("row", pa.list_(pa.field("element", pa.float64()))),
    ]
)
"""How examples look, one row per example, by ascending index. What an example does not have is null."""

CHOICE = b"datamodels.choice"
"""Metadata key of fitted weights: JSON of what the estimator has chosen for all targets together; absent for most."""


def read(data: bytes) -> pa.Table:
    """Read a Parquet file from bytes and check its page checksums. Raises pa.ArrowException, OSError.

    Uses only the caller's thread: `parquet.read_table` starts threads even if told not to, and these occasionally
    abort the process at its exit.
    """
    return opened(data).read(use_threads=False)


def opened(data: bytes) -> parquet.ParquetFile:
    """Open a Parquet file from bytes, to read one row group after the other. Checks and raises as `read` does."""
    return parquet.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, pre_buffer=False)


def array(values: np.ndarray) -> pa.Array:
    """Return numbers [n] as an Arrow array of their type, without a copy if they are contiguous."""
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def texts(values: Sequence[str]) -> pa.Array:
    """Return texts as an Arrow array."""
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers as a read-only array, without a copy if it has one chunk.

    Raises pa.ArrowInvalid if it has other values, or lacks some.
    """
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not pa.types.is_integer(whole.type) and not pa.types.is_floating(whole.type):
        raise pa.ArrowInvalid(f"a column has type {whole.type}, must be numbers")
    if whole.null_count:
        raise pa.ArrowInvalid(f"{whole.null_count} of {len(whole)} numbers are missing")
    dtype, data = np.dtype(whole.type.to_pandas_dtype()), whole.buffers()[1]
    return np.frombuffer(data or b"", dtype, len(whole) if data else 0, whole.offset * dtype.itemsize if data else 0)
