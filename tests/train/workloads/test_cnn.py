import numpy as np
import pytest
import torch

from datamodels.errors import SpecError
from datamodels.train import Dataset
from datamodels.train.workloads import digits, sgd
from datamodels.train.workloads.cnn import CNN, Convolution, patches

DATA = digits.load(train=300, test=100)


def reference(weights, pictures, filters):
    """Return logits [rows, classes] of one model by PyTorch's convolution. pictures: [rows, h, w, channels]."""
    first, second, third = weights
    rows, _, _, channels = pictures.shape
    kernel = first[:-1].T.reshape(filters, channels, 3, 3)
    found = torch.nn.functional.conv2d(pictures.permute(0, 3, 1, 2), kernel, first[-1])
    pooled = torch.nn.functional.max_pool2d(torch.relu(found), 2).permute(0, 2, 3, 1).reshape(rows, -1)
    hidden = torch.relu(pooled @ second[:-1] + second[-1])
    return hidden @ third[:, :-1].T + third[:, -1]


@pytest.mark.parametrize("shape", [(8, 8, 1), (7, 9, 3), (4, 4, 2)])
def test_logits_and_gradients_are_those_of_autograd(shape):
    generator = np.random.default_rng(0)
    pictures = generator.standard_normal((2, 5, *shape))
    cells = ((shape[0] - 2) // 2) * ((shape[1] - 2) // 2)
    network = Convolution(cells, 9 * shape[2], filters=4, hidden=6, classes=3)
    weights = [generator.standard_normal((2, *size)) * 0.5 for size in network.shapes]
    dz = generator.standard_normal((2, 3, 5))
    x = np.stack([patches(p) for p in pictures])
    gradients = [np.zeros_like(w) for w in weights]
    logits = network.forward(weights, x)
    network.backward(weights, x, dz, gradients)
    for model in range(2):
        ours = [torch.tensor(w[model], requires_grad=True) for w in weights]
        expected = reference(ours, torch.tensor(pictures[model]), filters=4)
        np.testing.assert_allclose(logits[model].T, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
        expected.backward(torch.tensor(dz[model].T))
        for gradient, w in zip(gradients, ours, strict=True):
            np.testing.assert_allclose(gradient[model], w.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_it_learns_the_digits_and_outputs_are_margins_of_its_logits():
    trainer = CNN(DATA, DATA.targets("test"), filters=8, hidden=32, models_at_once=4)
    models = trainer.train_many([np.arange(300), np.arange(0, 300, 2)], [0, 1])
    margins = trainer.outputs_many(models)
    assert margins.shape == (2, 100) and (margins > 0).mean() > 0.75
    weights = [torch.tensor(w[1]) for w in sgd.matrices(trainer.network, models)]
    logits = reference(weights, torch.tensor(DATA.x_test).reshape(-1, 8, 8, 1), filters=8).numpy()
    np.testing.assert_allclose(trainer.logits(models)[1], logits, rtol=1e-3, atol=1e-4)


def test_a_model_does_not_depend_on_which_are_trained_beside_it():
    trainer = CNN(DATA, DATA.targets("test"), filters=4, hidden=8, epochs=1)
    both = trainer.train_many([np.arange(100), np.arange(50, 150)], [5, 6])
    np.testing.assert_array_equal(both[1:], trainer.train_many([np.arange(50, 150)], [6]))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"filters": 0}, "filters = 0: must be"),
        ({"hidden": 0}, "hidden = 0"),
        ({"learning_rate": -1.0}, "learning_rate"),
    ],
)
def test_faulty_options_are_refused(options, fault):
    with pytest.raises(SpecError, match=fault):
        CNN(DATA, DATA.targets("test"), **options)


@pytest.mark.parametrize("shape", [None, (3, 8)])
def test_data_that_is_no_picture_is_refused(shape):
    data = Dataset(x=np.ones((4, 24)), y=np.arange(4), x_test=np.ones((1, 24)), y_test=np.arange(1), image_shape=shape)
    with pytest.raises(SpecError, match="this trainer needs images of 4 x 4 pixels or more"):
        CNN(data, data.targets("test"))


def test_pictures_too_large_for_memory_are_refused():
    x = np.broadcast_to(np.float32(0), (300, 400 * 400))
    data = Dataset(x=x, y=np.arange(300), x_test=x[:1], y_test=np.arange(1), image_shape=(400, 400))
    with pytest.raises(SpecError, match=r"its patches take 1\.8 GiB, at most 1 allowed"):
        CNN(data, data.targets("test"))
