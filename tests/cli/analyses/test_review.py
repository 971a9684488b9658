import dataclasses
import json
import re

import numpy as np
import pytest

from datamodels import words
from datamodels.errors import ExitCode
from datamodels.outputs import Output
from datamodels.run import runs
from datamodels.storage.local import LocalStore
from datamodels.testing import fitted, linear
from tests.cli.test_main import run_main


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """(arguments that name the store, run): a run whose weights are true, and one half trained."""
    folder = tmp_path_factory.mktemp("store")
    store, run = linear.make_store(folder)
    linear.make_store(folder, m=1000)
    return ("--store", store.url), run


def test_a_review_has_all_tables(capsys, stored):
    place, run = stored
    code, out, err = run_main(capsys, "review", run.name, *place, "-k", "3", "--fragile", "0.9", "--json")
    assert code == 0, err
    found = json.loads(out)
    mean = linear.theta().mean(axis=0)
    assert [row["column"] for row in found["helpful"]] == np.argsort(-mean)[:3].tolist()
    assert found["harmful"][0]["mean"] == pytest.approx(mean.min(), rel=1e-5)
    assert found["by"] == {"suspects": "harm", "leaked": "inputs"} and not found["partial"]
    helps = (linear.theta() > 0).any(axis=0)  # some target, and all targets are of class 1
    suggested = [1 if row["label"] != 1 and helps[row["example"]] else None for row in found["suspects"]]
    assert [row["suggested"] for row in found["suspects"]] == suggested and 1 in suggested
    assert found["fragile_targets"]["limit"] == 36 and found["fragile_targets"]["wrong"] == 1
    code, out, _ = run_main(capsys, "review", run.name, *place, "-k", "3", "--fragile", "0.9")
    assert code == 0 and "not all models" not in out
    assert out.splitlines()[1] == "verdict unknown: `datamodels evaluate` measures how good the fit is"
    for title in (
        "examples that help most",
        "examples that harm most",
        "fragile: ",
        "suspected wrong",
        "suspected leaks",
    ):
        assert out.count(title) == 1
    assert out.count("  rather 1?") == suggested.count(1)


def test_a_review_without_a_threshold_says_how_to_give_one_and_takes_it(capsys, tmp_path):
    store, run = linear.make_store(tmp_path)
    runs.create(store, dataclasses.replace(run, declared=Output("error", higher_is_better=False)))
    place = ("--store", store.url)
    code, out, _ = run_main(capsys, "review", run.name, *place)
    assert code == 0 and "fragile: left out: the output 'error' has no threshold, past which a model gets" in out
    code, out, _ = run_main(capsys, "review", run.name, *place, "--threshold", "30")
    assert code == 0 and re.search(r"fragile: \d of \d targets", out)


def test_a_review_of_a_run_that_still_trains_says_so(capsys, stored):
    code, out, _ = run_main(capsys, "review", linear.make_run(m=1000).name, *stored[0])
    assert code == 0 and "of 100 models, which are not all models of the run" in out


def test_leaks_by_inputs_or_by_weights(capsys, stored):
    """Inputs are numbers of a line, the first six test examples just behind the pool."""
    place, run = stored
    code, out, err = run_main(capsys, "leakage", run.name, *place, "-k", "4", "--json")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert (rows[0]["by"], rows[0]["target"], rows[0]["example"]) == ("inputs", 0, linear.D - 1)
    assert rows[0]["distance"] == pytest.approx(1 / 5, abs=1e-4)
    assert rows[0]["same"] is None and rows[0]["expected"] >= linear.N * 2 / linear.D
    assert rows[0]["weight"] == pytest.approx(float(linear.theta()[0, -1]), rel=1e-5)
    code, out, _ = run_main(capsys, "leakage", run.name, *place)
    assert code == 0 and "the numbers of each input, each standardised over the pool" in out
    assert "Nothing stands out: the closest pair has distance 0.2, and 3.6 of 6 targets are expected" in out
    code, out, _ = run_main(capsys, "leakage", run.name, *place, "--by", "weights")
    assert code == 0 and out.startswith("suspected leaks, by weights alone: ") and "  share 0." in out


def test_weights_come_with_their_prior(capsys, tmp_path):
    store, run = LocalStore(tmp_path), linear.make_run()
    runs.create(store, run)
    fitted.commit_fit(store, run, linear.theta(), measured=0.25 * linear.theta())
    place = ("--store", store.url)
    for verb, name, weight in (("review", "helpful", "mean"), ("leakage", "", "weight")):
        code, out, err = run_main(capsys, verb, run.name, *place, "-k", "2", "--json")
        assert code == 0, err
        rows = json.loads(out)[name] if name else [json.loads(line) for line in out.splitlines()]
        assert len(rows) == 2 and all(row["measured"] == pytest.approx(row[weight] / 4, rel=1e-5) for row in rows)
        prior = words.number(0.75 * rows[0][weight], signed=True)
        code, out, _ = run_main(capsys, verb, run.name, *place, "-k", "2")
        assert f"  {words.number(rows[0][weight], signed=True)} (prior {prior})" in out.replace("weight ", " ")


def test_weights_of_any_scale_show_their_digits(capsys, tmp_path):
    store, run = LocalStore(tmp_path), linear.make_run()
    runs.create(store, run)
    fitted.commit_fit(store, run, 1e-7 * linear.theta())
    said = ""
    for verb in ("review", "leakage"):
        code, out, err = run_main(capsys, verb, run.name, "--store", store.url)
        assert code == 0, err
        said += out
    assert not re.search(r"[+-]0\.0+\b", said) and re.search(r"weight [+-]\d\.\d\de-0[78]", said)
    assert re.search(r"#\d+ \(\d\)  [+-]\d\.\d\de-0[78]  \([+-]\d\.\d\de-", said)


@pytest.mark.parametrize(
    "question, fault",
    [
        (["review", "RUN", "-k", "0"], "-k 0: must be at least 1"),
        (["leakage", "RUN", "-k", "-1"], "-k -1"),
        (["leakage", "none-123456789abc"], "no such run"),
    ],
)
def test_bad_questions_get_one_line_and_exit_code_2(capsys, stored, question, fault):
    place, run = stored
    code, out, err = run_main(capsys, *[run.name if word == "RUN" else word for word in question], *place)
    assert (code, out) == (ExitCode.CONFIG, "")
    assert err.startswith("datamodels: ") and fault in err and err.count("\n") == 1
