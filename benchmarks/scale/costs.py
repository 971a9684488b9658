"""Measure what each model and each part of a run costs at the size of CIFAR-10, stage by stage, in one process.

    python benchmarks/scale/costs.py [--size D,N] [--parts 7500]

Prints a Markdown table of CPU time, the least of three tries, of one thread but for drawing: it is what a rehearsal
(rehearsal.py) takes for each model without gRPC, and what an aggregator takes if a run has many parts. On a busy
machine, compare CPU time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import planted

from datamodels.aggregate import manifest, part
from datamodels.aggregate.committer import Committer
from datamodels.run import designs, runs, specs
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.storage.local import LocalStore
from datamodels.train.contract import model_seed

MODELS = 100
"""Models of one part, as by default."""
TRIES = 3


def made(d: int, n: int, m: int, models: int) -> tuple[Run, Dataset]:
    """Return a run whose parts have so many models, and its data set."""
    data = Dataset(np.zeros((d, 1)), np.arange(d) % 10, np.zeros((n, 1)), np.arange(n) % 10)
    document = {"name": "costs", "dataset": {"load": "none:load"}, "trainer": {"class": "none:T"}, "m": m}
    spec = specs.parse(document | {"chunk": models, "sub_chunk": models, "evaluate": {"subsets": 0}})
    return runs.resolve(spec, data), data


def cpu(call: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def say(what: str, seconds: float, unit: str) -> None:
    print(f"| {what} | {seconds:,.3g} {unit} |", flush=True)


def of_a_model(d: int, n: int, folder: Path) -> None:
    """Print microseconds for each model."""
    run, data = made(d, n, 1000, MODELS)
    store = LocalStore(folder)
    committer = Committer(store)
    committer.create(run)
    masks = designs.subsets(run.design, 0, MODELS)
    bits = designs.unpack(masks, d)
    subsets = [run.design.members(np.flatnonzero(mask)) for mask in bits]
    seeds = [model_seed(0, model) for model in range(MODELS)]
    trainer = planted.Planted(data, data.targets("test"))
    outputs = trainer.outputs_many(trainer.train_many(subsets, seeds))
    firsts = iter(range(0, 1000, MODELS))

    def commit() -> None:
        models = range(first := next(firsts), first + MODELS)
        committer.put(part.validate(run, models, np.arange(models.start, models.stop), outputs))

    for what, call in {
        "draw the subset, on all cores": lambda: designs.subsets(run.design, 0, MODELS),
        "unpack the mask": lambda: designs.unpack(masks, d),
        "list the members": lambda: [run.design.members(np.flatnonzero(mask)) for mask in bits],
        "copy them for the trainer": lambda: [subset.copy() for subset in subsets],
        "seed": lambda: [model_seed(0, model) for model in range(MODELS)],
        "made-up trainer": lambda: trainer.outputs_many(trainer.train_many(subsets, seeds)),
        "commit, without gRPC": commit,
    }.items():
        say(what, min(cpu(call) for _ in range(TRIES)) / MODELS * 1e6, "us for each model")


def of_parts(d: int, count: int, folder: Path) -> None:
    """Print milliseconds of an aggregator and its readers for a run of many small parts."""
    models = 40
    run, _ = made(d, 4, count * models, models)
    store = LocalStore(folder)
    committer = Committer(store)
    committer.create(run)
    outputs = np.zeros((models, run.n), dtype=np.float32)

    def commit() -> None:
        for chunk in range(count):
            these = run.spec.chunk_range(chunk)
            committer.put(part.validate(run, these, np.arange(these.start, these.stop), outputs))

    with committer:
        say(f"commit {count:,} parts, and publish manifests meanwhile", cpu(commit), "s")
    for what, call in {
        "publish, with nothing new": lambda: committer.publish(run.name),
        "progress, which a driver asks for twice a second": lambda: committer.progress(run.name),
        "read the newest manifest": lambda: manifest.read_newest(store, run.name),
        "open the run in a new aggregator": lambda: Committer(store).progress(run.name),
    }.items():
        say(what, min(cpu(call) for _ in range(TRIES)) * 1e3, "ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="50000,1000", help="training examples and targets")
    parser.add_argument("--parts", type=int, default=7500)
    options = parser.parse_args()
    d, n = map(int, options.size.split(","))
    print(f"| {d:,} examples, {n:,} targets | CPU time |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        of_a_model(d, n, Path(folder) / "models")
        of_parts(d, options.parts, Path(folder) / "parts")


if __name__ == "__main__":
    main()
