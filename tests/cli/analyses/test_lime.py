import json

import pytest

from datamodels.errors import ExitCode
from datamodels.run import runs, specs
from datamodels.storage.local import LocalStore
from tests.baselines import networks as made
from tests.cli.test_main import run_main

DOCUMENT = {
    "name": "apart",
    "dataset": {"load": "tests.baselines.networks:dataset"},
    "trainer": {"class": "tests.baselines.test_lime:Weighing"},
    "m": 100,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(the command's arguments that say which run of which store)."""
    folder = tmp_path_factory.mktemp("store")
    run = runs.resolve(specs.parse(DOCUMENT), made.dataset())
    runs.create(LocalStore(folder), run)
    return ("lime", run.name, "3", "--store", f"file://{folder}", "--models", "2", "--trust", "tests")


def test_parts_are_lines_the_strongest_first(capsys, place):
    code, out, err = run_main(capsys, *place)
    assert code == 0 and err == "datamodels: training 2 models on this machine\n", err
    assert "(margin, mean of 2 models" in out and "(of the sum of 4 parts, over 1,000 samples)" in out
    rows = [line.split() for line in out.split("95% interval\n")[1].splitlines()]
    weights = [abs(float(weight)) for _, weight, *_ in rows]
    assert {row[0] for row in rows} == {"x0", "x1", "x2", "x3"} and weights == sorted(weights, reverse=True)
    assert all(float(low) <= float(weight) <= float(high) for _, weight, low, _, high in rows)


def test_as_json(capsys, place):
    code, out, _ = run_main(capsys, *place, "--json", "--samples", "50")
    document = json.loads(out)
    assert code == 0 and (document["target"], document["models"], document["samples"]) == (3, 2, 50)
    assert document["r2"] > 0.9 and len(document["parts"]) == 4
    assert all(part["interval"][0] <= part["weight"] <= part["interval"][1] for part in document["parts"])


@pytest.mark.parametrize(
    ("more", "fault"), [(["--samples", "7"], "--samples 7: must be at least 8"), (["--store", "file:///nowhere"], "")]
)
def test_bad_questions_get_one_line_and_exit_code_2(capsys, place, more, fault):
    code, out, err = run_main(capsys, *place, *more)
    assert (code, out) == (ExitCode.CONFIG, "")
    assert err.startswith("datamodels: ") and fault in err and err.count("\n") == 1
