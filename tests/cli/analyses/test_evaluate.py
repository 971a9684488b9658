import json

import numpy as np
import pytest
from datamodels.services.query.service import service

from datamodels.query.weights import WeightStore
from datamodels.rpc.serve import Server
from datamodels.settings import ServeSettings
from datamodels.testing import committed, linear
from tests.cli.test_main import run_main
from tests.services.query.test_long_calls import make_store


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(arguments that say where the query service is, run)"""
    store, run = make_store(tmp_path_factory.mktemp("store"))
    with Server(ServeSettings(), [service(WeightStore(store))]) as server:
        yield ("--address", server.address), run


def test_an_evaluation_is_printed_as_lines_and_as_json(capsys, served):
    place, run = served
    code, out, err = run_main(capsys, "evaluate", run.name, *place, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["lds"]["targets"] == run.n == len(found["per_target"])
    assert found["lds"]["interval"][0] <= found["lds"]["lds"] <= found["lds"]["interval"][1]
    assert (found["r2_of_means"]["models"], found["r2_of_single_models"]["models"]) == (2, 1)
    assert set(found["verdict"]) == {"word", "text", "lds", "goal", "needed"}
    assert len(found["worst"]) == 5 and "partial" not in found
    code, out, _ = run_main(capsys, "evaluate", run.name, *place)
    assert code == 0 and f"LDS      {found['lds']['lds']:.3f}" in out and "of single models" in out
    assert f"verdict  {found['verdict']['word']}: {found['verdict']['text']}" in out


def test_models_trained_on_other_shares_are_set_beside(capsys, tmp_path):
    fields = {"chunk": 20, "sub_chunk": 10, "evaluate": {"subsets": 4, "models": 2}}
    store, run = linear.make_store(tmp_path, **fields)
    committed.commit(store, run)
    with Server(ServeSettings(), [service(WeightStore(store))]) as server:
        asked = ["evaluate", run.name, "--alpha", "0.75,1", "--models", "5", "--address", server.address]
        code, out, err = run_main(capsys, *asked, "--json")
        assert code == 0, err
        for row, alpha in zip(json.loads(out)["calibration"], (0.75, 1), strict=True):
            assert (row["alpha"], row["models"], row["targets"]) == (alpha, 5, linear.N)
            assert row["bias"] == pytest.approx(0, abs=0.2) and row["slope"] == pytest.approx(1, abs=0.02)
        code, out, _ = run_main(capsys, *asked)
        assert code == 0 and "alpha 0.75" in out and "alpha 1 " in out
        for wrong, fault in (
            (["--alpha", "1.5"], "--alpha 1.5: must be above 0"),
            (["--models", "1"], "--models 1: must be 2 to"),
        ):
            code, out, err = run_main(capsys, *asked, *wrong)
            assert (code, out) == (2, "") and fault in err and err.count("\n") == 1


def test_outputs_that_never_vary_are_named_as_the_reason(capsys, tmp_path):
    store, run = linear.make_store(tmp_path, chunk=20, sub_chunk=10, evaluate={"subsets": 4, "models": 2})
    committed.commit(store, run, outputs=lambda run, models: np.full((len(models), run.n), 0.5, np.float16))
    with Server(ServeSettings(), [service(WeightStore(store))]) as server:
        code, out, err = run_main(capsys, "evaluate", run.name, "--address", server.address)
        assert code == 0, err
        assert f"mean nothing: the outputs of all {run.n} targets are the same for each model of the unseen" in out
        assert "R²       is not defined for single models, since their outputs are the same" in out
        _, out, _ = run_main(capsys, "evaluate", run.name, "--address", server.address, "--json")
    found = json.loads(out)
    assert found["lds"]["constant"] == run.n and found["r2_of_means"]["r2"] is None


def test_a_run_that_is_not_there_is_told_in_one_line(capsys, served):
    code, out, err = run_main(capsys, "evaluate", "nope", *served[0])
    assert (code, out) == (2, "") and err.startswith("datamodels: no such run: 'nope'") and err.count("\n") == 1
