"""What models TorchTrainer trains, and what is recorded of them."""

import gc
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from datamodels.errors import SpecError
from datamodels.train.batches import Batches
from datamodels.train.job import run_chunk
from datamodels.train.observer import Observer
from datamodels.train.outputs import correct_class_margin
from datamodels.train.torch import TorchTrainer
from tests.train.conftest import MemoryAggregator, MemorySampler
from tests.train.torch.conftest import SEEDS, SUBSETS, dense, make_run, outputs


def plain(data, subset, seed, make_optimiser, *, epochs=3, rows=7, build=dense, after=lambda step: None):
    """Train a network as a plain loop does, with the initial weights and the order of examples of TorchTrainer."""
    torch.manual_seed(seed)
    network = build().train()
    order = torch.from_numpy(subset)[torch.rand(epochs, len(subset)).argsort(dim=1)].reshape(-1)
    optimiser = make_optimiser(network.parameters())
    x, y = torch.from_numpy(data.x).float(), torch.from_numpy(data.y)
    count = epochs * len(subset) // rows
    for step in range(count):
        chosen = order[step * rows : (step + 1) * rows]
        for group in optimiser.param_groups:
            group["lr"] = 0.02 * (1 - (step + 0.5) / count)
        optimiser.zero_grad()
        functional.cross_entropy(network(x[chosen]), y[chosen]).backward()
        after(network)
        optimiser.step()
    return network.eval()(torch.from_numpy(data.x_test).float()).detach().numpy()


@pytest.mark.parametrize(
    ("options", "optimiser"),
    [
        ({}, lambda p: torch.optim.AdamW(p, weight_decay=0.01)),
        ({"optimiser": "sgd"}, lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01, nesterov=True)),
        (
            {"optimiser": "torch.optim:RMSprop", "optimiser_params": {"alpha": 0.9}},
            lambda p: torch.optim.RMSprop(p, alpha=0.9),
        ),
    ],
)
@pytest.mark.parametrize("norm", [False, True])
def test_a_training_is_that_of_a_plain_loop(make, data, options, optimiser, norm):
    trainer = make(params={"norm": norm}, **options)
    logits = plain(data, SUBSETS[0], 5, optimiser, build=lambda: dense(norm=norm))
    expected = correct_class_margin(logits, data.y_test)
    outputs(trainer, SUBSETS[1:2], [1])  # what is trained before changes nothing
    np.testing.assert_allclose(outputs(trainer, SUBSETS[:1], [5])[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("models_at_once", [1, 3])
def test_gradients_are_shortened_for_each_model_on_its_own(make, data, models_at_once):
    found = outputs(make(clip=0.05, models_at_once=models_at_once), SUBSETS, SEEDS)[1]
    logits = plain(
        data,
        SUBSETS[1],
        SEEDS[1],
        lambda p: torch.optim.AdamW(p, weight_decay=0.01),
        after=lambda network: nn.utils.clip_grad_norm_(network.parameters(), 0.05),
    )
    np.testing.assert_allclose(found, correct_class_margin(logits, data.y_test), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("norm", [False, True])
def test_models_trained_at_once_are_those_trained_one_by_one(make, optimiser, norm):
    """Up to rounding: sums of float32 in another order, over 12 steps."""
    options = {"params": {"norm": norm}, "optimiser": optimiser}
    alone = outputs(make(**options), SUBSETS, SEEDS)
    together = outputs(make(**options, models_at_once=3), SUBSETS, SEEDS)
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4)
    assert np.ptp(alone, axis=0).min() > 0.01


@pytest.mark.parametrize("options", [{"params": {"dropout": 0.5}}, {"augment": lambda x: x + torch.randn_like(x)}])
def test_models_that_draw_random_numbers_depend_on_their_own_seed_only(make, options):
    alone = make(**options)
    expected = np.concatenate([outputs(alone, [subset], [seed]) for subset, seed in zip(SUBSETS, SEEDS, strict=True)])
    torch.rand(3)  # what others draw does not matter
    np.testing.assert_array_equal(outputs(make(**options, models_at_once=3), SUBSETS, SEEDS), expected)
    plain = outputs(make(), SUBSETS, SEEDS)
    assert np.abs(expected - plain).max() > 0.01
    assert np.abs(expected - outputs(alone, SUBSETS, [1, 2, 3])).max() > 0.01


class WithItsOwnTraining(nn.Linear):
    """Brings its loss, optimiser and schedule, as a Lightning module does."""

    def __init__(self, schedule):
        super().__init__(3, 3)
        self.schedule = schedule

    def training_step(self, batch, index):
        x, y = batch
        return {"loss": functional.cross_entropy(self(x), y)}

    def configure_optimizers(self):
        optimiser = torch.optim.SGD(self.parameters(), 0.3)
        halved = torch.optim.lr_scheduler.MultiplicativeLR(optimiser, lambda _: 0.5)
        if self.schedule == "list":
            return [optimiser], [halved]
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": halved, "interval": self.schedule}}


class Manual(WithItsOwnTraining):
    automatic_optimization = False


class Hooked(WithItsOwnTraining):
    def on_train_epoch_end(self):
        self.weight.data.zero_()


class Unhooked(Hooked):
    on_train_epoch_end = None


class Counting(WithItsOwnTraining):
    def training_step(self, batch, index):
        return self.weighted(super().training_step(batch, index)["loss"])

    def weighted(self, loss):
        return loss / (1 + self.current_epoch)


class AtZero(Counting):
    current_epoch = 0


class Waiting(WithItsOwnTraining):
    def configure_optimizers(self):
        optimiser = torch.optim.SGD(self.parameters(), 0.3)
        return [optimiser], [torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser)]


@pytest.mark.parametrize(
    ("module", "fault"),
    [
        (Manual, "Manual sets automatic_optimization = False: not supported"),
        (Hooked, "Hooked overrides on_train_epoch_end, which only a Trainer of Lightning calls"),
        (Counting, "training_step of Counting uses current_epoch, which stays 0"),
        (Waiting, "gives a schedule that follows a validation"),
    ],
)
def test_a_module_that_is_trained_by_more_than_its_steps_is_refused(make, module, fault):
    """It would be trained in another way than by Lightning, and nobody would notice."""
    with pytest.raises(SpecError, match=fault):
        make(build=lambda: module("step"), loss=None).train_many(SUBSETS[:1], SEEDS[:1])


@pytest.mark.parametrize("module", [Unhooked, AtZero])
def test_a_subclass_says_that_training_is_the_same_without_a_hook_or_a_counter(make, module):
    made = [outputs(make(build=lambda c=c: c("step"), loss=None), SUBSETS, SEEDS) for c in (module, WithItsOwnTraining)]
    np.testing.assert_array_equal(*made)


def test_a_step_need_not_take_its_number(make):
    class WithoutNumber(WithItsOwnTraining):
        def training_step(self, batch):
            return super().training_step(batch, 0)

    made = [
        outputs(make(build=lambda c=c: c("step"), loss=None), SUBSETS, SEEDS)
        for c in (WithoutNumber, WithItsOwnTraining)
    ]
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("schedule", ["list", "epoch", "step"])
def test_a_module_brings_its_own_training(make, data, schedule):
    found = outputs(make(build=lambda: WithItsOwnTraining(schedule), loss=None, batch_size=10), SUBSETS, SEEDS)
    torch.manual_seed(SEEDS[1])
    network = WithItsOwnTraining(schedule)
    order = torch.from_numpy(SUBSETS[1])[torch.rand(3, 30).argsort(dim=1)].reshape(9, 10)
    x, y = torch.from_numpy(data.x).float(), torch.from_numpy(data.y)
    for step, chosen in enumerate(order):
        rate = 0.3 * 0.5 ** (step if schedule == "step" else step // 3)
        loss = functional.cross_entropy(network(x[chosen]), y[chosen])
        with torch.no_grad():
            for p, gradient in zip(network.parameters(), torch.autograd.grad(loss, network.parameters()), strict=True):
                p -= rate * gradient
    expected = correct_class_margin(network(torch.from_numpy(data.x_test).float()).detach().numpy(), data.y_test)
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-5)


def test_training_leaves_the_generator_of_others_alone(make):
    trainer = make(params={"dropout": 0.5})
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    outputs(trainer, SUBSETS, SEEDS)
    assert torch.equal(torch.rand(4), expected)


def test_checkpoints_end_with_the_model_that_is_trained(make):
    trainer = make(params={"dropout": 0.3, "norm": True})
    steps = trainer.checkpoints(SUBSETS[0], 5)
    first = next(steps)
    other = outputs(trainer, SUBSETS[1:], SEEDS[1:])  # between epochs, other models are trained
    rates, models = zip(first, *steps, strict=True)
    assert len(rates) == 3 and list(rates) == sorted(rates, reverse=True)
    np.testing.assert_allclose(rates[1], 0.01, rtol=0.1)
    expected = trainer.train_many(SUBSETS[:1], [5])[0]
    assert all(torch.equal(models[-1][name], tensor) for name, tensor in expected.items())
    np.testing.assert_array_equal(other, outputs(make(params={"dropout": 0.3, "norm": True}), SUBSETS[1:], SEEDS[1:]))


def test_gradients_of_losses_and_outputs(make, data):
    trainer = make(params={"norm": True, "dropout": 0.5})
    model = trainer.train_many(SUBSETS[:1], [5])[0]
    network = dense(norm=True, dropout=0.5).eval()
    network.load_state_dict(model)
    x, y = trainer.pool(slice(0, 4))
    losses = functional.cross_entropy(network(x), y, reduction="none")
    torch.testing.assert_close(trainer.losses_of(model, x, y), losses)
    weights = trainer.trained(model)
    assert set(weights) == {name for name, _ in network.named_parameters()} < set(model)

    def loss_of_one(weights, x, y):
        return trainer.losses_of(model | weights, x[None], y[None])[0]

    found = torch.vmap(torch.func.grad(loss_of_one), in_dims=(None, 0, 0))(weights, x, y)
    for row in range(4):
        expected = torch.autograd.grad(losses[row], list(network.parameters()), retain_graph=True)
        for name, gradient in zip(weights, expected, strict=True):
            torch.testing.assert_close(found[name][row], gradient)
    x, y = trainer.targets(torch.tensor([8, 2]))
    margins = correct_class_margin(network(x).detach().numpy(), y.numpy())
    np.testing.assert_allclose(trainer.outputs_of(model, x, y).detach(), margins, rtol=1e-5)
    np.testing.assert_array_equal(trainer.outputs_many([model])[0, [8, 2]], trainer.outputs_of(model, x, y).detach())


class Small(TorchTrainer):
    """Has memory for two models at once."""

    def train_many(self, subsets, seeds):
        self.tried = [*getattr(self, "tried", []), len(subsets)]
        models = super().train_many(subsets, seeds)
        if len(subsets) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return models


def test_fewer_models_at_once_after_memory_has_run_out(data, make):
    options = {"build": dense, "loss": "cross_entropy", "epochs": 3, "batch_size": 7, "learning_rate": 0.02}
    trainer = Small(data, data.targets("test"), **options, models_at_once=5)
    run = make_run(data)
    batches = Batches(run, trainer, threading.Event(), Observer())
    found = batches.train(range(3), SUBSETS)
    assert trainer.tried == [3, 1, 1, 1]
    expected = Batches(run, make(), threading.Event(), Observer()).train(range(3), SUBSETS)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("options", [{"models_at_once": 3}, {"params": {"dropout": 0.5, "norm": True}}])
def test_a_chunk_continued_by_another_process_has_the_same_outputs(data, options):
    run = make_run(data, epochs=2, **options)

    class Stops(Observer):
        def __init__(self, stop):
            self.stop = stop

        def committed(self, models):
            self.stop.set()

    def trained(interrupt):
        aggregator, stop = MemoryAggregator(run.spec.models), threading.Event()
        for attempt in range(2):
            trainer = TorchTrainer(data, data.targets("test"), **run.spec.trainer.options)
            observer = Stops(stop) if interrupt and not attempt else Observer()
            run_chunk(run, 0, trainer, MemorySampler(), aggregator, stop, observer)
            assert len(aggregator.parts) == (1 if interrupt and not attempt else 2)
            stop.clear()
        return np.concatenate(
            [outputs for _, (_, outputs, _) in sorted(aggregator.parts.items(), key=lambda p: p[0].start)]
        )

    np.testing.assert_array_equal(trained(interrupt=True), trained(interrupt=False))


def test_memory_is_free_between_models(make):
    trainer = make(models_at_once=3)

    def tensors():
        gc.collect()
        return sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects())

    counts = []
    for seed in range(4):
        outputs(trainer, SUBSETS, [seed, seed + 1, seed + 2])
        counts.append(tensors())
    assert counts[1] == counts[2] == counts[3]
