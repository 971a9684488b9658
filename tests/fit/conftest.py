import numpy as np
import pytest
from datamodels import spec
from datamodels.run import Run
from datamodels.sample import Design


@pytest.fixture
def make_run():
    """A run without a data set: d examples, own examples of the targets, m models."""

    def make(d: int, own: list[int], m: int, fit: dict | None = None, **design) -> Run:
        document = {
            "name": "made",
            "dataset": {"load": "nowhere:load"},
            "trainer": {"class": "nowhere:Trainer"},
            "m": m,
            "evaluate": {"subsets": 2, "models": 3},
            "chunk": 10,
            "sub_chunk": 5,
            "fit": fit or {},
        }
        return Run(
            spec.parse(document),
            Design(**{"kind": "uniform", "seed": 0, "alpha": 0.5, "examples": d} | design),
            np.array(own, dtype=np.int32),
        )

    return make
