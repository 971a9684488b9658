"""Targets that are spans of texts, as the commands show them. Hostile texts reach no terminal as they are."""

import json

import numpy as np
import pytest

from datamodels.run import runs, specs
from datamodels.storage.local import LocalStore
from datamodels.testing import fitted
from datamodels.testing.server import serve
from datamodels.train.texts import Text, language_dataset
from tests.cli.test_main import run_main

D = 8
HOSTILE = "red \x1b[31m here"
SPEC = {"name": "spans", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(arguments that say where the query service is, run)"""
    store = LocalStore(tmp_path_factory.mktemp("store"))
    targets = [(Text([1, 2, 3]), 1, 2), (Text([4, 5], HOSTILE, [(0, 3), (4, 9)]), 1, 2)]
    data = language_dataset([Text([1, 2, 3])] * D, targets)
    output = {"name": "log-likelihood", "higher_is_better": True, "threshold": -3}
    run = runs.resolve(specs.parse(SPEC | {"output": output}), data)
    runs.create(store, run)
    theta = np.zeros((2, D), dtype=np.float32)
    theta[:, :3] = 1, 0.5, -1
    fitted.commit_fit(store, run, theta, intercept=np.array([-3.0, -2.0]), measured=0.25 * theta)
    with serve(store) as address:
        yield ("--address", address), run.name


@pytest.mark.parametrize(
    "command",
    [
        ["support", "RUN", "0", "1"],
        ["counterfactual", "RUN", "0", "1", "--remove", "0"],
        ["query", "targets", "RUN"],
    ],
    ids=lambda command: command[0],
)
def test_spans_are_marked_in_lines_and_fields_of_json(capsys, place, command):
    service, run = place
    asked = [run if word == "RUN" else word for word in command]
    code, out, err = run_main(capsys, *asked, *service)
    assert code == 0, err
    first, second = (line for line in out.splitlines() if "[[" in line)
    assert "1 [[2]] 3" in first and "red [[\ufffd[31m]] here" in second and "\x1b" not in out
    code, out, _ = run_main(capsys, *asked, *service, "--json")
    assert [json.loads(line)["span"] for line in out.splitlines()] == [
        {"text": "1 2 3", "first": 2, "last": 3},
        {"text": HOSTILE, "first": 4, "last": 9},
    ]


def test_examples_and_similar_targets_of_a_span(capsys, place):
    service, run = place
    code, out, err = run_main(capsys, "query", "top", run, "0", "-k", "1", *service)
    assert code == 0, err
    lines = ["target 0 (1 [[2]] 3)", "helpful  #0  +1.000 (prior +0.750)", "harmful  #2  -1.000 (prior -0.750)"]
    assert out.splitlines() == lines
    code, out, _ = run_main(capsys, "query", "weights", run, "1", "-k", "1", *service)
    assert code == 0 and out == "1\t0\t1\t0.25\n"
    code, out, _ = run_main(capsys, "query", "similar", run, "0", *service)
    assert code == 0 and out.startswith("target 1 (red [[\ufffd[31m]] here)  cosine 1.000")


def test_analyses_by_class_say_that_there_are_none(capsys, place):
    service, run = place
    for command in (["conflicts", run], ["support", run, "0", "--mislabel"]):
        code, out, err = run_main(capsys, *command, *service)
        assert code and not out and "no class" in err and err.count("\n") == 1
