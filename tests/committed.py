"""A store with a run whose models' outputs are committed, made through the real commit path."""

import hashlib

import numpy as np

from datamodels.aggregate import manifest, part
from datamodels.run import designs, runs, specs
from datamodels.storage import keys
from datamodels.train import Dataset

D, N = 30, 5


def make_run(name="small", m=200, targets="test", fit=None, **fields):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(D + N, 3)).astype("f4"), np.arange(D + N) % 4
    base = {
        "name": name,
        "dataset": {"load": "a:b"},
        "trainer": {"class": "a:B"},
        "m": m,
        "chunk": 20,
        "sub_chunk": 10,
        "evaluate": {"subsets": 3, "models": 2},
        "targets": targets,
        "fit": {"lambdas": 6, "batch": 50} | (fit or {}),
    }
    return runs.resolve(specs.parse(base | fields), Dataset(x[:D], y[:D], x[D:], y[D:], groups=y[:D]))


def truth(run):
    """float64[d, n]: sparse weights that the outputs come from."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(run.design.columns, run.n)) * (rng.random((run.design.columns, run.n)) < 0.2)


def outputs_of(run, models):
    """float16[len(models), n]: linear in the subsets, with noise that depends on the model alone."""
    theta = truth(run)
    rows = []
    for model in models:
        mask = np.zeros(run.design.columns)
        mask[designs.subset(run.design, run.spec.subset_index(model))] = 1
        rows.append(mask @ theta + 0.1 * np.random.default_rng([7, model]).normal(size=run.n))
    return np.array(rows, dtype=np.float16).reshape(len(rows), run.n)


def commit(store, run, stop=None, failed=(), outputs=outputs_of):
    """Commits the models below `stop`, all by default, but for those that failed; publishes the next manifest.

    outputs  (run, models) -> float16[len(models), n]
    """
    listed = []
    for chunk in range(run.spec.chunks):
        for models in run.spec.sub_chunks(run.spec.chunk_range(chunk)):
            if stop is not None and models.start >= stop:
                continue
            index = np.array([model for model in models if model not in failed], dtype=np.int32)
            reasons = {model: "would not train" for model in models if model in failed}
            data = part.encode(part.validate(run, models, index, outputs(run, index.tolist()), reasons))
            key = keys.part(run.name, models.start, models.stop)
            store.create(key, data)
            listed.append(
                manifest.Part(
                    key=key,
                    first=models.start,
                    last=models.stop,
                    rows=len(index),
                    failed=tuple(reasons.items()),
                    sha256=hashlib.sha256(data).hexdigest(),
                    bytes=len(data),
                )
            )
    version = manifest.read_newest(store, run.name).version + 1
    assert manifest.create(store, run.name, version, listed)
    return manifest.read_newest(store, run.name)
