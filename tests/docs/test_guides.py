"""The Python examples of the guides, as they are printed there."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import datamodels
from datamodels.cli.main import main
from datamodels.run import designs, runs
from datamodels.storage.local import LocalStore
from datamodels.testing import committed, fitted
from datamodels.testing.server import serve
from datamodels.train.gradients import metagradients
from datamodels.train.torch import examples as networks
from tests.helpers.waiting import LIMIT

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def examples(guide, folder=GUIDES, language="python"):
    """The Python blocks of a guide, or those in another language."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", (folder / guide).read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found


def make_store(folder):
    """(store, run, theta) of a run with outputs and weights."""
    store, run = LocalStore(folder), committed.make_run()
    theta = committed.truth(run).T.astype(np.float32)
    runs.create(store, run)
    committed.commit(store, run)
    fitted.commit_fit(store, run, theta)
    return store, run, theta


def test_the_client(tmp_path, capsys):
    store, run, theta = make_store(tmp_path)
    names = {}
    with serve(store) as address:
        for block in examples("client.md"):
            assert "localhost:50051" in block
            exec(block.replace("localhost:50051", address), names)
    assert names["run"] == run.name
    expected = theta[:, [0, 3, 5]].sum(axis=1) + np.arange(run.n)
    np.testing.assert_allclose(names["answer"].predictions[0], expected, rtol=1e-5)
    assert names["row"].target == 1 and set(names["row"].columns) <= set(np.flatnonzero(theta[1]))
    assert "target 1000000: must be 0 to" in capsys.readouterr().out


def test_every_call_of_the_client_is_named():
    calls = {name for name in vars(datamodels.QueryClient) if not name.startswith("_")}
    calls |= {"evaluate", "clusters", "components", "conflicts"}
    table = (GUIDES / "client.md").read_text().split("| call |")[1].split("\n\n")[0]
    assert calls == set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:])))


def test_notebooks(tmp_path, monkeypatch):
    _, run, theta = make_store(tmp_path / ".datamodels" / "store")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in examples("notebook.md"):
        exec(block, names)
    assert names["name"] == run.name
    np.testing.assert_array_equal(names["weights"].theta.toarray(), theta)
    assert names["quality"].lds > 0.9
    np.testing.assert_allclose(names["found"].theta.toarray()[0, :3], [1, -2, 0], atol=0.1)


def test_the_store_is_read_as_its_format_says():
    names = {}
    for block in examples("store-format.md", GUIDES.parent):
        exec(block, names)
    (record,) = (Path(__file__).parents[1] / "stored" / "0.1.0" / "store" / "runs").iterdir()
    body = names["read_record"](record.read_bytes())
    assert record.stem.startswith(body["spec"]["name"])
    design = designs.Design(kind="uniform", seed=7, alpha=0.3, examples=50, pinned_in=(3,), pinned_out=(8, 9))
    free = np.setdiff1d(np.arange(50), [3, 8, 9])
    for i in (0, 1, 12345):
        drawn = names["subset"](7, i, free, round(0.3 * len(free)))
        np.testing.assert_array_equal(np.sort([3, *drawn]), designs.subset(design, i))
    design = designs.Design(kind="hadamard", seed=7, alpha=0.5, examples=50, pinned_in=(3,), pinned_out=(8, 9))
    for i in (0, 46, 47, 12345):
        drawn = names["half"](7, i, free, 47)
        np.testing.assert_array_equal(np.sort([3, *drawn]), designs.subset(design, i))


def test_a_trainer_of_your_own(tmp_path, monkeypatch, capsys):
    """The data set, the trainers and the spec of the guide, in files of their own, keep the rules of trainers."""
    (tmp_path / "mine.py").write_text("\n\n".join(examples("trainer.md")))
    (spec,) = examples("trainer.md", language="yaml")
    (tmp_path / "spec.yaml").write_text(spec)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("mine", None)
    for name in ("Trainer", "NearestMean"):
        assert main(["trainer", "check", f"mine:{name}", "--spec", "spec.yaml", "--seconds", "0.01"]) == 0
        assert "subset     another one moves outputs" in capsys.readouterr().out
    del sys.modules["mine"]


def test_a_replay_of_your_own():
    """Its derivatives are finite differences of trainings."""
    (code,) = (block for block in examples("trainer.md") if "Replay" in block)
    exec(code, mine := {})
    rng, subset, step = np.random.default_rng(0), np.arange(6), 1e-5
    x, y, slopes = rng.normal(size=(8, 4)), rng.integers(0, 3, 8), rng.normal(size=(1, 12))

    def last(weight):
        replay = mine["Linear"](x, y, subset)
        examples, shares = replay.minibatch(0)
        replay.minibatch = lambda step: (examples, shares * (1 + weight * (examples == 2).double()))
        return metagradients.Metagradients(replay)

    (scores,) = last(0).of(lambda rows: slopes, np.array([True]), 8)
    up, down = (slopes @ last(weight).last[0].numpy() for weight in (step, -step))
    np.testing.assert_allclose(scores[2], (up - down)[0] / (2 * step), rtol=1e-5)
    assert (scores[6:] == 0).all()


def test_a_network_of_your_own(tmp_path, monkeypatch, capsys):
    mine, transformer, gradients = examples("networks.md")
    (spec,) = examples("networks.md", language="yaml")
    (tmp_path / "mine.py").write_text(mine)
    smaller = spec.replace('digits:load"}', 'digits:load", options: {train: 60, test: 9}}').replace(
        "epochs: 8", "epochs: 3"
    )
    assert smaller.count("60") == 1 and "epochs: 3" in smaller
    (tmp_path / "spec.yaml").write_text(smaller)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("mine", None)
    assert main(["trainer", "check", "--spec", "spec.yaml", "--seconds", "0.01"]) == 0
    assert "at once    seconds per model" in capsys.readouterr().out
    del sys.modules["mine"]
    names = {}
    exec(mine + gradients, names)
    assert names["gradients"]["1.weight"].shape == (8, 16, 1, 3, 3) and names["margins"].shape == (20,)
    for block, function in ((mine, networks.cnn), (transformer, networks.transformer)):
        assert statements(block) == statements(inspect.getsource(function))


def test_a_language_model_of_your_own(tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers", reason="needs transformers; the extra of that name brings it")
    load, gpt = examples("language.md")
    (spec,) = examples("language.md", language="yaml")
    assert statements(gpt) == statements(inspect.getsource(networks.gpt))
    (tmp_path / "mine.py").write_text(f"{load}\n\n{gpt}")
    (tmp_path / "spec.yaml").write_text(spec.replace("epochs: 8", "epochs: 1"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("mine", None)
    assert main(["trainer", "check", "--spec", "spec.yaml", "--seconds", "0.01"]) == 0
    out = capsys.readouterr().out
    assert "log-likelihood (nats): higher is better" in out and "another one moves outputs" in out
    data = sys.modules.pop("mine").load()
    assert all(len(span.text[span.first : span.last].split()) >= 3 for span in data.spans("test"))
    assert data.x.shape[1] <= 60 and len(data.token_names) <= 800


def statements(source):
    """What the function in a text does, without its docstring and annotations."""
    (function,) = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return [ast.unparse(node) for node in function.body if not isinstance(node, ast.Expr)]


def test_data_of_your_own(tmp_path):
    names = {}
    (block,) = examples("data.md")
    exec(block, names)
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6)
    np.savez(tmp_path / "data.npz", x=x, y=y, x_test=x[:2], y_test=y[:2])
    found = names["load"](tmp_path / "data.npz")
    np.testing.assert_array_equal(found.x, x)
    assert len(found.targets("both").y) == 8


def test_tests_of_others(tmp_path):
    """The examples, as a test file in a folder that has nothing of ours."""
    (tmp_path / "test_theirs.py").write_text("\n\n".join(examples("testing.md")))
    chosen = "my_ or create_then_read or flipped_byte"  # the store's other tests take long, and run elsewhere
    options = ["-q", "-p", "no:cacheprovider", "--basetemp=tmp", "-k", chosen]
    command = [sys.executable, "-m", "pytest", *options, "test_theirs.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
