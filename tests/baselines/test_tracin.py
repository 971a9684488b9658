import numpy as np
import pytest
import torch

from datamodels.baselines.gradients import tracin
from tests.baselines import networks as made


@pytest.mark.parametrize("kind", ["mlp", "softmax"])
def test_it_is_the_sum_over_checkpoints_of_products_of_gradients(kind):
    trainer = made.trainer(kind)
    trained, logits = made.trained(trainer), made.function(kind)

    def gradients(x, y, weights):
        rows = torch.tensor(x, dtype=torch.float64)
        return np.array(
            [
                made.gradient(lambda w, row=row, label=label: made.cross_entropy(logits(w, row), label), weights)
                for row, label in zip(rows, y.tolist(), strict=True)
            ]
        )

    expected = 0
    for rate, models in trained.checkpoints:
        for model in models:
            weights = made.weights(kind, trainer, model)
            pool, targets = (
                gradients(x, y, weights) for x, y in ((trainer.x, trainer.y), (trainer.x_targets, trainer.y_targets))
            )
            expected = expected + rate * targets @ pool.T / len(models)
    np.testing.assert_allclose(tracin.attribution(trained), expected, rtol=1e-3, atol=1e-4)


def test_the_last_checkpoint_is_the_trained_model():
    trainer = made.trainer()
    checkpoints = made.trained(trainer).checkpoints
    expected = trainer.train_many([np.arange(made.EXAMPLES)] * 2, range(2))
    np.testing.assert_array_equal(checkpoints[-1][1], expected)
    rates = [rate for rate, _ in checkpoints]
    np.testing.assert_allclose(rates, trainer.recipe.learning_rate * np.array([3.5, 2.5, 1.5, 0.5]) / 4)
