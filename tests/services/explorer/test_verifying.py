import dataclasses
import shlex
import sys

import numpy as np
import pytest
from datamodels.services.explorer.verifying import arguments

from datamodels.query.weights import WeightStore
from datamodels.settings import ExplorerSettings
from datamodels.testing import linear
from tests.helpers.waiting import eventually
from tests.services.explorer.conftest import TOKEN, Served, serving


def command(folder, store):
    home = ("--home", str(folder), "--store", store.url)
    return shlex.join([sys.executable, "-m", "datamodels", "counterfactual", *home])


def post(served, path, body):
    return served.ask(f"/api/v1/runs/{served.run.name}/verifications{path}", body)


def ended(served, job):
    """Wait until a job has ended, and return it."""
    return eventually(lambda: (found := served.get(f"/verifications/{job}"))["status"] != "running" and found)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An explorer that may train: its run has a trainer whose outputs are linear."""
    folder = tmp_path_factory.mktemp("linear")
    store, run = linear.make_store(folder / "store")
    with serving(store, ExplorerSettings(token=TOKEN, verify=command(folder, store))) as port:
        yield Served(port, store, run)


def test_models_are_trained_with_and_without_a_change(trained):
    asked = {"target": 0, "remove": [3, 4], "add": [1], "models": 4}
    started = post(trained, "", asked)
    assert started.status == 202 and started.json()["status"] == "running", started.body
    job = started.json()["id"]
    assert post(trained, "", asked).json()["id"] == job, "the same question is asked once"
    assert post(trained, "", asked | {"models": 5}).status in (202, 429)
    found = ended(trained, job)
    assert found["status"] == "done", found["fault"]
    assert found["before"]["models"] == found["after"]["models"] == 4
    theta = WeightStore(trained.store).fitted(trained.run.name).theta.toarray()[0]
    change = found["after"]["mean"] - found["before"]["mean"]
    assert change == pytest.approx(theta[1] - theta[3] - theta[4], abs=1e-3)


def test_without_consent_nothing_is_trained_and_the_command_is_shown(served):
    asked = {"target": 2, "remove": [5, 6, 7, 9]}
    refused = post(served, "", asked)
    assert refused.status == 403 and "datamodels counterfactual" in refused.json()["detail"]
    shown = post(served, "/command", asked).json()
    assert shown == {
        "command": f"datamodels counterfactual {served.run.name} 2 --remove=5-7,9 --verify=5",
        "allowed": False,
    }
    assert served.get("/verifications/0123456789abcdef", status=404)["code"] == "NOT_FOUND"


def test_code_of_a_run_that_nobody_trusts_is_not_run(served, tmp_path):
    settings = ExplorerSettings(token=TOKEN, verify=command(tmp_path, served.store))
    with serving(served.store, settings) as port:
        other = dataclasses.replace(served, port=port)
        found = ended(other, post(other, "", {"target": 0, "remove": [1]}).json()["id"])
    assert found["status"] == "failed" and "--trust a" in found["fault"] and found["before"] is None


def test_a_question_becomes_the_options_of_the_command(served):
    from datamodels.explore import models

    def options(**fields):
        return arguments(served.run, models.VerificationRequest(target=0, **fields))[2:]

    columns = np.flatnonzero(served.run.design.inclusion > 0).tolist()
    assert columns == list(range(30))
    assert options(add=[3], left_out=[0], models=2) == ["--add=3", "--base=1-2,4-29", "--verify=2"]
    assert options(relabel=[8, 7], label=1) == ["--relabel=7-8", "--label=1", "--verify=5"]
    found = post(served, "/command", {"target": 0, "relabel": [1]})
    assert found.status == 400 and "label" in found.json()["detail"]
