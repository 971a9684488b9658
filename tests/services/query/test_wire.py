"""Messages that are put together from pieces are those of Protocol Buffers, byte for byte."""

import gc
import weakref

import numpy as np
import pytest
from datamodels.services.query import wire

from datamodels.query.weights import WeightStore
from datamodels.rpc import codec
from datamodels.testing import fitted as made
from datamodels.v1 import query_pb2, types_pb2

ARRAYS = [
    np.arange(300, dtype=np.int32),
    np.arange(12, dtype=np.float64).reshape(3, 4).T,
    np.zeros((0, 5), np.float32),
    np.arange(20_000, dtype=">f4"),
    np.arange(40, dtype=np.int64)[::2],
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype} {array.shape}")
def test_a_tensor(array):
    assert b"".join(wire.tensor(array)) == codec.to_tensor(array).SerializeToString(deterministic=True)


def test_messages_in_messages():
    provenance = types_pb2.Provenance(run="small", fit=3)
    expected = query_pb2.GetWeightsResponse(
        provenance=provenance,
        weights=query_pb2.SparseWeights(targets=codec.to_tensor(ARRAYS[0]), gap=codec.to_tensor(ARRAYS[1])),
    )
    weights = wire.message(query_pb2.SparseWeights, {"targets": wire.tensor(ARRAYS[0]), "gap": wire.tensor(ARRAYS[1])})
    answer = {"provenance": [provenance.SerializeToString()], "weights": weights}
    assert b"".join(wire.message(query_pb2.GetWeightsResponse, answer)) == expected.SerializeToString()


def fitted_in(folder):
    store, run, _ = made.make_store(folder)
    return WeightStore(store).fitted(run.name)


def test_all_weights_of_the_last_fit_are_kept_up_to_a_size(tmp_path):
    first, second, wholes = fitted_in(tmp_path / "a"), fitted_in(tmp_path / "b"), wire.Wholes()
    size = first.solution.columns.nbytes + first.solution.weights.nbytes + wire.ROW_BYTES * first.n
    kept, anew = wholes.messages(first), wire.Wholes(size - 1).messages(first)
    assert list(kept) == list(anew) and list(anew) == []
    (answer,) = map(query_pb2.GetWeightsResponse.FromString, kept)
    indices = codec.from_tensor(answer.weights.indices, "indices", dtypes=("int32",), shape=(None,))
    np.testing.assert_array_equal(indices, first.solution.columns)
    assert wholes.messages(first) is kept
    assert wholes.messages(second) is wholes.messages(second)
    assert wholes.messages(first) is not kept, "the second took its place"
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None, "fits that the service drops are not held"


def test_answers_are_kept_for_each_fit_and_the_last_ones_alone(tmp_path):
    first, second = fitted_in(tmp_path / "a"), fitted_in(tmp_path / "b")
    answer = query_pb2.TopInfluencesResponse(target={"status": "x" * 600})
    size, asked = answer.ByteSize() + wire.ANSWER_BYTES, []
    answers = wire.Answers(3 * size)

    def ask(fitted, *targets):
        for target in targets:
            found = answers.get(fitted, target, lambda target=target: asked.append(target) or answer)
            assert found == answer.SerializeToString()
        made = asked[:]
        asked.clear()
        return made

    assert ask(first, 1, 2, 3, 2, 1) == [1, 2, 3]
    assert ask(second, 1) == [1]
    assert ask(first, 4, 1, 2, 3) == [4, 3], "what was asked for longest ago goes"
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None, "fits that the service drops are not held"
