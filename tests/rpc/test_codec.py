import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datamodels.errors import InputError, SpecError
from datamodels.rpc import codec
from datamodels.run import designs, runs, specs
from datamodels.v1 import types_pb2

DTYPES = ("uint8", "int32", "int64", "float16", "float32", "float64")


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    )
)
def test_an_array_survives_the_trip(array):
    raw = codec.to_tensor(array).SerializeToString()
    again = codec.from_tensor(
        types_pb2.Tensor.FromString(raw), "x", dtypes=(array.dtype.name,), shape=(None,) * array.ndim
    )
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()
    assert not again.flags.writeable


def test_every_type_of_the_proto_is_known():
    known = set(codec._DTYPES)
    assert known == set(types_pb2.Tensor.DType.values()) - {types_pb2.Tensor.DTYPE_UNSPECIFIED}
    assert {dtype.name for dtype in codec._DTYPES.values()} == set(DTYPES)


def test_every_kind_of_design_of_the_proto_is_known():
    assert set(codec._KIND_OF) == set(types_pb2.Design.Kind.values()) - {types_pb2.Design.KIND_UNSPECIFIED}


def test_bytes_are_little_endian_in_c_order():
    big = np.array([[1, 2], [3, 4]], dtype=">i4").T
    assert codec.to_tensor(big).data == np.array([1, 3, 2, 4], dtype="<i4").tobytes()


def tensor(dtype=types_pb2.Tensor.DTYPE_INT32, shape=(2, 3), data=bytes(24)):
    return types_pb2.Tensor(dtype=dtype, shape=shape, data=data)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (types_pb2.Tensor(), "rows: has type None, must be int32 or int64"),
        (tensor(dtype=99), "rows: has type None"),
        (tensor(dtype=types_pb2.Tensor.DTYPE_FLOAT32), "rows: has type float32, must be int32 or int64"),
        (tensor(shape=(6,)), "rows: has shape (6), must be (any, 3)"),
        (tensor(shape=(3, 2)), "rows: has shape (3, 2), must be (any, 3)"),
        (tensor(shape=(-2, 3)), "rows: has shape (-2, 3), must be (any, 3)"),
        (tensor(data=bytes(23)), "rows: has 23 bytes, shape (2, 3) of int32 takes 24"),
        (tensor(shape=(2**62, 3)), f"rows: has 24 bytes, shape ({2**62}, 3) of int32 takes {2**62 * 12}"),
    ],
)
def test_a_tensor_that_is_not_what_is_expected(message, fault):
    with pytest.raises(InputError) as caught:
        codec.from_tensor(message, "rows", dtypes=("int32", "int64"), shape=(None, 3))
    assert str(caught.value).startswith(fault)


def test_an_empty_message_is_none_and_an_empty_array_is_not():
    assert codec.optional_int32(types_pb2.Tensor(), "x") is None
    assert codec.optional_int32(codec.to_tensor(np.zeros(0, np.int32)), "x").tolist() == []


GROUPS = np.arange(40, dtype=np.int32) % 8
DESIGNS = [
    designs.Design("uniform", 2**64 - 1, 0.1, 50),
    designs.Design("complement", 0, 0.5, 41, pinned_out=(0,)),
    designs.Design("stratified", 3, 0.4, 40, GROUPS, pinned_in=(2, 9)),
    designs.Design("grouped", 3, 0.5, 40, GROUPS, pinned_in=(2,), pinned_out=(0, 7)),
]


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: d.kind)
def test_a_design_survives_the_trip(design):
    again = codec.from_design(types_pb2.Design.FromString(codec.to_design(design).SerializeToString()))
    for field in ("kind", "seed", "alpha", "examples", "pinned_in", "pinned_out"):
        assert getattr(again, field) == getattr(design, field)
    assert (again.groups is None) == (design.groups is None)
    assert (designs.subsets(again, 0, 20) == designs.subsets(design, 0, 20)).all()


def make_run(labels=True):
    parsed = specs.parse(
        {"name": "try", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100, "seed": 9, "alpha": 0.25}
    )
    return runs.Run(
        spec=parsed,
        design=designs.Design("uniform", 9, 0.25, 30),
        own=np.array([-1, 3, 29], np.int32),
        labels=np.arange(30, dtype=np.int32) % 3 if labels else None,
        target_labels=np.array([0, 1, 2], np.int32) if labels else None,
    )


@pytest.mark.parametrize("labels", [True, False])
def test_a_run_survives_the_trip(labels):
    run = make_run(labels)
    again = codec.from_run_record(types_pb2.RunRecord.FromString(codec.to_run_record(run).SerializeToString()))
    assert json.dumps(again.document()) == json.dumps(run.document())
    assert again.name == run.name


def changed(**fields):
    message = codec.to_run_record(make_run())
    for field, value in fields.items():
        if isinstance(value, str):
            setattr(message, field, value)
        else:
            getattr(message, field).CopyFrom(value)
    return message


def int32(*values):
    return codec.to_tensor(np.array(values, np.int32))


SPEC = json.loads(codec.to_run_record(make_run()).spec_json)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"spec_json": ""}, "spec_json: is not JSON"),
        ({"spec_json": "{"}, "spec_json: is not JSON"),
        ({"spec_json": "[" * 100_000}, "spec_json: is not JSON, or is nested too deeply"),
        ({"run": "try-000000000000"}, "run = 'try-000000000000': the spec's name and hash make it 'try-"),
        ({"own_example": int32(30)}, "own_example: holds 30 to 30, must be -1 to 29"),
        ({"own_example": int32(-2, 0)}, "own_example: holds -2 to 0, must be -1 to 29"),
        ({"own_example": int32()}, "own_example: is empty"),
        ({"labels": int32(1, 2, 3)}, "labels: has shape (3), must be (30)"),
        ({"target_labels": int32(1, 2)}, "target_labels: has shape (2), must be (3)"),
        ({"design": codec.to_design(designs.Design("uniform", 8, 0.25, 30))}, "design.seed = 8: the spec says 9"),
        ({"design": codec.to_design(designs.Design("uniform", 9, 0.5, 30))}, "design.alpha = 0.5: the spec says 0.25"),
        ({"design": types_pb2.Design()}, "design.kind = 'unspecified'"),
    ],
)
def test_a_faulty_run_record_is_refused(fields, fault):
    with pytest.raises(InputError) as caught:
        codec.from_run_record(changed(**fields))
    assert str(caught.value).startswith(fault)


@pytest.mark.parametrize(
    ("document", "fault"),
    [("[1]", "the spec is a list"), ("3", "the spec is a int"), (json.dumps(SPEC | {"m": 1}), "m = 1: must")],
)
def test_a_faulty_spec_in_a_record_is_told_by_its_faults(document, fault):
    with pytest.raises(SpecError) as caught:
        codec.from_run_record(changed(spec_json=document))
    assert str(caught.value).startswith(fault)


@pytest.mark.parametrize("depth", [150, 300, 900])
def test_a_deeply_nested_spec_never_gives_another_error(depth):
    options = "[" * depth + "]" * depth
    document = json.dumps(SPEC | {"dataset": {"load": "a:b", "options": {"x": 0}}}).replace('"x": 0', f'"x": {options}')
    with pytest.raises((InputError, SpecError)):
        codec.from_run_record(changed(spec_json=document))
