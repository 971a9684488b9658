"""Measure the example specs whose trainers a user writes in a few lines: processor time of a model, and of a run.

    python benchmarks/train/examples.py [NAME ...]

Trains some models of each example on one thread. "run on two cores" is that time for all models of the spec, divided
by two; the fit takes seconds. "lines" counts the code that a user writes: the function that builds the network.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import time

import threadpoolctl
import torch

from datamodels.run import designs, runs, specs
from datamodels.train.contract import load_trainer, model_seed, models_at_once

NAMES = ("cnn", "transformer", "lightning", "gpt", "lightgbm", "diabetes")
SECONDS = 5
"""Processor time to spend on each example, at least."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    print(f"{'example':<14}{'lines':>6}{'models':>8}{'s per model':>13}{'run on two cores':>18}")
    for name in parser.parse_args().names:
        spec = specs.load(name)
        each = seconds_per_model(spec)
        minutes = spec.models * each / 2 / 60
        print(f"{name:<14}{lines(spec):>6}{spec.models:>8}{each:>13.3f}{minutes:>14.1f} min", flush=True)


def lines(spec) -> int:
    """Return the lines of the function that builds the network, without its docstring."""
    if "build" not in spec.trainer.options:
        return 0
    source = inspect.getsource(runs.reference("build", spec.trainer.options["build"]))
    (function,) = ast.parse(source).body
    first, *_ = function.body
    docstring = first.end_lineno - first.lineno + 1 if isinstance(first, ast.Expr) else 0
    return sum(bool(line.strip()) for line in source.splitlines()) - docstring


def seconds_per_model(spec) -> float:
    dataset = runs.load_dataset(spec)
    run = runs.resolve(spec, dataset)
    trainer = load_trainer(spec, dataset, dataset.targets(spec.targets))
    size, spent, trained = models_at_once(trainer), 0.0, 0
    torch.set_num_threads(1)
    with threadpoolctl.threadpool_limits(1):
        for batch in range(1000):  # the first batch warms up
            models = range(batch * size, (batch + 1) * size)
            subsets = [run.design.members(designs.subset(run.design, model)) for model in models]
            started = time.process_time()
            trainer.outputs_many(trainer.train_many(subsets, [model_seed(spec.seed, model) for model in models]))
            if batch:
                spent, trained = spent + time.process_time() - started, trained + size
            if spent >= SECONDS:
                break
    return spent / trained


if __name__ == "__main__":
    main()
