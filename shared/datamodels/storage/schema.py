"""Define the schemas of all Parquet files."""

from __future__ import annotations

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

CHOICE = b"datamodels.choice"
"""Metadata key of fitted weights: JSON of what the estimator has chosen for all targets together; absent for most."""


def read(data: bytes) -> pa.Table:
    """Read a Parquet file from bytes and check its page checksums. Raises pa.ArrowException, OSError.

    Uses only the caller's thread: `parquet.read_table` starts threads even if told not to, and these occasionally
    abort the process at its exit.
    """
    file = parquet.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, pre_buffer=False)
    return file.read(use_threads=False)
