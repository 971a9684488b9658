"""The Parquet file of a part is what Arrow's own writer would write, as far as readers can tell."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodels.aggregate import parquet
from datamodels.storage import schema


def columns(rows, n, dtype, scale=1.0):
    values = np.random.default_rng(rows * n).normal(size=(rows, n)) * scale
    return np.arange(7, 7 + rows, dtype=np.int32), values.astype(dtype)


def written_by_arrow(index, values, found, step):
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, found, compression="none", use_dictionary=False) as writer:
        for first in range(0, max(len(index), 1), step):
            lists = pa.FixedSizeListArray.from_arrays(
                schema.array(values[first : first + step].reshape(-1)), type=found.field("margins").type
            )
            writer.write_table(pa.Table.from_arrays([schema.array(index[first : first + step]), lists], schema=found))
    return pq.ParquetFile(io.BytesIO(sink.getvalue()))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    ("rows", "n", "step"), [(0, 5, 3), (1, 1, 1), (5, 1, 2), (7, 300, 3), (40, 3, 2), (2, 20_000, 2)]
)
@pytest.mark.parametrize("worth", [0, 99], ids=["plain", "compressed"])
def test_a_file_reads_as_that_of_arrow(monkeypatch, dtype, rows, n, step, worth):
    monkeypatch.setattr(parquet, "WORTH", worth)
    index, values = columns(rows, n, dtype)
    found = schema.outputs(n, dtype).with_metadata({"datamodels.part": "{}"})
    data = parquet.encode(index, values, found, step)
    ours, theirs = (
        pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True),
        written_by_arrow(index, values, found, step),
    )
    assert ours.schema.equals(theirs.schema) and ours.schema_arrow.equals(theirs.schema_arrow, check_metadata=True)
    assert ours.metadata.metadata == theirs.metadata.metadata
    assert ours.read().equals(theirs.read())
    assert ours.metadata.num_row_groups == theirs.metadata.num_row_groups
    for group in range(ours.metadata.num_row_groups):
        for column in range(2):
            mine, other = (file.metadata.row_group(group).column(column) for file in (ours, theirs))
            for name in ("path_in_schema", "physical_type", "num_values"):
                assert getattr(mine, name) == getattr(other, name)
            assert mine.compression == ("ZSTD" if worth and rows else "UNCOMPRESSED")
        if rows:
            bounds = [file.metadata.row_group(group).column(0).statistics for file in (ours, theirs)]
            assert bounds[0].min == bounds[1].min and bounds[0].max == bounds[1].max


@pytest.mark.parametrize(
    ("of", "compressed"),
    [
        (lambda values: values, False),
        (lambda values: values.astype(np.float16).astype(np.float32), True),
        (lambda values: np.rint(values), True),
    ],
    ids=["margins", "halves", "counts"],
)
def test_only_numbers_that_repeat_are_compressed(of, compressed):
    index, values = columns(20, 2000, np.float32)
    data = parquet.encode(index, of(values), schema.outputs(2000, "float32"), 20)
    assert (len(data) < parquet.WORTH * values.nbytes) == compressed
    assert len(data) < values.nbytes + 2000
