"""Make runs with committed outputs, as trainers commit them. No model is trained.

The outputs are linear in the subsets, by weights that `truth` returns, with a little noise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from datamodels.aggregate import manifest, part
from datamodels.aggregate.manifest import Snapshot
from datamodels.run import designs, runs, specs
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore, keys

D, N = 30, 5
"""Training examples and test examples."""


def make_dataset() -> Dataset:
    """Make D training examples and N test examples in 4 classes."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(D + N, 3)).astype("f4"), np.arange(D + N) % 4
    return Dataset(x[:D], y[:D], x[D:], y[D:], groups=y[:D])


def make_run(
    name: str = "small", m: int = 200, targets: str = "test", fit: dict[str, Any] | None = None, **fields: Any
) -> Run:
    """Make a run of the data set of `make_dataset`. `fit` and `fields` are fields of its spec."""
    base = {
        "name": name,
        "dataset": {"load": "a:b"},
        "trainer": {"class": "a:B"},
        "m": m,
        "chunk": 20,
        "sub_chunk": 10,
        "evaluate": {"subsets": 3, "models": 2},
        "targets": targets,
        "fit": {"estimator": "lasso", "lambdas": 6, "batch": 50} | (fit or {}),
    }
    return runs.resolve(specs.parse(base | fields), make_dataset())


def truth(run: Run) -> np.ndarray:
    """Return float64[d, n]: the sparse weights that the outputs come from."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(run.design.columns, run.n)) * (rng.random((run.design.columns, run.n)) < 0.2)


def outputs_of(run: Run, models: Sequence[int]) -> np.ndarray:
    """Return float32[len(models), n]: the outputs of some models. The noise of a model depends on its number alone."""
    theta = truth(run)
    rows = []
    for model in models:
        mask = np.zeros(run.design.columns)
        mask[designs.subset(run.design, run.spec.subset_index(model))] = 1
        rows.append(mask @ theta + 0.1 * np.random.default_rng([7, model]).normal(size=run.n))
    return np.array(rows, dtype=np.float32).reshape(len(rows), run.n)


def commit(
    store: ObjectStore,
    run: Run,
    stop: int | None = None,
    failed: Collection[int] = (),
    outputs: Callable[[Run, list[int]], np.ndarray] = outputs_of,
) -> Snapshot:
    """Commit models and publish the next manifest, which is returned.

    stop     commit the sub-chunks that start below this model; by default all
    failed   models to record as failed
    outputs  function of (run, models) that returns float[len(models), n]
    """
    listed = []
    for chunk in range(run.spec.chunks):
        for models in run.spec.sub_chunks(run.spec.chunk_range(chunk)):
            if stop is not None and models.start >= stop:
                continue
            index = np.array([model for model in models if model not in failed], dtype=np.int32)
            reasons = {model: "would not train" for model in models if model in failed}
            outputs_ = part.validate(run, models, index, outputs(run, index.tolist()), reasons)
            data = part.encode(outputs_)
            key = keys.part(run.name, models.start, models.stop)
            store.create(key, data)
            listed.append(manifest.describe(outputs_, key, data))
    newest = manifest.read_newest(store, run.name)
    following = newest.rewritten(listed)
    assert manifest.create(store, following), f"manifest {following.version} of {run.name} exists"
    return manifest.read_newest(store, run.name)
