"""The specs that come with the project: each is one command away from running."""

from pathlib import Path

import numpy as np
import pytest

from datamodels.run import runs, specs
from datamodels.train.check import Check
from datamodels.train.contract import load_trainer

SPECS = sorted((Path(__file__).parent.parent / "deploy" / "specs").glob("*.yaml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_its_trainer_keeps_the_contract_on_its_data(path):
    given = specs.load(path)
    dataset = runs.load_dataset(given)
    run = runs.resolve(given, dataset)
    said = {}
    trainer = load_trainer(given, dataset, dataset.targets(given.targets))
    Check(run, trainer, tolerance=1e-3, say=said.__setitem__).contract()
    assert given.name == path.stem and said["subset"].startswith("another one moves outputs")


def test_the_cifar10_spec_trains_on_a_file_of_that_shape(tmp_path):
    """On a few images of noise, and a network of a small width: the real file is its user's."""
    given = specs.load(Path(__file__).parent.parent / "deploy" / "specs" / "own-data" / "cifar10.yaml")
    noise, path = np.random.default_rng(0), tmp_path / "cifar10.npz"
    images = {name: noise.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for name, n in (("x", 40), ("x_test", 5))}
    np.savez(path, **images, y=np.arange(40) % 10, y_test=np.arange(5))
    document = given.document()
    document["dataset"]["options"]["path"] = str(path)
    document["trainer"]["options"] |= {"width": 2, "device": "cpu"}
    given = specs.parse(document)
    dataset = runs.load_dataset(given)
    trainer = load_trainer(given, dataset, dataset.targets(given.targets))
    outputs = trainer.outputs_many(trainer.train_many([np.arange(0, 40, 2)], [1]))
    assert outputs.shape == (1, 5) and np.isfinite(outputs).all() and dataset.label_names[3] == "cat"
