import numpy as np
import pytest

from datamodels.baselines.gradients import influence, trak
from tests.baselines import networks as made


@pytest.fixture(scope="module")
def logistic():
    """(trained logistic regression at its minimum, by how much outputs fall without each example)."""
    given = made.trainer(
        "softmax", epochs=1500, batch_size=made.EXAMPLES, learning_rate=0.5, momentum=0.5, weight_decay=0.1
    )
    return made.trained(given, models=1), made.left_out(given).T


@pytest.mark.parametrize("method", [influence.last_layer, influence.whole])
def test_it_is_what_comes_of_training_without_the_example(logistic, method):
    trained, true = logistic
    found = method(trained) / made.EXAMPLES
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.98
    assert np.polyfit(found.ravel(), true.ravel(), 1)[0] == pytest.approx(1, abs=0.2)


def test_the_last_layer_of_one_is_the_whole(logistic):
    trained, _ = logistic
    scale = np.abs(influence.last_layer(trained)).max()
    np.testing.assert_allclose(influence.whole(trained), influence.last_layer(trained), atol=0.1 * scale)


def test_of_a_network_it_is_about_that():
    given = made.trainer("mlp", epochs=400, batch_size=made.EXAMPLES, weight_decay=0.1)
    trained, true = made.trained(given, models=1), made.left_out(given).T
    scores = {
        name: np.corrcoef(method(trained).ravel(), true.ravel())[0, 1]
        for name, method in (("whole", influence.whole), ("ekfac", influence.ekfac), ("last", influence.last_layer))
    }
    assert scores["whole"] > 0.75 and scores["ekfac"] > 0.75 and scores["last"] > 0.6, scores


def test_trak_agrees_where_it_projects_nothing(logistic):
    trained, true = logistic
    found = trak.attribution(trained, examples_per_dimension=1)
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.8
