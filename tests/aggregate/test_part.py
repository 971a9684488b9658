import dataclasses
import io
import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from datamodels.aggregate import parquet, part
from datamodels.aggregate.part import Assembly
from datamodels.errors import CorruptObjectError, OutputsError
from datamodels.run import precision
from datamodels.storage import schema

MODELS = range(4, 8)
INDEX = np.arange(4, 8)


@pytest.fixture(params=[part.GROUP_BYTES, 1], ids=["one row group", "a row group for each model"])
def groups(request, monkeypatch):
    monkeypatch.setattr(part, "GROUP_BYTES", request.param)


@pytest.fixture
def values(run):
    return np.arange(4 * run.n, dtype=np.float32).reshape(4, run.n)


def decoded(data, run, models=MODELS, n=None):
    return part.decode(data, "store/key", run=run.name, models=models, n=n)


@given(
    rows=st.integers(0, 4).flatmap(
        lambda r: st.tuples(
            st.permutations(range(4, 8)).map(lambda p: p[:r]),
            arrays.arrays(np.float16, (r, 5), elements=st.floats(-65504, 65504, width=16)),
            st.sampled_from(precision.GIVEN),
            st.sampled_from(precision.DTYPES),
        )
    ),
    retried=st.sets(st.integers(4, 7)),
    reason=st.text(min_size=1, max_size=400).filter(str.strip),
    cuts=st.sets(st.integers(1, 3)),
    seconds=st.sampled_from([0.0, 0.1, 1e9]),
)
def test_any_outputs_in_any_pieces_are_read_back_unchanged(run, groups, rows, retried, reason, cuts, seconds):
    index, outputs, dtype, kept = np.array(rows[0], dtype=np.int64), *rows[1:]
    assembly = Assembly(dataclasses.replace(run, dtype=kept), MODELS, seconds)
    edges = [0, *sorted(c for c in cuts if c < len(index)), len(index)]
    for first, last in itertools.pairwise(edges):
        assembly.add(index[first:last], outputs[first:last].astype(dtype))
    failed = {model: reason for model in MODELS if model not in rows[0]}
    retried &= set(rows[0])
    assembly.add(index[:0], outputs[:0], failed, retried)
    found = decoded(part.encode(assembly.finish()), run, n=5)
    order = np.argsort(index)
    assert found.run == run.name and found.models == MODELS
    assert found.model_index.dtype == np.int32 and found.outputs.dtype == kept
    np.testing.assert_array_equal(found.model_index, index[order])
    assert found.outputs.tobytes() == outputs[order].astype(kept).tobytes()
    assert list(found.failed) == sorted(failed) and found.retried == tuple(sorted(retried))
    assert found.seconds == seconds
    assert set(found.failed.values()) <= {" ".join(reason.split())[: part.LONGEST_REASON]}


@pytest.mark.parametrize("worth", [0, 99], ids=["plain", "compressed"])
@pytest.mark.parametrize("reader", ["pandas", "polars", "duckdb", "fastparquet"])
def test_other_programs_read_parts(run, values, groups, tmp_path, monkeypatch, reader, worth):
    monkeypatch.setattr(parquet, "WORTH", worth)
    module = pytest.importorskip(reader, reason=f"{reader} is not installed; `pip install {reader}`")
    path = tmp_path / "part.parquet"
    values = values / 3
    path.write_bytes(part.encode(part.validate(run, MODELS, INDEX, values)))
    read = {
        "pandas": lambda: module.read_parquet(path)["margins"].tolist(),
        "polars": lambda: module.read_parquet(path)["margins"].to_list(),
        "duckdb": lambda: (
            module.sql(f"SELECT margins FROM '{path}' ORDER BY model_index").fetchnumpy()["margins"].tolist()
        ),
        "fastparquet": lambda: module.ParquetFile(str(path)).to_pandas()["margins"].tolist(),
    }
    np.testing.assert_array_equal(np.array(read[reader](), dtype=np.float32), values)


def test_the_public_columns_are_those_of_the_schema(run, values):
    data = part.encode(part.validate(run, MODELS, INDEX[1:], values[1:], {4: "diverged"}))
    found = pq.read_schema(io.BytesIO(data))
    assert found.equals(schema.outputs(run.n, "float32"))
    assert json.loads(found.metadata[schema.FAILED_MODELS]) == [{"model_index": 4, "reason": "diverged"}]
    assert json.loads(found.metadata[schema.PART]) == {"run": run.name, "first": 4, "last": 8}


@pytest.mark.parametrize("strange", [4, 8])
def test_a_retried_model_must_have_outputs(run, values, strange):
    assembly = Assembly(run, MODELS)
    assembly.add(INDEX[1:], values[1:], {4: "diverged"}, [strange, 5])
    with pytest.raises(OutputsError, match=f"model {strange} .* is in retried but has no outputs"):
        assembly.finish()


def test_a_part_without_the_metadata_key_has_no_retries(run, values):
    data = part.encode(part.validate(run, MODELS, INDEX, values))
    assert schema.RETRIED_MODELS not in pq.read_schema(io.BytesIO(data)).metadata
    assert decoded(data, run).retried == ()


@pytest.mark.parametrize("models", [range(0, 3), range(1, 4), range(0, 8), range(8, 10, 2), range(4, 4), range(-4, 0),
                                    range(24, 28), range(26, 30), range(0, 2**63), range(2**62, 2**63)])  # fmt: skip
def test_models_that_are_not_a_sub_chunk(run, models):
    with pytest.raises(OutputsError, match="not a sub-chunk; chunks of 8 models are committed in steps of 4"):
        Assembly(run, models)


def test_the_last_sub_chunk_is_shorter(run):
    assembly = Assembly(run, range(24, 26))
    assembly.add(np.array([24, 25]), np.zeros((2, run.n), np.float32))
    assert len(assembly.finish().model_index) == 2


@pytest.mark.parametrize(
    ("index", "shape", "dtype", "message"),
    [
        ([4, 5, 6], (4, 5), "f4", r"shape \(4, 5\): must be \(3, 5\)"),
        ([4, 5, 6, 7], (4, 6), "f4", r"shape \(4, 6\): must be \(4, 5\)"),
        ([4, 5, 6, 7], (4,), "f4", r"shape \(4,\)"),
        ([[4, 5, 6, 7]], (4, 5), "f4", "must be a list of integers"),
        ([4.0, 5.0, 6.0, 7.0], (4, 5), "f4", "must be a list of integers"),
        ([4, 5, 6, 7], (4, 5), "i4", "type int32: must be float16 or float32 or float64"),
        ([4, 5, 6, 7], (4, 5), "c8", "type complex64"),
        ([4, 5, 6, 8], (4, 5), "f4", "model 8 .* must be 4 to 7"),
        ([3, 5, 6, 7], (4, 5), "f4", "model 3 .* must be 4 to 7"),
        ([-1, 5, 6, 7], (4, 5), "f4", "model -1 "),
        ([4, 5, 5, 7], (4, 5), "f4", "model 5 .* twice"),
        ([4, 5, 6], (3, 5), "f4", "1 of the models 4 to 8 are neither in outputs nor in failed, the first is 7"),
        ([], (0, 5), "f4", "4 of the models .* first is 4"),
    ],
)
def test_outputs_that_do_not_fit(run, index, shape, dtype, message):
    with pytest.raises(OutputsError, match=message):
        part.validate(run, MODELS, np.array(index, dtype=None if index else int), np.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.nan, np.float32, "nan: 1 of 20 outputs are not finite"),
        (np.inf, np.float16, "inf: 1 of 20 outputs are not finite"),
        (-np.inf, np.float64, "-inf: 1 of 20 outputs are not finite"),
        (
            -1e300,
            np.float64,
            r"-1e\+300: 1 of 20 outputs are beyond float32, .* up to 3.403e\+38, .* rescale the outputs",
        ),
    ],
)
def test_values_that_cannot_be_stored_are_named(run, values, value, dtype, message):
    outputs = values.astype(dtype)
    outputs[2, 3] = value
    with pytest.raises(OutputsError, match=rf"model 6 on target 3 of run {run.name} is {message}"):
        part.validate(run, MODELS, INDEX, outputs)


def test_a_run_of_the_first_version_goes_on_in_its_type(run, values):
    first = dataclasses.replace(run, dtype="float16")
    values[0, 0] = 65504
    found = decoded(part.encode(part.validate(first, MODELS, INDEX, values)), run)
    assert found.outputs.dtype == np.float16 and found.outputs[0, 0] == 65504
    values[0, 0] = 70000
    with pytest.raises(
        OutputsError, match=r"is 70000.0: 1 of 20 outputs are beyond float16, which holds up to 6.55e\+04"
    ):
        part.validate(first, MODELS, INDEX, values)


def test_values_that_cannot_be_stored_are_counted(run, values):
    with pytest.raises(OutputsError, match=r"model 4 on target 0 .* 20 of 20 outputs"):
        part.validate(run, MODELS, INDEX, np.full_like(values, np.nan))


@pytest.mark.parametrize(
    ("failed", "message"),
    [
        ({4: "x"}, "model 4 .* both in outputs and in failed"),
        ({9: "x"}, "model 9 .* must be 4 to 7"),
        ({7: ""}, "model 7 .* without a reason"),
        ({7: " \n"}, "model 7 .* without a reason"),
    ],
)
def test_failed_models_that_do_not_fit(run, values, failed, message):
    with pytest.raises(OutputsError, match=message):
        part.validate(run, MODELS, INDEX[:3], values[:3], failed)


def test_a_model_twice_over_two_batches(run, values):
    assembly = Assembly(run, MODELS)
    assembly.add(INDEX[:2], values[:2], {6: "x"})
    with pytest.raises(OutputsError, match=r"model 5 .* twice"):
        assembly.add(INDEX[1:2], values[1:2])
    with pytest.raises(OutputsError, match=r"model 6 .* twice"):
        assembly.add(INDEX[2:3], values[2:3])
    with pytest.raises(OutputsError, match=r"model 6 .* twice"):
        assembly.add(INDEX[:0], values[:0], {6: "y"})


def test_a_refused_batch_leaves_the_assembly_as_it_was(run, values):
    assembly = Assembly(run, MODELS)
    bad = values.copy()
    bad[3, 0] = np.nan
    with pytest.raises(OutputsError):
        assembly.add(INDEX, bad)
    assembly.add(INDEX, values)
    np.testing.assert_array_equal(assembly.finish().outputs, values)


def test_every_truncation_is_corrupt(run, values, groups):
    data = part.encode(part.validate(run, MODELS, INDEX, values))
    for length in range(len(data)):
        with pytest.raises(CorruptObjectError, match="store/key: is not a complete part"):
            decoded(data[:length], run)


def test_a_flipped_byte_never_changes_an_output(run, values, groups):
    """Page checksums protect the outputs without the sha256 of a manifest, as when parts are recovered."""
    whole = part.validate(run, MODELS, INDEX, values)
    data = part.encode(whole)
    found = 0
    for position in range(len(data)):
        altered = bytearray(data)
        altered[position] ^= 0x10
        try:
            back = decoded(bytes(altered), run, n=run.n)
        except CorruptObjectError:
            found += 1
        else:
            assert back.outputs.tobytes() == whole.outputs.tobytes()
            np.testing.assert_array_equal(back.model_index, whole.model_index)
    assert found > len(data) // 4


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not parquet at all", bytes(1000)])
def test_bytes_that_are_not_parquet(run, data):
    with pytest.raises(CorruptObjectError, match="is not a complete part"):
        decoded(data, run)


def test_foreign_parquet(run):
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": [1, 2]}), sink)
    with pytest.raises(CorruptObjectError, match="is not a complete part"):
        decoded(sink.getvalue(), run)


def test_a_part_under_the_key_of_another(run, values):
    data = part.encode(part.validate(run, MODELS, INDEX, values))
    with pytest.raises(CorruptObjectError, match="its name says"):
        decoded(data, run, models=range(0, 4))
    with pytest.raises(CorruptObjectError, match="its name says"):
        part.decode(data, "store/key", run="another", models=MODELS)
    with pytest.raises(CorruptObjectError, match="a part of 6 targets"):
        decoded(data, run, n=6)


def test_a_part_that_lacks_a_model(run, values):
    whole = part.validate(run, MODELS, INDEX, values)
    lacking = part.Outputs(run.name, MODELS, whole.model_index[1:], whole.outputs[1:], {})
    with pytest.raises(CorruptObjectError, match="does not hold each of the models 4 to 8 once"):
        decoded(part.encode(lacking), run)
