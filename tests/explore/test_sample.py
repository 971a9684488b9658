"""What the file of a report holds."""

import json

import numpy as np
import pytest

from datamodels.aggregate import manifest
from datamodels.analyze import findings as gathered
from datamodels.analyze.patterns.clusters import clusters
from datamodels.analyze.patterns.components import components
from datamodels.analyze.quality import noise
from datamodels.analyze.quality.interval import Z
from datamodels.analyze.what_if import counterfactual, pool, support
from datamodels.explore import sample
from datamodels.storage.local import LocalStore
from tests.report import made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def found(folder):
    return made.findings(folder, targets="both")


@pytest.fixture(scope="module")
def shown(found):
    return sample.make(found)


def test_supports_are_those_of_the_analysis(found, shown):
    statuses = set()
    for target, one in shown["targets"].items():
        expected = support.support(found.run, found.fitted.solution, int(target))
        removal = one["findings"]["removal"]
        statuses.add(removal["support"])
        assert removal["support"] == expected.status
        if expected.status == support.FOUND:
            assert removal["size"] == len(expected.columns)
    assert statuses == {support.FOUND, support.NONE, support.WRONG}


def test_the_slider_predicts_what_the_counterfactual_does(found, shown, folder):
    target, store = 0, LocalStore(folder)
    measured = noise.measure(found.run, manifest.read_newest(store, found.run.name), store, found.fitted.solution)
    one = shown["targets"][str(target)]["findings"]["removal"]
    columns, _ = support.removal(found.run, found.fitted.solution, target, support.default_limit(found.run))
    assert one["removed"][0] == 0 and one["removed"][-1] == len(columns)
    start = counterfactual.before_interval(found.run, found.fitted.solution, measured, target)
    assert one["start"] == pytest.approx(start, rel=1e-3) and one["start"][0] < one["mean"][0] < one["start"][1]
    for k, mean, error in list(zip(one["removed"], one["mean"], one["error"], strict=True))[1:]:
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


def test_weights_and_looks_of_what_they_name(found, shown):
    for target, one in shown["targets"].items():
        columns, weights = found.fitted.solution.row(int(target))
        of = dict(zip(columns.tolist(), weights.tolist(), strict=True))
        for column, weight, measured, low, high in (*one["helpful"], *one["harmful"]):
            assert weight == pytest.approx(of[column], rel=1e-3) and (low is None or low < weight < high)
            assert measured == pytest.approx(weight / 4, rel=1e-3)
            look = shown["looks"]["examples"][column]
            assert look["label_name"] == made.NAMES[found.run.labels[column]]
            assert look["picture"].startswith("data:image/png;base64,iVBOR")
        assert one["helpful"] == sorted(one["helpful"], key=lambda pair: -pair[1])
    assert shown["targets"]["1"]["helpful"] == [] and shown["targets"]["1"]["similar"] == []


def test_the_tables_have_what_can_be_opened(found, shown):
    rows = {kind: [row[0] for row in table["rows"]] for kind, table in shown["tables"].items()}
    assert rows["targets"] == list(range(found.run.n)) == sorted(map(int, shown["targets"]))
    named = {pair[0] for one in shown["targets"].values() for pair in (*one["helpful"], *one["harmful"])}
    assert named <= set(rows["columns"]) == set(shown["looks"]["examples"])
    fields = list(shown["tables"]["targets"]["fields"])
    assert all(len(row) == len(fields) for row in shown["tables"]["targets"]["rows"])


def test_what_does_not_fit_is_a_random_sample(found, shown):
    size = len(json.dumps(shown["targets"])) + len(json.dumps(shown["looks"]))
    part = sample.make(found, budget=size // 3)
    assert 0 < len(part["targets"]) < len(shown["targets"]) == found.run.n
    assert {other for one in part["targets"].values() for other, _ in one["similar"]} <= set(part["looks"]["targets"])
    assert part["findings"]["first"] in map(int, part["targets"])
    assert len(sample.make(found, budget=0)["targets"]) == 1


def test_a_loss_has_no_support_and_is_helped_by_what_lowers_it(tmp_path):
    found = made.findings(tmp_path, trainer={"class": "a:B", "options": {"output": "loss"}})
    shown = sample.make(found)
    its = {"name": "loss", "unit": "nats", "threshold": None, "higher_is_better": False, "lowest": 0.0, "highest": None}
    its["effects"] = ["helpful", "harmful"]
    assert shown["run"]["output"] == shown["run"]["fit_list"][0]["predicted"] == its
    said = [one["findings"] for one in shown["targets"].values()]
    assert all(one["removal"]["support"] is None and one["unseen"]["wrong"] is None for one in said)
    assert found.fitted.predictions.predicted.min() < 0 and min(min(one["unseen"]["predicted"]) for one in said) == 0
    one = shown["targets"]["0"]
    removal = one["findings"]["removal"]
    assert removal["removed"][-1] > 0 and removal["mean"][-1] > removal["mean"][0]
    assert all(pair[1] < 0 for pair in one["helpful"]) and all(pair[1] > 0 for pair in one["harmful"])


def test_a_fit_of_shares_predicts_another_thing_than_models_say(tmp_path):
    shown = sample.make(made.findings(tmp_path, fit_settings={"estimator": "influence"}))
    predicted = shown["run"]["fit_list"][0]["predicted"]
    assert shown["run"]["output"]["name"] == "margin" and predicted["name"] == "fraction of models that are right"
    assert predicted["threshold"] == 0.5


def test_what_lime_says_of_a_target_is_never_left_out(found):
    shown = sample.make(found, explained=made.explained(found, 3), budget=0)
    ((target, one),) = shown["targets"].items()
    said = one["findings"]["lime"]
    assert target == "3" and said["r2"] == 0.75 and said["models"] == 2 and shown["findings"]["explained"] == [3]
    assert said["parts"][0] == ["row 2, column 2", 2.0, 1.75, 2.25]
    assert said["squares"][0] == [0.5, 0.5, 0.5, 0.5] and len(said["squares"]) == 4


def test_a_table_has_parts_by_weight_and_no_squares(tmp_path):
    found = made.findings(tmp_path, data=made.dataset(image_shape=None))
    shown = sample.make(found, explained=made.explained(found, 2))
    (said,) = filter(None, (one["findings"]["lime"] for one in shown["targets"].values()))
    assert [name for name, *_ in said["parts"]] == ["x3", "x0", "x2", "x1"] and said["squares"] is None
    assert shown["looks"]["targets"][2]["row"] == pytest.approx(found.dataset.x_test[2], rel=1e-3)


def test_long_texts_are_cut_and_spans_are_not(tmp_path):
    data = made.dataset(image_shape=None, texts=["long " * 200] * 30, texts_test=["b"] * 5)
    shown = sample.make(made.findings(tmp_path / "a", data=data))
    text = next(iter(shown["looks"]["examples"].values()))["text"]
    assert len(text) <= sample.TEXT + 2 and text.endswith("long …")
    texts, spans = [f"the {'word ' * 100}<b>{i}</b> of it" for i in range(5)], [(504, 512)] * 5
    spanned = made.dataset(image_shape=None, texts_test=texts, spans_test=spans)
    look = sample.make(made.findings(tmp_path / "b", data=spanned))["looks"]["targets"][3]
    first, last = look["span"]
    assert look["text"][first:last] == "<b>3</b>"


def test_a_group_has_a_size_and_no_looks(tmp_path):
    shown = sample.make(made.findings(tmp_path, design={"kind": "grouped"}))
    assert all(look["members"] > 0 and "picture" not in look for look in shown["looks"]["examples"].values())


def test_the_groups_are_those_of_the_analyses(found, shown):
    theta, seed = found.fitted.solution.theta, found.run.spec.seed
    grouped = clusters(theta, seed=seed)
    axes = components(theta, k=gathered.AXES, extremes=gathered.ENDS, seed=seed)
    results = {name: one["result"] for name, one in shown["analyses"].items()}
    assert results["clusters"]["cluster"] == grouped.cluster.tolist()
    assert results["clusters"]["labels"] == found.run.target_labels.tolist()
    np.testing.assert_allclose([results["map"]["x"], results["map"]["y"]], axes.scores.T, rtol=1e-3)
    assert results["components"]["high"] == axes.high.tolist()
    assert set(axes.high.ravel().tolist()) <= set(shown["looks"]["targets"])
    assert len(shown["values"]["label_name"]) == found.run.n


def test_without_a_fit_it_says_how_far_the_run_is(tmp_path):
    shown = sample.make(made.findings(tmp_path, fit=False, stop=100))
    assert shown["targets"] == {} and shown["run"]["fit_list"] == [] and shown["progress"]["committed"] == 100


def test_json_has_no_nan():
    assert sample._rounded([1.23456, np.nan, -np.inf, 12345.6, None]) == [1.235, None, None, 12350.0, None]
