"""Gradients of a GPT-2, whose dense layers are transposed and whose loss is a mean over tokens."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from datamodels.errors import SpecError
from datamodels.train.gradients.metagradients import Metagradients
from datamodels.train.texts import Text, language_dataset
from datamodels.train.torch import TorchTrainer
from datamodels.train.torch.problem import LOSSES, Problem
from tests.train.gradients.test_autograd import EVERY, gradient, network_of

transformers = pytest.importorskip("transformers", reason="needs transformers; the extra of that name brings it")
WORDS, POOL = 6, 5


def build():
    from datamodels.train.torch.examples import gpt

    return gpt(words=WORDS, length=7, width=4)


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    texts = [Text(rng.integers(1, WORDS, size).tolist()) for size in (7, 4, 6, 5, 7)]
    data = language_dataset(texts, [(texts[0], 2, 5), (Text([1, 2, 3]), 1, 2)])
    options = {"loss": "cross_entropy", "output": "log_likelihood", "learning_rate": 0.02, "epochs": 2}
    trainer = TorchTrainer(data, data.targets("test"), build=build, batch_size=4, **options)
    return trainer, trainer.train_many([np.arange(POOL)], [0])[0]


@pytest.mark.parametrize("sizes", [{"words": 3, "length": 7}, {"words": WORDS, "length": 4}], ids=["words", "length"])
def test_a_network_that_is_too_small_for_the_tokens_is_refused(sizes):
    from datamodels.train.torch.examples import gpt

    texts = [Text([1, 2, 5, 3, 4, 2, 1])] * 2
    data = language_dataset(texts, [(texts[0], 2, 5)])
    with pytest.raises(SpecError, match=r"too few rows for the numbers in x, .*: x has 1 to 5 in shape \[7\]"):
        TorchTrainer(data, data.targets("test"), build=lambda: gpt(**sizes, width=4), loss="cross_entropy")


def test_the_output_and_its_gradient_are_those_of_the_span(case):
    trainer, model = case
    network, parameters = network_of(trainer, model)
    x, y = trainer.targets(EVERY)
    steps = functional.log_softmax(network(x).logits, dim=2)
    likelihood = [
        torch.stack([steps[0, t, y[0, t]] for t in (1, 2, 3)]).mean(),  # tokens 2, 3 and 4, by those before them
        steps[1, 0, y[1, 0]],
    ]
    expected = [value.item() for value in likelihood]
    np.testing.assert_allclose(trainer.outputs_many([model])[0], expected, rtol=1e-5)
    found = trainer.gradients(model).of_outputs(EVERY)
    np.testing.assert_allclose(found, [gradient(value, parameters) for value in likelihood], rtol=1e-3, atol=1e-5)


def test_inputs_and_signals_of_its_layers_make_up_the_curvature(case):
    """But for the last one, whose weight is that of the embedding, too."""
    trainer, model = case
    found = trainer.gradients(model)
    whole, layers = found.of_curvature(EVERY), found.factors(EVERY)
    assert len(layers) == 5
    for layer in layers[:-1]:
        product = np.einsum("retb,eta->erba", layer.signals, layer.inputs)
        np.testing.assert_allclose(
            product.reshape(*product.shape[:2], -1), whole[:, :, layer.columns], rtol=1e-3, atol=1e-6
        )


def test_the_factors_have_the_curvature_of_the_loss_as_their_mean():
    y = torch.tensor([[1, -100, 3], [2, 0, -100]])
    logits = torch.randn((2, 3, 4), generator=torch.Generator().manual_seed(1))
    found = Problem(LOSSES["cross_entropy"], None).factors(logits, y, 40_000)
    product = found @ found.mT
    for row in range(2):
        loss = lambda flat, row=row: LOSSES["cross_entropy"](flat.reshape(1, 3, 4), y[row : row + 1])[0]  # noqa: E731
        expected = torch.func.hessian(loss)(logits[row].reshape(-1))
        torch.testing.assert_close(product[row], expected, rtol=0, atol=0.005)
    assert Problem(LOSSES["cross_entropy"], None).factors(logits[:, 0], y[:, 0], 3) is None


def test_representations_are_those_of_the_tokens_that_count(case):
    trainer, model = case
    network, _ = network_of(trainer, model)
    pool, targets = trainer.gradients(model).representations()
    x, _ = trainer.targets(EVERY)
    states = network.transformer(x).last_hidden_state.detach()
    np.testing.assert_allclose(targets, torch.stack([states[0, 1:4].mean(0), states[1, 0]]), rtol=1e-4, atol=1e-5)
    x, _ = trainer.pool(EVERY)
    np.testing.assert_allclose(pool[1], network.transformer(x).last_hidden_state[1, :3].mean(0).detach(), rtol=1e-4)


def test_baselines_of_gradients_take_it(case):
    """Of all weights exactly, of the last layer, and of TRAK: of the right shape, and finite."""
    from datamodels.baselines.context import Trained
    from datamodels.baselines.gradients import influence, tracin, trak

    trainer, model = case
    trained = Trained(trainer, [(0.02, [model])], 0.0)
    for method in (influence.whole, influence.last_layer, influence.ekfac, tracin.attribution, trak.attribution):
        found = method(trained)
        assert found.shape == (2, POOL) and np.isfinite(found).all() and found.std() > 0


def test_its_trainings_can_be_differentiated(case):
    trainer, model = case
    replay = trainer.replay(np.arange(POOL), 0)
    found = Metagradients(replay)
    last = replay.model(found.last)
    np.testing.assert_allclose(trainer.outputs_many([last]), trainer.outputs_many([model]), rtol=1e-5)
    scores = found.of(trainer.gradients(last).of_outputs, np.array([True, True]), POOL)
    assert not found._loops and np.isfinite(scores).all() and (scores != 0).all()
