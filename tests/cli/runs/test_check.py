import re

import pytest
import yaml

from datamodels.cli.main import main
from datamodels.errors import ExitCode

MODULE = """
import numpy as np

class Constant:
    def __init__(self, dataset, targets):
        self.n = len(targets)
    def train(self, subset, seed):
        return float(seed % 97)
    def outputs(self, model):
        return np.full(self.n, model)
"""


@pytest.fixture
def path(tmp_path):
    ridge = {"estimator": "sklearn.linear_model:RidgeClassifier"}
    document = {
        "name": "small",
        "dataset": {"load": "datamodels.train.tabular:load_breast_cancer"},
        "trainer": {"class": "datamodels.train.tabular:Tabular", "options": ridge},
        "m": 50,
    }
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def check(capsys, *arguments):
    code = main(["trainer", "check", *arguments, "--seconds", "0.1"])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_spec_is_checked_on_its_data_with_its_options(capsys, path):
    code, out, err = check(capsys, "--spec", str(path), "--price", "3")
    assert (code, err) == (ExitCode.DONE, "")
    found = {line[:11].strip(): line[11:] for line in out.splitlines()}
    assert found["trainer"] == "datamodels.train.workloads.tabular:Tabular"
    assert found["outputs"].startswith("169 of each model") and found["seed"] == "another one changes nothing"
    assert found["SNR"].startswith("infinite: the seed changes nothing, from ")
    assert re.match(r"effects of single examples make [01]\S* \(95% \S+ to \S+\) of that variance", found["additive"])
    assert re.match(
        r"(weak|nothing yet): without a prior, 50 models give an LDS of about 0\.\d\d \(0\.\d\d to 0", found["verdict"]
    )
    assert "a prior from inputs: " in found["verdict"]
    assert found["run"].startswith("250 models, 200 of them to evaluate, take ") and "at 3 per hour" in found["run"]


def test_a_class_is_checked_on_the_digits(capsys):
    code, out, _ = check(capsys, "datamodels.train.mlp:Softmax")
    assert code == ExitCode.DONE and "1,400 training examples" in out and "per model, 50 at once" in out
    assert "(95% " in out and "subsets x 4 seeds" in out


def test_a_class_that_breaks_the_contract_is_told_in_one_line(capsys, path, tmp_path, monkeypatch):
    (tmp_path / "constant.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    code, _, err = check(capsys, "constant:Constant", "--spec", str(path))
    assert code == ExitCode.CONFIG
    assert err == (
        "datamodels: trainer.class = 'constant:Constant': outputs do not depend on the subset; train on the given "
        "examples only; if outputs are large numbers that differ little, subtract what they have in common, in "
        "float64\n"
    )
