import json

import pytest
from datamodels.services.query.service import service

from datamodels.analyze.what_if.relabel import relabelling
from datamodels.analyze.what_if.support import support
from datamodels.errors import ExitCode
from datamodels.query.weights import WeightStore
from datamodels.rpc.serve import Server
from datamodels.settings import ServeSettings
from datamodels.testing import linear
from tests.analyze.what_if.test_support import solve
from tests.cli.test_main import run_main


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(arguments that say where the query service is, run): a run whose weights are true, and one half trained."""
    folder = tmp_path_factory.mktemp("store")
    store, run = linear.make_store(folder)
    linear.make_store(folder, m=1000)
    with Server(ServeSettings(), [service(WeightStore(store))]) as server:
        yield ("--address", server.address), run


def test_a_support_is_found_and_verified(capsys, served):
    place, run = served
    asked = ["support", run.name, "0", "--limit", "40", "--safety", "0.5", *place]
    code, out, err = run_main(capsys, *asked, "--verify", "4", "--json")
    assert code == 0, err
    row = json.loads(out)
    expected = support(run, solve(linear.theta()), 0, limit=40, safety=0.5)
    assert row["columns"] == expected.columns.tolist() and row["status"] == "found" and "partial" not in row
    assert (row["verified"]["models"], row["verified"]["share"]) == (4, 1.0)
    assert row["verified"]["interval"][0] < row["verified"]["mean"] < row["verified"]["interval"][1]
    assert (row["verified_before"]["models"], row["verified_before"]["share"]) == (4, 0.0)
    assert row["verified_before"]["mean"] == pytest.approx(row["before"], abs=0.2)
    assert row["conclusion"] == "confirmed"
    code, out, _ = run_main(capsys, *asked)
    first, listed = out.splitlines()
    assert code == 0 and first.startswith("target 0 is predicted to go wrong without ")
    assert listed == f"  columns     {', '.join(map(str, row['columns']))}"


def test_how_many_models_are_wrong_with_nothing_removed_is_shown(capsys, served):
    place, run = served
    code, out, err = run_main(
        capsys, "support", run.name, "0", "5", *place, "--limit", "40", "--safety", "0.5", "--verify", "3"
    )
    assert code == 0, err
    right, _, unchanged, removed, so, wrong, whole, none = out.splitlines()
    assert right.startswith("target 0 is predicted to go wrong") and "target 5 is predicted to be wrong as" in wrong
    assert unchanged.startswith("  unchanged   0 of 3 models are wrong") and whole.startswith(
        "  unchanged   3 of 3 mode"
    )
    assert removed.startswith("  removed     3 of 3 models are wrong, 100% (95%: 44% to 100%), mean ")
    assert so == "  so          it is not clear whether most models get the target wrong: train more, --verify 12"
    assert none == (
        "  so          no support can be verified: the target is already wrong in 3 of 3 models with nothing removed"
    )


def test_without_a_support_there_is_nothing_to_verify(capsys, served):
    """Target 4 has no weights, and nothing makes it wrong."""
    place, run = served
    code, out, _ = run_main(capsys, "support", run.name, "4", "--verify", "2", *place)
    assert code == 0
    assert out.splitlines() == [
        "target 4 is predicted to stay right: no column helps it, margin 4.000",
        "  verified    nothing, since there is no set to remove",
    ]


def test_a_support_of_labels_is_found_and_verified(capsys, served):
    place, run = served
    asked = ["support", run.name, "0", "--limit", "40", "--safety", "0.5", "--mislabel", "--verify", "4", *place]
    code, out, err = run_main(capsys, *asked, "--json")
    assert code == 0, err
    row = json.loads(out)
    expected = relabelling(run, solve(linear.theta()), 0, limit=40, safety=0.5)
    assert (row["columns"], row["new_label"]) == (expected.support.columns.tolist(), expected.label)
    # The trainer of this run does not look at labels.
    assert (row["verified"]["models"], row["verified"]["share"]) == (4, 0.0)
    assert row["conclusion"] == "refuted"
    code, out, _ = run_main(capsys, *asked)
    assert out.splitlines()[-1] == (
        "  so          the support is not confirmed: most models still get the target right with it relabelled"
    )


def test_a_counterfactual_is_predicted_and_verified(capsys, served):
    place, run = served
    asked = ["counterfactual", run.name, "2", "0", "--remove", "3,5-6", *place, "--verify", "4"]
    code, out, err = run_main(capsys, *asked, "--json")
    assert code == 0, err
    for target, line in zip((2, 0), out.splitlines(), strict=True):
        row = json.loads(line)
        assert row["change"] == pytest.approx(-linear.theta()[target, [3, 5, 6]].sum(), rel=1e-5)
        assert row["verified"]["mean"] - row["verified_before"]["mean"] == pytest.approx(row["change"], abs=1e-4)
        assert row["before_interval"] == [None, None]
        assert row["change_interval"] == [None, None]  # nothing is committed that would tell
    code, out, _ = run_main(capsys, *asked)
    head, names, first, before, after, second, *_ = out.splitlines()
    assert head == "margin, as predicted, with 95% intervals: the mean of models, and one model after the change"
    assert names.split("  ")[0] == "" and first.startswith("target 2      ") and second.startswith("target 0      ")
    assert first.count("(unknown)") == 3 and "  before      0 of 4 models are wrong, 0% (95%: " in before
    assert after.startswith("  after       0 of 4 models are wrong") and max(map(len, out.splitlines())) < 120


def test_other_labels_are_predicted_and_verified(capsys, tmp_path):
    store, run = linear.make_store(tmp_path / "store", trainer={"class": "datamodels.testing.linear:Labelled"})
    asked = ["counterfactual", run.name, "0", "--relabel", "3,5", "--add", "7", "--base", "0-6,8-39"]
    with Server(ServeSettings(), [service(WeightStore(store))]) as server:
        asked += ["--verify", "2", "--json", "--address", server.address]
        code, out, err = run_main(capsys, *asked, "--label", "0")
        assert code == 0, err
        row, theta = json.loads(out), linear.theta()[0]
        assert row["change"] == pytest.approx(theta[7] - 2 * (theta[3] + theta[5]), rel=1e-5)
        assert row["verified"]["mean"] - row["verified_before"]["mean"] == pytest.approx(row["change"], abs=1e-4)
        code, _, err = run_main(capsys, *asked)
        assert code == ExitCode.CONFIG and "give the class" in err


def test_an_answer_from_a_run_that_still_trains_is_marked(capsys, served):
    code, out, _ = run_main(capsys, "support", linear.make_run(m=1000).name, "0", *served[0])
    assert code == 0 and out.startswith("target 0 ") and "(of 100 models, not all of the run)" in out


@pytest.mark.parametrize(
    "question, fault",
    [
        (["support", "RUN", "9"], "target 9: must be 0 to 5"),
        (["support", "RUN", "--limit", "41"], "--limit 41: must be 1 to 40"),
        (["support", "RUN", "--verify", "1"], "--verify 1: must be 2 to"),
        (["counterfactual", "RUN", "0"], "--remove and --add: both are empty"),
        (["counterfactual", "RUN", "0", "--add", "3"], "column 3 is already in the set"),
        (["counterfactual", "RUN", "0", "--remove", "40"], "column 40: must be 0 to 39"),
    ],
)
def test_bad_questions_get_one_line_and_exit_code_2(capsys, served, question, fault):
    place, run = served
    arguments = [run.name if word == "RUN" else word for word in question]
    code, out, err = run_main(capsys, *arguments, *place)
    assert (code, out) == (ExitCode.CONFIG, "")
    assert err.startswith("datamodels: ") and fault in err and err.count("\n") == 1
