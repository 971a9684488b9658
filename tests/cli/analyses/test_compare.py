import json

import pytest

from datamodels.cli.analyses import compare
from datamodels.errors import ExitCode
from datamodels.testing import committed, linear
from tests.baselines.test_compare import EVALUATE, linear_outputs
from tests.cli.test_main import run_main


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(the command's arguments that say which run of which store)."""
    folder = tmp_path_factory.mktemp("store")
    store, run = linear.make_store(folder, evaluate=EVALUATE, chunk=20, sub_chunk=10)
    committed.commit(store, run, outputs=linear_outputs)
    return ("compare", run.name, "--store", f"file://{folder}", "--targets", "6", "--retrain", "2", "--remove", "5,20")


def test_methods_are_lines_of_two_tables(capsys, place):
    code, out, err = run_main(capsys, *place, "--quiet")
    assert code == 0, err
    lds, flips = out.split("\n\n")[:2]
    assert lds.startswith("LDS of 6 targets")
    for table in (lds, flips):
        methods = [line.split()[0] for line in table.splitlines()[2:]]
        assert methods == ["datamodels", "feldman_zhang", "inputs", "random"]
    left_out = "tracin, last_layer, ekfac, influence, trak, representations: left out: trainer.class = "
    assert err.startswith(f"{left_out}'datamodels.testing.linear:Linear': has no gradients") and err.count("\n") == 2
    assert "\nmagic: left out: trainer.class = 'datamodels.testing.linear:Linear': has no trainings" in err


def test_as_json(capsys, place):
    code, out, _ = run_main(capsys, *place, "--json", "--baselines", "random")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [row["method"] for row in rows] == ["datamodels", "random"]
    low, high = rows[1]["figures"]["lds"]["interval"]
    assert low <= rows[1]["figures"]["lds"]["value"] <= high < rows[0]["figures"]["lds"]["value"]
    assert set(rows[0]["figures"]) == {"lds", "unsure", "flips_at_5", "flips_at_20"}


def test_named_methods_that_can_take_part_do_and_a_pipe_gets_no_bar(capsys, place):
    code, out, err = run_main(capsys, *place, "--targets", "0", "--baselines", "magic,random")
    assert code == 0 and [line.split()[0] for line in out.splitlines()[2:]] == ["datamodels", "random"]
    assert err.startswith("magic: left out: ") and err.count("\n") == 1


def test_lds_remains_if_models_get_too_few_targets_right(capsys, place):
    """No model is right by a margin above a million, and then no target can flip."""
    code, out, err = run_main(capsys, *place, "--quiet", "--threshold", "1e6", "--baselines", "random")
    assert code == 0 and out.startswith("LDS of 6 targets") and "flip" not in out
    assert (
        err.startswith("flip rates are left out: run ") and "models of the whole pool get 0 of 6 targets right" in err
    )


def test_lds_alone(capsys, place):
    code, out, err = run_main(capsys, *place, "--targets", "0", "--quiet", "--baselines", "random")
    assert (code, err) == (0, "")
    title, head, *rows = out.splitlines()
    assert title == "LDS of 6 targets" and head.split() == ["method", "LDS", "95%", "interval", "models", "seconds"]
    assert [row.split()[0] for row in rows] == ["datamodels", "random"]


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (
            ["--baselines", "tracin"],
            "tracin: left out: trainer.class = 'datamodels.testing.linear:Linear': has no grad",
        ),
        (["--baselines", "tracin,ekfac,magic"], "tracin, ekfac: left out: trainer.class"),
        (["--baselines", "tracin,ekfac,magic"], "; magic: left out: trainer.class"),
        (["--baselines", "lasso"], "--baselines 'lasso': must be of"),
        (["--targets", "9"], "--targets 9: must be 2 to 6"),
        (["--targets", "-1"], "--targets -1: must be 2 to 6"),
        (["--retrain", "1"], "--retrain 1: must be 2 to"),
    ],
)
def test_bad_questions_get_one_line_and_exit_code_2(capsys, place, more, fault):
    code, out, err = run_main(capsys, *place, "--quiet", *more)
    assert (code, out) == (ExitCode.CONFIG, "")
    assert err.startswith("datamodels: ") and fault in err and err.count("\n") == 1


def row(method, value, **more):
    lds = {"value": value, "interval": [0.2, 1.0]}
    targets, figures = {"lds": 5, "unsure": 0}, {"lds": lds, "unsure": None}
    return {"method": method, "models": 0, "seconds": 0.0, "targets": targets, "figures": figures} | more


def test_scores_that_should_not_be_trusted_are_named_below_the_table():
    """Files of earlier versions have no doubts."""
    found = [
        row("datamodels", 0.9),
        row("magic", 0.0, doubt="derivatives do not agree"),
        row("tracin", 0.1, doubt=None),
    ]
    assert list(compare.lines(found))[-1] == "magic: derivatives do not agree"


def test_an_lds_that_correction_brings_above_1_is_called_chance():
    assert not any("is chance" in line for line in compare.lines([row("datamodels", 0.99), row("inputs", 0.4)]))
    assert any("is chance" in line for line in compare.lines([row("datamodels", 0.35), row("inputs", 1.0)]))
