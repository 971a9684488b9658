import numpy as np
import pytest
import torch

from datamodels.errors import InputError, SpecError
from datamodels.train import Dataset, outputs
from datamodels.train.workloads import digits
from datamodels.train.workloads.mlp import MLP, TARGETS_AT_ONCE, Softmax

DATA = digits.load()


def halves(count):
    generator = np.random.default_rng(0)
    return [np.sort(generator.permutation(1400)[:700]).astype(np.int32) for _ in range(count)]


@pytest.fixture(scope="module")
def trained():
    trainer = MLP(DATA, DATA.targets("both"))
    return trainer, trainer.train_many(halves(6), range(6))


@pytest.mark.parametrize(("cls", "accuracy"), [(MLP, 0.955), (Softmax, 0.935)])
def test_digits_are_learnt_from_half_of_them(cls, accuracy):
    trainer = cls(DATA, DATA.targets("test"))
    margins = trainer.outputs_many(trainer.train_many(halves(8), range(8)))
    assert margins.shape == (8, 397)
    assert (margins > 0).mean() > accuracy


def test_outputs_are_those_of_the_same_network_in_pytorch(trained):
    trainer, models = trained
    targets = DATA.targets("both")
    assert len(targets) > TARGETS_AT_ONCE
    found = trainer.outputs_many(models)
    first, second = models[3, : 65 * 64].reshape(65, 64), models[3, 65 * 64 :].reshape(10, 65)
    network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    with torch.no_grad():
        network[0].weight[:], network[0].bias[:] = torch.tensor(first[:-1].T), torch.tensor(first[-1])
        network[2].weight[:], network[2].bias[:] = torch.tensor(second[:, :-1]), torch.tensor(second[:, -1])
        logits = network(torch.tensor(targets.x)).numpy()
    expected = outputs.correct_class_margin(logits, targets.y)
    np.testing.assert_allclose(found[3], expected, rtol=1e-4, atol=1e-4)


def test_the_loss_is_an_output_too(trained):
    trainer, models = trained
    by_loss = MLP(DATA, DATA.targets("both"), output="loss")
    expected = outputs.loss(trainer.logits(models), DATA.targets("both").y)
    np.testing.assert_array_equal(by_loss.outputs_many(models), expected)
    assert (expected > 0).all()


def test_training_again_after_making_outputs_gives_the_same(trained):
    trainer, models = trained
    np.testing.assert_array_equal(trainer.train_many(halves(6), range(6)), models)


def test_an_example_raises_the_margin_of_its_own_image(trained):
    """The effect that datamodels measure: the margin of an example is larger if a model was trained on it."""
    trainer, models = trained
    margins = trainer.outputs_many(models)[:, 397:]
    inside = np.zeros(margins.shape, dtype=bool)
    for row, subset in enumerate(halves(6)):
        inside[row, subset] = True
    assert margins[inside].mean() > margins[~inside].mean() + 0.05


def test_options_reach_the_network():
    trainer = MLP(DATA, DATA.targets("test"), hidden=16, models_at_once=5, epochs=1)
    assert trainer.models_at_once == 5
    assert trainer.train_many(halves(1), [0]).shape == (1, 65 * 16 + 10 * 17)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"output": "squared_error"}, r"output = 'squared_error': must be loss or margin"),
        ({"hidden": 0}, "hidden = 0: must be at least 1"),
        ({"epochs": 0}, "epochs = 0: must be at least 1"),
    ],
)
def test_faulty_options_are_refused(options, fault):
    with pytest.raises(SpecError, match=fault):
        MLP(DATA, DATA.targets("test"), **options)


@pytest.mark.parametrize(
    ("y", "fault"),
    [(np.linspace(0, 1, 4), r"y is float64\[4\]"), (np.array([0, -1, 1, 1]), "y has a label -1")],
    ids=["real numbers", "negative"],
)
def test_labels_that_are_no_classes_are_refused(y, fault):
    data = Dataset(x=np.ones((4, 2)), y=y, x_test=np.ones((4, 2)), y_test=np.array([0, 1, 0, 1], dtype=y.dtype))
    with pytest.raises(SpecError, match=f"{fault}: this trainer needs classes 0, 1"):
        Softmax(data, data.targets("test"))


@pytest.mark.parametrize(("names", "fault"), [((), "0 to 7, because there are 8 examples"), (("a", "b"), "0 to 1")])
def test_labels_out_of_range_are_refused(names, fault):
    y = np.array([0, 1, 2**40, 1])
    data = Dataset(x=np.ones((4, 2)), y=y, x_test=np.ones((4, 2)), y_test=y % 2, label_names=names)
    with pytest.raises(SpecError, match=f"dataset: has a label {2**40}: must be {fault}"):
        Softmax(data, data.targets("test"))


@pytest.mark.parametrize("trainer", [MLP, Softmax])
def test_a_subset_of_one_class_is_learnt_and_an_empty_one_refused(trainer):
    made = trainer(DATA, DATA.targets("test"), epochs=2)
    margins = made.outputs_many(made.train_many([np.flatnonzero(DATA.y == 3), np.arange(100)], [0, 1]))
    assert np.isfinite(margins).all() and (margins[0][DATA.y_test == 3] > 0).all()
    assert (margins[0][DATA.y_test != 3] < 0).all()
    with pytest.raises(InputError, match="subset 1 of 2 is empty"):
        made.train_many([np.arange(10), np.array([], dtype=np.int32)], [0, 1])


def test_a_class_that_only_targets_have_is_a_class():
    data = Dataset(x=np.eye(4), y=np.array([0, 1, 0, 1]), x_test=np.eye(4), y_test=np.array([0, 1, 2, 1]))
    trainer = Softmax(data, data.targets("test"), batch_size=2)
    margins = trainer.outputs_many(trainer.train_many([np.arange(4)], [0]))
    assert np.isfinite(margins).all() and margins[0, 2] < 0
