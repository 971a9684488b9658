import os
import sys

import pytest

from datamodels.errors import ExitCode, StageError
from datamodels.plan import trial
from datamodels.run import runs, specs

MODULE = """
import os
import time
import numpy as np
from datamodels.train import Dataset

def load():
    x = np.arange(8.0)
    return Dataset(x=x, y=x, x_test=x[:2], y_test=x[:2])

class Sleeper:
    def __init__(self, dataset, targets, once=0.0, each=0.0, fault=""):
        time.sleep(once)
        self.x, self.each, self.fault = dataset.x, each, fault
    def train(self, subset, seed):
        if self.fault == "raise":
            raise KeyError("no")
        if self.fault == "die":
            os._exit(9)
        time.sleep(self.each)
        return self.x[subset].sum()
    def outputs(self, model):
        return np.full(2, model)
"""


@pytest.fixture
def make(tmp_path, monkeypatch):
    (tmp_path / "sleeps.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def make(**options):
        """A run, and its data set."""
        trainer = {"class": "sleeps:Sleeper", "options": options}
        given = specs.parse({"name": "a", "dataset": {"load": "sleeps:load"}, "trainer": trainer, "m": 100})
        dataset = runs.load_dataset(given)
        return runs.resolve(given, dataset), dataset

    yield make
    sys.modules.pop("sleeps", None)


def test_trainers_are_measured_side_by_side(make):
    """A sleep is a floor that no load of the machine lowers; above it, only wide bounds hold."""
    speed = trial.measure(*make(once=0.5, each=0.1), trainers=2, seconds=0.3)
    assert speed.trainers == 2
    assert 0.05 <= speed.each < 5
    assert speed.start >= 0.4


@pytest.mark.parametrize(
    ("fault", "line", "code"),
    [
        (
            "raise",
            r"sleeps:Sleeper: models on 6 of the 6 .*raised KeyError: 'no' \(.*sleeps\.py:\d+ in train\)",
            ExitCode.CONFIG,
        ),
        ("die", "a trainer of the trial died", ExitCode.TRANSIENT),
    ],
)
def test_a_trial_that_fails_says_why(make, fault, line, code):
    with pytest.raises(StageError, match=line) as caught:
        trial.measure(*make(fault=fault), trainers=1, seconds=0.1)
    assert caught.value.exit_code == code
