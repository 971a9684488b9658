"""Measure ResNet-9 in one run: its accuracy on real images, and the speed of training.

    python benchmarks/train/images.py [--quick] [--device auto] [--width 64] [--models 5]

Accuracy is measured on the digits as 32 x 32 images: mean and deviation over models, each trained on another half of
1,400, on 397 test digits. Speed is measured on noise of the shape of CIFAR-10, and says nothing about accuracy. The
time of a model includes its outputs on as many targets as CIFAR-10 has test images, a fifth of the pool.

All trainers take turns, and each figure is the best of its rounds. The plain loop is what one writes first: the same
network and recipe, with images augmented one by one by a DataLoader, autograd, an optimiser over a list of parameters,
and the loss printed at every step. The path by FFCV is included if FFCV is installed (docs/guides/ffcv.md).

On a GPU, it also measures: with and without a captured step; 1, 2, 4 and 8 models at once; the share of the device's
bf16 peak, which a large matrix product measures in the same run. TARGETS are the speeds that we aim at on an H200.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import tempfile
import time
from collections.abc import Callable

import numpy as np
import threadpoolctl
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from datamodels.train import Dataset
from datamodels.train.contract import model_seed
from datamodels.train.images import load, networks
from datamodels.train.images.recipe import PAPER, ImageRecipe, rates, steps
from datamodels.train.images.trainer import ResNet9

DAY = 86_400
TARGETS = {"paper": 25_000, "fast": 85_000}
"""Models a day on one H200, on 25,000 of CIFAR-10's images: by arithmetic 20 to 29 thousand and 85 to 140 thousand."""


def halves(examples: int, count: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [np.sort(generator.permutation(examples)[: examples // 2]).astype(np.int32) for _ in range(count)]


def accuracy(models: int, recipe: str, width: int, device: str) -> tuple[float, float, float]:
    """Return mean and deviation of the test accuracy of models on halves of the digits, and CPU seconds per model."""
    data = load.load_digits()
    trainer = ResNet9(data, data.targets("test"), recipe=recipe, width=width, batch_size=64, flip="none", device=device)
    right, started = [], time.process_time()
    for model, subset in enumerate(halves(len(data.y), models)):
        margins = trainer.outputs_many(trainer.train_many([subset], [model_seed(0, model)]))
        right.append(float((margins > 0).mean()))
    return float(np.mean(right)), float(np.std(right, ddof=1)), (time.process_time() - started) / models


def noise(examples: int) -> Dataset:
    """Make a data set of noise with the shape of CIFAR-10."""
    generator = np.random.default_rng(0)
    sizes = examples, examples // 5
    x, x_test = (generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8) for count in sizes)
    return Dataset(x, np.arange(sizes[0]) % 10, x_test, np.arange(sizes[1]) % 10)


class Augmented(torch.utils.data.Dataset):
    """Images one by one, as a map-style data set gives them."""

    def __init__(self, data: Dataset, subset: np.ndarray, recipe: ImageRecipe):
        self.data, self.subset, self.recipe = data, subset, recipe

    def __len__(self) -> int:
        return len(self.subset)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        image, move = self.data.x[self.subset[at]], self.recipe.translate
        if np.random.random() < 0.5:
            image = image[:, ::-1]
        top, left = np.random.randint(0, 2 * move + 1, 2)
        image = np.pad(image, ((move, move), (move, move), (0, 0)), mode="reflect")[top : top + 32, left : left + 32]
        image = image.copy()
        top, left = np.random.randint(0, 32 - self.recipe.cutout, 2)
        image[top : top + self.recipe.cutout, left : left + self.recipe.cutout] = 128
        return torch.from_numpy(image), int(self.data.y[self.subset[at]])


class Plain:
    """Trains one model at a time, by the paper's recipe."""

    def __init__(self, data: Dataset, recipe: ImageRecipe, width: int, device: torch.device):
        self.data, self.recipe, self.width, self.device = data, recipe, width, device

    def train(self, subset: np.ndarray, seed: int) -> None:
        torch.manual_seed(seed)
        recipe, loader = self.recipe, self._batches(subset)
        network = networks.resnet9(10, self.width).to(self.device)
        pixels = torch.from_numpy(self.data.x[subset[:512]])
        network.start(pixels.to(self.device), torch.Generator(self.device).manual_seed(seed))
        optimiser = torch.optim.SGD(
            network.parameters(), lr=1.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
        )
        count, _ = steps(recipe, len(subset))
        rate = iter(rates(recipe, count).tolist())
        for _ in range(recipe.epochs):
            for x, y in loader:
                optimiser.param_groups[0]["lr"] = next(rate, 0.0)
                optimiser.zero_grad()
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                    logits = network(x.to(self.device))
                    loss = functional.cross_entropy(logits, y.to(self.device), label_smoothing=recipe.label_smoothing)
                loss.backward()
                optimiser.step()
                loss.item()  # as one prints it

    def _batches(self, subset: np.ndarray) -> torch.utils.data.DataLoader:
        augmented = Augmented(self.data, subset, self.recipe)
        return torch.utils.data.DataLoader(augmented, min(self.recipe.batch_size, len(subset)), shuffle=True)


def seconds(train: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one call, until the device is done."""
    started = time.perf_counter()
    train()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def image_flops(width: int, *, fast: bool) -> float:
    """Return the floating-point operations per image in a step: forward and backward, as PyTorch counts them."""
    network, rows = networks.resnet9(10, width, fast=fast), 2
    counter = FlopCounterMode(display=False)
    with counter:
        network(torch.zeros((rows, 32, 32, 3), dtype=torch.uint8)).sum().backward()
    return float(counter.get_total_flops()) / rows


def bf16_peak() -> float:
    """Return the operations per second of a large product on the GPU: the best of ten."""
    size = 8192
    a = torch.randn((size, size), device="cuda", dtype=torch.bfloat16)
    best = min(seconds(lambda: [a @ a for _ in range(10)], a.device) for _ in range(10))
    return 10 * 2 * size**3 / best


@dataclasses.dataclass(frozen=True)
class Trainer:
    """train  trains `models` models and makes their outputs; `flops` is the work of one model's steps"""

    train: Callable[[], object]
    models: int
    flops: float


def trainers(given: argparse.Namespace, device: torch.device, ffcv_file: str) -> dict[str, Trainer]:
    """Return all trainers by name. Each has trained once, so steps are recorded, readers compiled and sizes found."""
    data = noise(given.examples)
    subset, targets = halves(given.examples, 1)[0], data.targets("test")
    options = {"width": given.width, "device": device.type, "batch_size": min(512, len(subset))}
    if given.epochs:
        options["epochs"] = given.epochs
    found: dict[str, Trainer] = {}

    def add(name: str, *, deterministic: bool = True, **more) -> None:
        trainer = ResNet9(data, targets, **options, **more)
        torch.backends.cudnn.deterministic = deterministic
        count, rows = steps(trainer.recipe, len(subset))
        flops = count * rows * image_flops(given.width, fast=more.get("recipe") == "fast")
        several = [subset] * trainer.models_at_once

        def train() -> object:
            return trainer.outputs_many(trainer.train_many(several, range(len(several))))

        train()
        found[name] = Trainer(train, trainer.models_at_once, flops)

    add("ours, paper")
    add("ours, fast", recipe="fast")
    add("ours, paper, from memory", resident=False)
    if ffcv_file:
        add("ours, paper, by FFCV", ffcv_file=ffcv_file)
    if device.type == "cuda":
        add("ours, paper, any order of sums", deterministic=False)  # what repeatable sums cost
        add("ours, paper, not captured", capture=False)
        add("ours, fast, not captured", recipe="fast", capture=False)
        for at_once in (2, 4, 8):
            add(f"ours, paper, {at_once} at once", models_at_once=at_once)
            add(f"ours, fast, {at_once} at once", recipe="fast", models_at_once=at_once)
    changes = {name: options[name] for name in ("batch_size", "epochs") if name in options}
    plain = Plain(data, dataclasses.replace(PAPER, **changes), given.width, device)
    found["plain loop, paper"] = Trainer(lambda: plain.train(subset, 0), 1, found["ours, paper"].flops)
    return found


def speed(given: argparse.Namespace, device: torch.device) -> None:
    """Print models per second and per day of every trainer, the ones left out, and the targets."""
    cuda = device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        ffcv = importlib.util.find_spec("ffcv") is not None
        playing = trainers(given, device, f"{folder}/noise.beton" if ffcv else "")
        best = {name: float("inf") for name in playing}
        for name, each in [*playing.items()] * given.rounds:
            best[name] = min(best[name], seconds(each.train, device) / each.models)
    peak = bf16_peak() if cuda else 0.0
    epochs = f"{given.epochs} epochs" if given.epochs else "24 epochs (paper) or 10 (fast)"
    print(f"\n{given.examples // 2:,} images of noise a model, {given.examples // 5:,} targets, {epochs}")
    print(f"{'':<32}{'s/model':>10}{'models/day':>12}{'to plain':>10}{'GFLOP/s':>10}{'of peak':>9}")
    for name, each in best.items():
        rate = playing[name].flops / each
        share = f"{rate / peak:>9.1%}" if peak else f"{'':>9}"
        ratio = best["plain loop, paper"] / each
        print(f"{name:<32}{each:>10.3f}{DAY / each:>12,.0f}{ratio:>10.2f}{rate / 1e9:>10,.0f}{share}")
    if not ffcv:
        print("by FFCV: not installed (docs/guides/ffcv.md)")
    if cuda:
        print(f"bf16 peak, measured: {peak / 1e12:,.0f} TFLOP/s")
        for recipe, target in TARGETS.items():
            fastest = max(DAY / each for name, each in best.items() if name.startswith(f"ours, {recipe}"))
            print(f"{recipe}: {fastest:,.0f} models a day at best; target on an H200 {target:,}")
    print("Speed on noise says nothing about accuracy.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two models for accuracy, one round for speed")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--models", type=int, default=5, help="models for the accuracy")
    parser.add_argument("--width", type=int, help="default: 64 on a GPU, 8 on a CPU")
    given = parser.parse_args()
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    cuda = given.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    given.width = given.width or (64 if cuda else 8)
    given.rounds = 1 if given.quick else 3
    given.models = 2 if given.quick else given.models
    # A CPU is given a hundredth of CIFAR-10's images and few epochs: minutes in place of hours.
    given.examples, given.epochs = (50_000, None) if cuda else (1_000, 4)

    name = torch.cuda.get_device_name() if cuda else "one thread of the CPU"
    print(f"{name}\n\ndigits at 32 x 32, width {given.width}, {given.models} models on halves")
    for recipe in ("paper", "fast"):
        mean, deviation, cpu = accuracy(given.models, recipe, given.width, device.type)
        print(f"  {recipe:<6} accuracy {mean:.4f} +- {deviation:.4f}   {cpu:.1f} CPU seconds a model")
    speed(given, device)


if __name__ == "__main__":
    main()
