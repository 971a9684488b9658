import json

import numpy as np
import pytest

from datamodels.aggregate import manifest
from datamodels.analyze.quality import noise
from datamodels.analyze.quality.interval import Z
from datamodels.analyze.what_if import counterfactual, pool, support
from datamodels.report import explorer
from datamodels.storage.local import LocalStore
from tests.report import made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def found(folder):
    return made.findings(folder, targets="both")


def test_supports_are_those_of_the_analysis(found):
    statuses = set()
    for one in explorer.data(found, {})["targets"]:
        expected = support.support(found.run, found.fitted.solution, one["id"])
        statuses.add(one["support"]["status"])
        assert one["support"]["status"] == expected.status
        if expected.status == support.FOUND:
            assert one["support"]["size"] == len(expected.columns)
    assert statuses == {support.FOUND, support.NONE, support.WRONG}


def test_the_slider_predicts_what_the_counterfactual_does(found, folder):
    target, store = 0, LocalStore(folder)
    measured = noise.measure(found.run, manifest.read_newest(store, found.run.name), store, found.fitted.solution)
    one = explorer.data(found, {})["targets"][target]["removal"]
    columns, _ = support.removal(found.run, found.fitted.solution, target, support.default_limit(found.run))
    assert one["k"][0] == 0 and one["k"][-1] == len(columns)
    start = counterfactual.before_interval(found.run, found.fitted.solution, measured, target)
    assert one["start"] == pytest.approx(start, rel=1e-3) and one["start"][0] < one["mean"][0] < one["start"][1]
    for k, mean, error in list(zip(one["k"], one["mean"], one["error"], strict=True))[1:]:
        expected = counterfactual.counterfactual(
            found.run,
            found.fitted.solution,
            measured,
            found.fitted.record.rows,
            targets=np.array([target]),
            base=pool.whole(found.run),
            remove=columns[:k],
            add=pool.NO_COLUMNS,
        )
        assert mean == pytest.approx(expected.after[0], rel=1e-3, abs=1e-5)
        assert error == pytest.approx(Z * expected.change_error[0], rel=1e-3)


def test_weights_and_looks_of_what_they_name(found):
    shown = explorer.data(found, {})
    for one in shown["targets"]:
        columns, weights = found.fitted.solution.row(one["id"])
        of = dict(zip(columns.tolist(), weights.tolist(), strict=True))
        for column, weight in (*one["helpful"], *one["harmful"]):
            assert weight == pytest.approx(of[column], rel=1e-3)
            looks = shown["columns"][str(column)]
            assert looks["label"] == made.NAMES[found.run.labels[column]] and looks["picture"]
        assert one["helpful"] == sorted(one["helpful"], key=lambda pair: -pair[1])
    assert shown["targets"][1]["helpful"] == [] and shown["targets"][1]["similar"] == []


def test_what_models_said_of_a_target(found):
    one = explorer.data(found, {})["targets"][2]
    outputs = found.fitted.predictions.outputs[:, :, 2]
    assert one["means"] == pytest.approx(outputs.mean(axis=1), rel=1e-3)
    assert one["wrong"][0] == pytest.approx((outputs < 0).mean(), rel=1e-3)
    assert one["wrong"][1] <= one["wrong"][0] <= one["wrong"][2]
    assert one["score"][0] == pytest.approx(found.evaluation.per_target[2], rel=1e-3)
    assert one["mean"][1] <= one["mean"][0] <= one["mean"][2]


def test_a_target_that_is_a_training_example_is_shown_on_subsets_without_it(found):
    own = next(one for one in explorer.data(found, {})["targets"] if one["own"] == 7)
    assert len(own.get("predicted", [])) == found.fitted.predictions.counts[:, own["id"]].sum() < 6
    assert own["label"] == made.NAMES[7 % 4]


def test_what_does_not_fit_is_a_random_sample(found):
    whole = explorer.data(found, {})
    size = len(json.dumps(whole))
    part = explorer.data(found, {}, budget=size // 3)
    assert 0 < len(part["targets"]) < len(whole["targets"]) == part["of"] == found.run.n
    assert len(json.dumps(part)) < size / 2
    known = {one["id"] for one in part["targets"]} | {int(other) for other in part["others"]}
    assert {other for one in part["targets"] for other, _ in one["similar"]} <= known
    assert len(explorer.data(found, {}, budget=0)["targets"]) == 1


def test_a_loss_has_no_support_and_is_helped_by_what_lowers_it(tmp_path):
    found = made.findings(tmp_path, trainer={"class": "a:B", "options": {"output": "loss"}})
    shown = explorer.data(found, {})
    loss = {"name": "loss", "title": "loss (nats)", "threshold": None, "sign": -1, "directed": True}
    loss |= {"lowest": 0.0, "highest": None}
    assert shown["output"] == shown["predicted"] == loss
    assert all("support" not in one and "wrong" not in one for one in shown["targets"])
    assert found.fitted.predictions.predicted.min() < 0 and min(min(one["predicted"]) for one in shown["targets"]) == 0
    one = shown["targets"][0]
    assert one["removal"]["k"][-1] > 0 and one["removal"]["mean"][-1] > one["removal"]["mean"][0]
    assert all(weight < 0 for _, weight in one["helpful"]) and all(weight > 0 for _, weight in one["harmful"])


def test_a_fit_of_shares_predicts_another_thing_than_models_say(tmp_path):
    shown = explorer.data(made.findings(tmp_path, fit_settings={"estimator": "influence"}), {})
    assert shown["output"]["name"] == "margin" and shown["predicted"]["name"] == "fraction of models that are right"
    assert shown["predicted"]["threshold"] == 0.5


def test_what_lime_says_of_a_target_is_never_left_out(found):
    (one,) = explorer.data(found, made.explained(found, 3), budget=0)["targets"]
    assert one["id"] == 3 and one["lime"]["r2"] == 0.75 and one["lime"]["models"] == 2
    assert one["lime"]["parts"][0] == ["row 2, column 2", 2.0, 1.75, 2.25]
    assert one["lime"]["squares"][0] == [0.5, 0.5, 0.5, 0.5] and len(one["lime"]["squares"]) == 4


def test_a_table_has_parts_by_weight_and_no_squares(tmp_path):
    found = made.findings(tmp_path, data=made.dataset(image_shape=None))
    one = next(one for one in explorer.data(found, made.explained(found, 2))["targets"] if "lime" in one)
    assert one["id"] == 2 and [name for name, *_ in one["lime"]["parts"]] == ["x3", "x0", "x2", "x1"]
    assert "squares" not in one["lime"]
