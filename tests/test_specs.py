"""The specs that come with the project: each is one command away from running."""

from pathlib import Path

import pytest

from datamodels import run as runs
from datamodels import spec
from datamodels.train.check import Check
from datamodels.train.contract import load_trainer

SPECS = sorted((Path(__file__).parent.parent / "deploy" / "specs").glob("*.yaml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_its_trainer_keeps_the_contract_on_its_data(path):
    given = spec.load(path)
    dataset = runs.load_dataset(given)
    run = runs.resolve(given, dataset)
    said = {}
    trainer = load_trainer(given, dataset, dataset.targets(given.targets))
    Check(run, trainer, tolerance=1e-3, say=said.__setitem__).contract()
    assert given.name == path.stem and said["subset"].startswith("another one moves outputs")
