"""Which networks, data and options TorchTrainer takes, and which it refuses."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from datamodels.errors import InputError, SpecError
from datamodels.run import specs
from datamodels.train import Dataset
from datamodels.train.contract import load_trainer
from datamodels.train.torch import TorchTrainer
from tests.train.torch.conftest import SEEDS, SUBSETS, dense, make_run, outputs


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(6, 4), nn.Linear(4, 2)

    def forward(self, ids, mask):
        assert ids.dtype == torch.int64 and mask.dtype == torch.bool
        found = (self.words(ids) * mask[..., None]).sum(dim=1)
        return {"unused": ids}, self.head(found)


@pytest.mark.parametrize("names", [("ids", "mask"), ("f0", "f1")])
def test_a_structured_x_gives_a_network_its_arguments(names):
    generator = np.random.default_rng(1)
    x = np.zeros(20, dtype=[(names[0], "i4", (5,)), (names[1], "?", (5,))])
    x[names[0]] = generator.integers(0, 6, (20, 5))
    x[names[1]] = generator.random((20, 5)) > 0.3
    y = generator.integers(0, 2, 20)
    data = Dataset(x=x, y=y, x_test=x[:4], y_test=y[:4])
    options = {"build": Both, "loss": lambda returned, y: functional.cross_entropy(returned[1], y)}
    trainer = TorchTrainer(data, data.targets("test"), epochs=2, **options, output="loss", models_at_once=2)
    found = outputs(trainer, [np.arange(12), np.arange(8, 20)], [0, 1])
    model = trainer.train_many([np.arange(12)], [0])[0]
    network = Both()
    network.load_state_dict(model)
    logits = network(torch.from_numpy(x[names[0]][:4].astype(int)), torch.from_numpy(x[names[1]][:4].copy()))[1]
    expected = functional.cross_entropy(logits, torch.from_numpy(y[:4]), reduction="none")
    np.testing.assert_allclose(found[0], expected.detach(), rtol=1e-4)


def test_a_column_of_labels_is_the_same_as_labels(data, make):
    columns = Dataset(data.x, data.y[:, None], data.x_test, data.y_test[:, None])
    assert columns.y.shape == data.y.shape
    np.testing.assert_array_equal(*(outputs(make(given), SUBSETS, SEEDS) for given in (data, columns)))


def of_errors(predicted, y):
    return (predicted - y).square().mean()


def of_each(predicted, y):
    return (predicted - y).square().mean(dim=-1)


@pytest.mark.parametrize("loss", [of_errors, of_each])
def test_a_loss_of_the_users_own_that_broadcasts_is_refused(data, loss):
    """A column for y is what makes such a loss right, and a data set makes it a row."""
    y = data.x @ [1.0, -2.0, 0.5]
    regression = Dataset(x=data.x, y=y[:, None], x_test=data.x_test, y_test=y[:9, None])
    given = regression, regression.targets("test")
    with pytest.raises(SpecError, match="compares each prediction with the y of all examples"):
        TorchTrainer(*given, build=lambda: nn.Linear(3, 1), loss=loss, output="squared_error")
    flat = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    TorchTrainer(*given, build=lambda: flat, loss=of_errors, output="squared_error")


def test_regression_with_one_output_is_not_broadcast(data):
    targets = data.x @ [1.0, -2.0, 0.5]
    regression = Dataset(x=data.x, y=targets, x_test=data.x[:5], y_test=targets[:5])
    trainer = TorchTrainer(
        regression,
        regression.targets("test"),
        **{"build": lambda: nn.Linear(3, 1), "loss": "squared_error", "epochs": 300, "learning_rate": 0.05},
    )
    found = outputs(trainer, [np.arange(40)], [0])
    assert found.max() < 0.01  # a linear function is learned exactly; of the broadcast loss, the mean would be


def test_a_class_that_a_subset_lacks_and_an_empty_subset(make, data):
    trainer = make(params={"norm": True})
    found = outputs(trainer, [np.flatnonzero(data.y != 1)], [0])
    assert np.isfinite(found).all() and found[0, data.y_test == 1].mean() < 0
    with pytest.raises(InputError, match="subset 1 of 2 is empty"):
        trainer.train_many([np.arange(3), np.arange(0)], [0, 1])


def test_lazy_layers_get_the_sizes_of_the_data(make):
    trainer = make(build=lambda: nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(3)), models_at_once=2)
    first = outputs(trainer, SUBSETS, SEEDS)
    assert trainer.network[0].weight.shape == (4, 3)
    np.testing.assert_array_equal(outputs(trainer, SUBSETS, SEEDS), first)


def test_a_spec_names_the_functions(data):
    run = make_run(data, params={"hidden": 3}, schedule="cosine", optimiser="torch.optim:Adagrad", epochs=1)
    document = run.spec.document()
    document["trainer"]["class"] = "datamodels.train.torch:TorchTrainer"
    trainer = load_trainer(specs.parse(document), data, data.targets("test"))
    assert outputs(trainer, SUBSETS, SEEDS).shape == (3, 9)
    assert trainer.network[0].out_features == 3


def test_a_network_that_torch_func_cannot_vectorise(make):
    def branching(x):
        return x if x.sum() > 0 else -x

    class Branches(nn.Linear):
        def forward(self, x):
            return branching(super().forward(x))

    options = {"build": lambda: Branches(3, 3)}
    assert outputs(make(**options), SUBSETS, SEEDS).shape == (3, 9)
    assert list(make(**options).paces(SUBSETS[0], 0.01)) == [1]
    with pytest.raises(SpecError, match=r"models_at_once = 2: torch.func cannot train several.*vmap.*; set it to 1"):
        outputs(make(**options, models_at_once=2), SUBSETS, SEEDS)


def test_paces_tries_numbers_of_models_at_once(make):
    paces = make(epochs=20).paces(SUBSETS[0], 0.02)
    assert list(paces) == [1, 4, 16, 64][: len(paces)] and len(paces) > 1 and min(paces.values()) > 0
    assert list(make(params={"dropout": 0.1}).paces(SUBSETS[0], 0.01)) == [1]


def unbroadcast(predicted, y):
    return functional.mse_loss(predicted, y.float())


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"build": "nowhere:net"}, "trainer.options.build = 'nowhere:net': cannot be imported"),
        ({"build": "net"}, "trainer.options.build = 'net': must be module:function"),
        ({"build": lambda: 3}, "build: returned int: must be a torch.nn.Module"),
        ({"build": lambda: nn.Linear(3, 2)}, "the network has 2 classes, and y has a class 2"),
        ({"build": lambda: nn.Linear(3, 1), "loss": unbroadcast, "output": "loss"}, "Using a target size"),
        ({"build": lambda: nn.Linear(3, 1)}, "the network has 1 class, and y has a class 2"),
        ({"build": lambda: dense().requires_grad_(False)}, "no parameter of the network has requires_grad = True"),
        ({"build": lambda: nn.Sequential(dense(), nn.Softmax(-1))}, "the network returns probabilities, and the loss"),
        ({"loss": None}, "trainer.options.loss: is missing"),
        ({"loss": "hinge"}, "loss = 'hinge': must be cross_entropy, .* or module:function"),
        (
            {"loss": lambda returned, y: returned, "output": "margin"},
            r"loss: returned a tensor \[4, 3\] for 4 examples",
        ),
        ({"output": lambda returned, y: returned.mean()}, r"output: returned a tensor \[\] for 4 targets"),
        ({"optimiser": "adam"}, "optimiser = 'adam': must be adamw, sgd or module:function"),
        ({"optimiser_params": {"lr": 1}}, "are for your own optimiser, not for adamw"),
        ({"schedule": "step"}, "schedule = 'step': must be constant, linear, cosine or module:function"),
        ({"precision": "half"}, "precision = 'half'"),
        ({"device": "tpu"}, "device = 'tpu': must be auto, cpu or cuda"),
        ({"models_at_once": 0}, "models_at_once = 0: must be at least 1"),
        ({"epochs": 0}, "epochs = 0: must be at least 1"),
        ({"clip": 0}, "clip = 0: must be greater than 0"),
    ],
)
def test_faulty_options_are_refused_before_the_first_model(make, options, fault):
    with pytest.raises((SpecError, UserWarning), match=fault):
        make(**options)


@pytest.mark.parametrize(
    ("y", "options", "fault"),
    [
        (np.linspace(-1, 4, 40), {}, "y is no class, as cross_entropy needs; for numbers use squared_error"),
        (
            np.linspace(0, 1.9, 40),
            {"output": "loss"},
            "y has 1.02308: must be 0 to 1; for other numbers use the loss squared",
        ),
        (
            np.linspace(0, 1, 40),
            {"output": "margin"},
            "y has 0.025641: must be 0 or 1, for margins; for probabilities use the output loss",
        ),
        (np.tile([[-1, 1]], (40, 1)), {"output": "loss"}, "y has a class -1: this trainer needs classes 0, 1"),
        (np.eye(40, 2), {"output": "loss", "sigmoid": True}, "the network returns probabilities"),
    ],
)
def test_labels_that_a_loss_cannot_mean_are_refused(make, data, y, options, fault):
    """Each of these trained, and gave outputs that were not what they were called."""
    labelled = Dataset(x=data.x, y=y, x_test=data.x[:5], y_test=y[:5])
    layers = [nn.Linear(3, y.shape[1] if y.ndim > 1 else 1), *[nn.Sigmoid()] * options.pop("sigmoid", False)]
    loss = {"loss": "binary_cross_entropy"} if options else {}
    with pytest.raises(SpecError, match=f"^(dataset|trainer.options.build): {fault}"):
        make(labelled, build=lambda: nn.Sequential(*layers), **loss, **options)


def test_probabilities_may_be_the_labels_of_a_loss_and_several_labels_have_one_loss(make, data):
    y = np.stack([np.linspace(0, 1, 40), np.linspace(1, 0, 40)], axis=1)
    labelled = Dataset(x=data.x, y=y, x_test=data.x[:5], y_test=y[:5])
    given = {"build": lambda: nn.Linear(3, 2), "loss": "binary_cross_entropy"}
    trainer = make(labelled, **given)
    (model,) = trainer.train_many(SUBSETS[:1], SEEDS[:1])
    logits = torch.from_numpy(data.x[:5]).float() @ model["weight"].T + model["bias"]
    expected = functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(y[:5]).float(), reduction="none")
    np.testing.assert_allclose(trainer.outputs_many([model])[0], expected.mean(dim=1), rtol=1e-5)


class Ends(nn.Module):
    """Ends with a function. Its first module is the last that is called."""

    def __init__(self, end, classes=1, middle=nn.Sigmoid):
        super().__init__()
        self.end, self.head, self.first, self.middle = end, nn.Linear(5, classes), nn.Linear(3, 5), middle()
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, 0.4)

    def forward(self, x):
        return self.end(self.head(self.middle(self.first(x))))


def of_probabilities(p, y):
    return functional.binary_cross_entropy(p.squeeze(-1), y.float(), reduction="none")


def flat_sigmoid(logits):
    return torch.sigmoid(logits).flatten(0).clamp(1e-6, 1 - 1e-6)


def of_two(data):
    return Dataset(x=data.x, y=data.y.clip(max=1), x_test=data.x_test, y_test=data.y_test.clip(max=1))


def softmax(logits):
    return logits.softmax(-1)


def of_shares(p, y):
    return functional.nll_loss(p.log(), y)


@pytest.mark.parametrize(
    ("end", "classes", "options", "fault"),
    [
        (flat_sigmoid, 1, {"loss": "binary_cross_entropy"}, "probabilities, and the loss"),
        (functional.logsigmoid, 1, {"loss": "binary_cross_entropy"}, "logarithms of probabilities, and the loss"),
        (torch.sigmoid, 2, {"loss": "cross_entropy"}, "probabilities, and the loss"),
        (softmax, 2, {"loss": "cross_entropy"}, "probabilities, and the loss"),
        (torch.sigmoid, 1, {"loss": of_probabilities, "output": "margin"}, "probabilities, and the output"),
        (softmax, 2, {"loss": of_shares, "output": "log_likelihood"}, "probabilities, and the output"),
    ],
)
def test_probabilities_are_refused_if_logits_are_meant(make, data, end, classes, options, fault):
    """Their losses were of a softmax of a softmax, and their margins had another threshold than 0."""
    with pytest.raises(SpecError, match=f"^trainer.options.build: the network returns {fault} takes logits"):
        make(of_two(data), build=lambda: Ends(end, classes), **options)


@pytest.mark.parametrize(
    ("end", "classes", "options"),
    [
        (lambda logits: logits, 1, {"loss": "binary_cross_entropy"}),  # 0.4, of a network with a sigmoid in the middle
        (lambda logits: 4 * torch.sigmoid(logits) - 2, 1, {"loss": "binary_cross_entropy"}),
        (lambda logits: logits.log_softmax(-1), 2, {"loss": "cross_entropy"}),
        (lambda logits: logits.log_softmax(-1), 2, {"loss": functional.nll_loss, "output": "margin"}),
        (softmax, 2, {"loss": of_shares, "output": "margin"}),
        (torch.sigmoid, 1, {"loss": of_probabilities}),
    ],
)
def test_networks_that_are_no_case_of_that_are_trained(make, data, end, classes, options):
    trainer = make(of_two(data), build=lambda: Ends(end, classes), **options)
    assert outputs(trainer, SUBSETS, SEEDS).std(axis=0).min() > 0


def of_cox(risk, y):
    """Take times and whether they are those of events; each event is compared with those who live longer."""
    order = torch.argsort(-y[:, 0])
    risk, event = risk.squeeze(-1)[order], y[order, 1]
    return -((risk - torch.logcumsumexp(risk, 0)) * event).sum() / event.sum()


def test_a_loss_that_compares_examples_needs_another_output(make, data):
    y = np.stack([np.arange(40.0), np.ones(40)], axis=1)
    survival = Dataset(x=data.x, y=y, x_test=data.x[:5], y_test=y[:5])
    given = {"build": lambda: nn.Linear(3, 1), "loss": of_cox}
    with pytest.raises(SpecError, match=r"for 4 examples together, and 0 for one alone, because it compares examples"):
        make(survival, **given)
    trainer = make(survival, **given, output=lambda risk, y: risk.squeeze(-1))
    assert outputs(trainer, SUBSETS, SEEDS).std(axis=0).min() > 0


def test_a_class_of_losses_is_a_loss(make):
    expected = outputs(make(output="loss"), SUBSETS, SEEDS)
    found = outputs(make(loss="torch.nn:CrossEntropyLoss", output="loss"), SUBSETS, SEEDS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("lazy", [False, True])
def test_errors_about_types_say_what_the_examples_hold(make, data, lazy):
    """PyTorch speaks of Long, which nobody wrote."""
    pictures = Dataset(x=data.x.astype(np.uint8), y=data.y, x_test=data.x_test.astype(np.uint8), y_test=data.y_test)
    with pytest.raises(
        RuntimeError, match=r"Long and Float; x holds uint8 and y int64.*such as x\.astype\(np\.float32"
    ):
        make(pictures, build=lambda: nn.Sequential(nn.LazyLinear(3)) if lazy else nn.Linear(3, 3))
    with pytest.raises(RuntimeError, match="dtype Long but expected Float; x holds float32 and y int64"):
        make(of_two(data), build=lambda: Ends(flat_sigmoid), loss=nn.BCELoss)


def test_labels_must_be_numbers(make, data):
    named = Dataset(x=data.x, y=np.array(["a", "b"] * 20), x_test=data.x[:2], y_test=np.array(["a", "b"]))
    with pytest.raises(
        SpecError, match=r"y holds texts: this trainer needs numbers; number the classes with np\.unique"
    ):
        make(named)
