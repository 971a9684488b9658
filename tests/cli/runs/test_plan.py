import json

import pytest
import yaml

from datamodels.cli.common.spending import duration
from datamodels.cli.main import main
from datamodels.cli.runs import plan
from datamodels.errors import ExitCode
from datamodels.plan.cost import Speed
from datamodels.plan.fit import Rates

CHECK = ["trainer", "check", "--seconds", "0.1", "--spec"]


@pytest.fixture
def path(tmp_path):
    document = {
        "name": "small",
        "dataset": {"load": "datamodels.train.digits:load", "options": {"train": 300, "test": 20}},
        "trainer": {"class": "datamodels.train.mlp:Softmax", "options": {"epochs": 1}},
        "m": 1000,
        "chunk": 100,
        "sub_chunk": 50,
        "evaluate": {"subsets": 10, "models": 20},
    }
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_plan_from_a_known_speed(capsys, path):
    arguments = ["--model-seconds", "36", "--pods", "6", "--price", "2", "--spot-discount", "0.5"]
    assert main(["plan", str(path), *arguments]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("m = 1,000 and 200 models to evaluate, d = 300")
    assert lines[1] == "speed      0.02778 models/s, 36.0 s per model (as given)"
    assert lines[2] == (
        "train      2.0 h from start to end on 6 pods in parallel, 12 device-hours, 12.00 at 2 per hour less 50%"
    )
    assert lines[3].startswith("cheaper    groups of 10 examples: d = 30 and m = 100 save 75%, 9.0 h")
    assert lines[4].startswith("cheaper    50% of the pool, chosen by a proxy model: d = 150 and m = 500 save 71%")


def test_a_plan_from_a_trial(capsys, path):
    """Of a trainer that starts fast, since it imports little."""
    document = yaml.safe_load(path.read_text())
    document["dataset"] = {"load": "datamodels.testing.linear:load"}
    document["trainer"] = {"class": "datamodels.testing.linear:Linear"}
    path.write_text(yaml.safe_dump(document))
    assert main(["plan", str(path), "--trainers", "1", "--seconds", "0.2"]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop(1).startswith("output     margin: higher is better, wrong below 0 (assumed; ")
    assert "measured with 1 trainer; to start one takes" in lines[1] and "on this machine" in lines[2]
    assert lines[-1].startswith("fit        ") and lines[-1].endswith(" GiB of disk, on the cpu of this machine")


def test_the_plan_of_a_large_fit_says_what_pods_take_and_what_fewer_columns_lose(capsys, path, monkeypatch):
    """With known rates: an hour for the masks of 300 columns, and one for each of the 20 targets."""
    monkeypatch.setattr(plan, "HEAVY_FIT", 20)
    monkeypatch.setattr(plan, "MANY", 20)
    monkeypatch.setattr(plan.trial, "measure", lambda *arguments, **options: Speed(36.0))
    monkeypatch.setattr(
        plan.fits, "measure_rates", lambda size, *_, **__: Rates(12.0 * size.columns, 12.0 * size.columns)
    )
    monkeypatch.setenv("DATAMODELS_FITTER_THREADS", "1")
    monkeypatch.setenv("DATAMODELS_FITTER_BLOCK", "10")
    arguments = ["--pods", "6", "--price", "2"]
    assert main(["plan", str(path), *arguments]) == ExitCode.DONE
    said = capsys.readouterr()
    assert "or 11.0 h on 2 pods like it, 22 device-hours, 44.00 at 2 per hour; each reads " in said.out
    assert "the fit takes 21 CPU hours" in said.err
    assert "groups of 15 examples (design: {kind: grouped}): 20 columns and 67 models, 1 CPU hours" in said.err
    assert "7% of the pool, chosen by a proxy model: 20 columns and 67 models, 1 CPU hours" in said.err
    assert main(["plan", str(path), "--json", *arguments]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)["fit"]
    assert found["pods"]["hours"] == pytest.approx(22) and not found["untried"]
    monkeypatch.setattr(plan.memory, "untried", lambda *_: "9 models on 9 columns")
    assert main(["plan", str(path), *arguments]) == ExitCode.DONE
    assert (
        "\n           tries no LASSO with one lambda for all targets: 9 models on 9 columns" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "arguments", [["--price", "-1"], ["--spot-discount", "1"], ["--pods", "0"], ["--seconds", "x"]]
)
def test_what_makes_no_sense_is_a_configuration_error(capsys, path, arguments):
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(path), *arguments])
    assert ended.value.code == ExitCode.CONFIG and f"argument {arguments[0]}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0021, "2.1 ms"), (0.5, "0.50 s"), (1.234, "1.23 s"), (30.6, "30.6 s"), (250, "4.2 min"), (1e5, "27.8 h")],
)
def test_times_are_told_in_units_for_people(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("command", [["plan", "--model-seconds", "1"], ["sample"], CHECK])
def test_doubts_about_labels_are_said_before_anything_is_spent(capsys, tmp_path, path, monkeypatch, command):
    document = yaml.safe_load(path.read_text()) | {"evaluate": {"subsets": 0}}
    document["dataset"]["options"] = {"train": 16, "test": 20}  # these have no 1, 6, 7 and 8
    path.write_text(yaml.safe_dump(document))
    monkeypatch.chdir(tmp_path)
    assert main([*command, str(path)]) == ExitCode.DONE
    said = " ".join(capsys.readouterr())
    assert "targets are of classes that the training examples lack: " in said and "No model can learn these" in said
