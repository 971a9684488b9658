import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datamodels.errors import InputError
from datamodels.rpc import codec
from datamodels.v1 import types_pb2

DTYPES = ("uint8", "int32", "int64", "float16", "float32", "float64")


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    )
)
def test_an_array_survives_the_round_trip(array):
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
def test_an_unexpected_tensor_is_refused(message, fault):
    with pytest.raises(InputError) as caught:
        codec.from_tensor(message, "rows", dtypes=("int32", "int64"), shape=(None, 3))
    assert str(caught.value).startswith(fault)


def test_an_empty_message_is_none_and_an_empty_array_is_not():
    assert codec.optional_int32(types_pb2.Tensor(), "x") is None
    assert codec.optional_int32(codec.to_tensor(np.zeros(0, np.int32)), "x").tolist() == []
