import dataclasses

import numpy as np
import pytest

from datamodels.baselines import neighbours
from datamodels.baselines.context import Context
from datamodels.errors import SpecError
from datamodels.run import runs, specs
from datamodels.storage.local import LocalStore
from tests.baselines import networks as made

DOCUMENT = {
    "name": "near",
    "dataset": {"load": "tests.baselines.networks:dataset"},
    "trainer": {"class": "datamodels.train.mlp:MLP", "options": {"hidden": 5, "epochs": 2}},
    "m": 100,
}


def given(folder, data, **fields):
    run = runs.resolve(specs.parse(DOCUMENT | fields), data)
    return Context(run, data, LocalStore(folder), 2)


def test_the_same_example_is_nearest_and_counts_by_its_label(tmp_path):
    data = made.dataset()
    x_test = data.x_test.copy()
    x_test[:2] = data.x[[4, 9]]
    y_test = data.y_test.copy()
    y_test[:2] = data.y[4], (data.y[9] + 1) % made.CLASSES
    data = dataclasses.replace(data, x_test=x_test, y_test=y_test)
    asked = given(tmp_path, data)
    for scores in (neighbours.inputs(asked), neighbours.representations(asked.trained)):
        assert scores.shape == (made.TARGETS, made.EXAMPLES)
        assert np.abs(scores[:2]).argmax(axis=1).tolist() == [4, 9]
        np.testing.assert_allclose(scores[[0, 1], [4, 9]], [1, -1], rtol=1e-3)
        agrees = data.y_test[:, None] == data.y
        assert (scores[agrees] >= 0).all() and (scores[~agrees] <= 0).all()


def test_nearer_is_more_alike_whatever_the_scale():
    targets, pool = np.zeros((1, 2), dtype=np.float32), np.array([[1, 0], [0, 2], [3, 0]], dtype=np.float32)
    found = neighbours.similarity(targets, pool)
    assert (np.diff(found[0]) < 0).all()
    np.testing.assert_allclose(neighbours.similarity(targets, 100 * pool), found, rtol=1e-4)


def test_what_are_no_numbers_needs_features(tmp_path):
    words = np.array(["a", "b"] * 15)
    data = dataclasses.replace(made.dataset(), x=words, x_test=words[: made.TARGETS])
    with pytest.raises(SpecError, match=r"fit\.features"):
        neighbours.inputs(given(tmp_path, data))
