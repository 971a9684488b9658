import dataclasses

import numpy as np
import pytest

from datamodels.analyze.quality.agreement import Agreement, Points, Quality
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.errors import InputError
from datamodels.rpc import messages
from datamodels.v1 import query_pb2, types_pb2


def quality():
    agreement = Agreement(20, 0.5, (0.25, 0.75), 0.875, np.array([0.5, np.nan]))
    points = Points(np.array([1, 0], np.int32), *(np.array([i, -i], np.float32) for i in range(3)))
    evaluation = Evaluation(
        0.5, (-0.25, 1.0), 0.75, np.array([np.nan, 0.5]), 100, 2, 20, (0.5, 0.875), 1, 2, np.ones(3)
    )
    return Quality(evaluation, agreement, dataclasses.replace(agreement, models=1), points)


def same(a, b):
    if isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    elif dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            if field.name != "deviations":
                same(getattr(a, field.name), getattr(b, field.name))
    else:
        assert a == b and type(a) is type(b)


def test_fields_of_the_message_survive_the_round_trip_and_others_are_not_sent():
    sent = messages.fill(query_pb2.Quality(), quality()).SerializeToString()
    found = messages.read(query_pb2.Quality.FromString(sent), Quality)
    same(quality(), found)
    assert not len(found.evaluation.deviations)


def test_a_value_that_lacks_a_field_is_a_programming_error():
    with pytest.raises(AttributeError, match="models"):
        messages.fill(query_pb2.Agreement(), quality().points)


def test_a_damaged_tensor_is_refused_and_its_field_named():
    message = query_pb2.Agreement(per_target=types_pb2.Tensor(dtype=types_pb2.Tensor.DTYPE_FLOAT64, shape=[3]))
    with pytest.raises(InputError, match="per_target: has 0 bytes"):
        messages.read(message, Agreement)
