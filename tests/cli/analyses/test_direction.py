"""Commands obey what outputs mean: a penalty in euro, of which less is better, and a raw prediction."""

import contextlib
import json

import numpy as np
import pytest
from datamodels.services.query.service import service

from datamodels.errors import ExitCode
from datamodels.query.weights import WeightStore
from datamodels.rpc.serve import Server
from datamodels.settings import ServeSettings
from datamodels.testing import committed, linear
from tests.baselines.test_compare import EVALUATE, linear_outputs
from tests.cli.test_main import run_main

PENALTY = {"name": "penalty", "unit": "euro", "higher_is_better": False, "threshold": None}
PREDICTION = {"name": "prediction", "higher_is_better": None, "threshold": None}


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """ask(output, command, *arguments) runs a command on a run whose weights are true; RUN stands for its name."""
    made = {}
    with contextlib.ExitStack() as stack:
        for name, output in (("penalty", PENALTY), ("prediction", PREDICTION)):
            folder = tmp_path_factory.mktemp("store")
            store, run = linear.make_store(folder, output=output, evaluate=EVALUATE, chunk=20, sub_chunk=10)
            committed.commit(store, run, outputs=linear_outputs)
            server = stack.enter_context(Server(ServeSettings(), [service(WeightStore(store))]))
            made[name] = run.name, f"file://{folder}", server.address

        def ask(capsys, name, *arguments):
            run, store, address = made[name]
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("DATAMODELS_CLIENT_QUERY", address)
                return run_main(capsys, *(run if word == "RUN" else word for word in arguments), "--store", store)

        yield ask


def test_what_helps_lowers_the_penalty(capsys, ask):
    code, out, err = ask(capsys, "penalty", "query", "top", "RUN", "0", "-k", "2", "--json")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    weights = linear.theta()[0]
    assert [row["column"] for row in rows if row["effect"] == "helpful"] == np.argsort(weights)[:2].tolist()
    assert [row["column"] for row in rows if row["effect"] == "harmful"] == np.argsort(-weights)[:2].tolist()
    code, out, _ = ask(capsys, "penalty", "query", "predict", "RUN", "0-9", "2")
    assert code == 0 and out.startswith("target 2  penalty (euro) ")


def test_a_support_needs_a_threshold_and_raises_the_penalty_past_it(capsys, ask):
    code, out, err = ask(capsys, "penalty", "support", "RUN", "0")
    assert (code, out) == (ExitCode.CONFIG, "") and "'penalty' has no threshold" in err and err.count("\n") == 1
    most = float(linear.theta()[0].sum() + 1)
    asked = ("support", "RUN", "0", "--threshold", f"{most}", "--limit", "40", "--safety", "0.5", "--verify", "4")
    code, out, err = ask(capsys, "penalty", *asked, "--json")
    assert code == 0, err
    row = json.loads(out)
    assert (
        row["status"] == "found"
        and row["before"] < most < row["after"]
        and (row["output"], row["unit"]) == ("penalty", "euro")
    )
    assert (linear.theta()[0, row["columns"]] < 0).all() and row["verified"]["share"] == 1


def test_a_check_without_a_threshold_counts_nothing_as_wrong(capsys, ask):
    asked = ("counterfactual", "RUN", "0", "--remove", "3", "--verify", "4")
    code, out, err = ask(capsys, "penalty", *asked)
    assert code == 0 and "flip" not in out and " of 4 models" in out, err
    assert out.startswith("penalty (euro), as predicted, ")


def test_a_review_says_what_it_leaves_out(capsys, ask):
    code, out, err = ask(capsys, "penalty", "review", "RUN", "-k", "2")
    assert code == 0, err
    assert out.count("fragile: ") == 1 and "the output 'penalty' has no threshold" in out
    assert "effect on the penalty (euro) " in out and "suspected wrong labels" in out
    code, out, _ = ask(capsys, "prediction", "review", "RUN", "-k", "2")
    assert "examples that raise the prediction most" in out and "help" not in out.split("fragile")[0]


def test_without_a_threshold_methods_are_compared_by_lds_alone(capsys, ask):
    asked = ("compare", "RUN", "--baselines", "inputs", "--targets", "6", "--quiet")
    code, out, err = ask(capsys, "penalty", *asked)
    assert code == 0 and "flip rates are left out: the output 'penalty' has no threshold" in err
    assert "LDS of 6 targets" in out and "flip" not in out
    code, out, err = ask(capsys, "penalty", *asked, "--threshold", "100", "--retrain", "2", "--remove", "5", "--json")
    assert code == 0 and "flips_at_5" in json.loads(out.splitlines()[0])["figures"], err


def test_a_prediction_is_raised_and_lowered(capsys, ask):
    code, out, err = ask(capsys, "prediction", "query", "top", "RUN", "0", "-k", "1")
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()] == ["raising", "lowering"]
    code, _, err = ask(capsys, "prediction", "support", "RUN", "0", "--threshold", "1")
    assert code == ExitCode.CONFIG and "neither better high nor low" in err
