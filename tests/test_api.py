"""What `import datamodels` offers."""

import ast
import inspect
import json
import subprocess
import sys

import numpy as np
import pytest

import datamodels
from datamodels.errors import (
    InputError,
    MaskError,
    NotFoundError,
    NotReadyError,
    RunNotFoundError,
    SettingsError,
    SpecError,
)
from datamodels.fit.data import problem
from datamodels.fit.data.shards import materialise
from datamodels.run import designs, runs
from datamodels.storage.local import LocalStore
from datamodels.testing import committed, fitted, reference
from tests.helpers.waiting import LIMIT


def test_every_name_can_be_had_and_is_known_to_type_checkers():
    assert datamodels.__all__ == sorted(datamodels.__all__)
    for name in datamodels.__all__:
        assert getattr(datamodels, name) is not None
    tree = ast.parse(inspect.getsource(datamodels))
    imported = {a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names}
    assert set(datamodels.__all__) <= imported
    assert dir(datamodels) == sorted([*datamodels.__all__, "__version__"])
    assert dir(datamodels.testing) == sorted(datamodels.testing.__all__)


def test_the_import_takes_nothing_along_and_modules_for_tests_come_when_they_are_used():
    script = "import sys; import datamodels; import json; print(json.dumps(sorted(sys.modules)))"
    script += "; assert datamodels.testing.fitted.make_run and datamodels.testing.__all__ and datamodels.testing.stores"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT, check=True)
    ours = {name for name in json.loads(done.stdout) if name.startswith("datamodels")}
    assert ours == {"datamodels", "datamodels.errors", "datamodels.extras", "datamodels.screen"}
    assert "numpy" not in json.loads(done.stdout)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'weights_of'"):
        _ = datamodels.weights_of
    assert datamodels.__version__[0].isdigit()


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """(store, run, theta) of a run with outputs of all models but two, and two fits."""
    store, run = LocalStore(tmp_path_factory.mktemp("store")), committed.make_run()
    runs.create(store, run)
    committed.commit(store, run, failed=(3, 17))
    theta = committed.truth(run).T.astype(np.float32)
    fitted.commit_fit(store, run, theta * 2, digest="d0")
    fitted.commit_fit(store, run, theta, digest="d1")
    return store, run, theta


def test_the_arrays_of_a_run_are_those_that_a_fit_reads(stored, tmp_path):
    store, run, _ = stored
    opened = datamodels.open_run(store, run.name)
    assert opened.name == run.name and datamodels.list_runs(store) == [run.name]
    assert opened.model_index.tolist() == [model for model in range(run.spec.m) if model not in (3, 17)]
    shards = materialise(store, run, opened.snapshot, tmp_path)
    order = np.argsort(shards.model_index)
    np.testing.assert_array_equal(opened.model_index, shards.model_index[order])
    np.testing.assert_array_equal(opened.outputs, shards.outputs[order].astype(np.float32))
    np.testing.assert_array_equal(opened.masks, designs.unpack(shards.masks[order], run.design.columns))
    assert (opened.masks.dtype, opened.outputs.dtype) == (bool, np.float32)
    assert opened.masks.shape == (198, committed.D) and opened.outputs.shape == (198, committed.N)


def test_the_weights_of_a_run_are_those_of_its_newest_fit_or_of_any(stored):
    store, run, theta = stored
    opened = datamodels.open_run(store, run.name)
    np.testing.assert_array_equal(opened.weights().theta.toarray(), theta)
    np.testing.assert_array_equal(opened.weights(0).theta.toarray(), theta * 2)
    for number in (2, -1):
        with pytest.raises(NotFoundError, match=f"^run {run.name}: no fit {number}; its fits are 0 to 1$"):
            opened.weights(number)
    assert opened.unseen.predicted_by(opened.weights()).evaluate().lds > 0.9


def test_what_a_run_does_not_have_yet(stored, tmp_path):
    store, run = datamodels.open_store(tmp_path / "new", create=True), stored[1]
    with pytest.raises(RunNotFoundError, match=run.name):
        datamodels.open_run(store, run.name)
    runs.create(store, run)
    opened = datamodels.open_run(store, run.name)
    for ask in (lambda: opened.masks, lambda: opened.outputs, opened.weights):
        with pytest.raises(NotReadyError, match=run.name):
            ask()


def test_stores_are_opened_by_folder_url_or_environment(tmp_path, monkeypatch):
    assert datamodels.open_store(tmp_path).url == datamodels.open_store(f"file://{tmp_path}").url
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    assert datamodels.open_store("here").url == f"file://{tmp_path}/here"
    monkeypatch.setenv("DATAMODELS_STORE_URL", f"file://{tmp_path}/there")
    assert datamodels.open_store().url == f"file://{tmp_path}/there"
    with pytest.raises(SettingsError, match="must be file://FOLDER or s3://BUCKET/PREFIX"):
        datamodels.open_store("ftp://there")
    with pytest.raises(NotFoundError, match=f"{tmp_path}/typo: no such folder"):
        datamodels.open_store("typo")
    assert not (tmp_path / "typo").exists()


def made(m=600, d=40, n=3):
    """(masks bool[m, d], outputs float64[m, n], theta float64[n, d]) with subsets of different sizes."""
    rng = np.random.default_rng(0)
    masks = rng.random((m, d)) < 0.5
    theta = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.2)
    return masks, masks @ theta.T + 2 + 0.05 * rng.normal(size=(m, n)), theta


@pytest.mark.parametrize("estimator", ["lasso", "ridge"])
def test_weights_of_own_arrays_come_near_to_the_truth(estimator):
    masks, outputs, theta = made()
    found = datamodels.fit_arrays(masks, outputs, estimator=estimator)
    assert found.status == ["ok"] * 3 and (found.gap <= 1e-3).all()
    assert np.abs(found.theta.toarray() - theta).max() < 0.05
    np.testing.assert_allclose(found.predict(masks), outputs, atol=0.3)


@pytest.mark.parametrize("threshold", [0.0, 2.0])
def test_influence_of_own_arrays_is_about_the_share_above_the_threshold(threshold):
    masks, outputs, _ = made()
    above = outputs > threshold
    found = datamodels.fit_arrays(masks, outputs, estimator="influence", threshold=threshold)
    shares = [above[masks[:, j]].mean(axis=0) - above[~masks[:, j]].mean(axis=0) for j in range(masks.shape[1])]
    np.testing.assert_allclose(found.theta.toarray(), np.transpose(shares), atol=1e-5)
    np.testing.assert_allclose(found.predict(masks).mean(axis=0), above.mean(axis=0), atol=1e-3)


def test_weights_of_own_arrays_are_at_the_optimum():
    masks, outputs, _ = made(m=300)
    found = datamodels.fit_arrays(masks, outputs, tolerance=1e-6)
    for target, lambda_ in enumerate(found.lambda_):
        best, intercept, _ = reference.lasso(masks.astype(float), outputs[:, target], lambda_)
        np.testing.assert_allclose(found.theta.toarray()[target], best, atol=1e-3)
        assert found.intercept[target] == pytest.approx(intercept, abs=1e-3)


@pytest.mark.parametrize("mean", [1e9, -3e7])
def test_a_large_mean_of_own_arrays_costs_no_digits(mean):
    masks, outputs, theta = made()
    found = datamodels.fit_arrays(masks, outputs + mean)
    assert np.abs(found.theta.toarray() - theta).max() < 0.05
    np.testing.assert_allclose(found.predict(masks) - mean, outputs, atol=0.3)


def test_own_columns_get_no_weight():
    masks, outputs, theta = made()
    outputs += 5 * masks[:, [7]]  # what target 1 is itself
    found = datamodels.fit_arrays(masks, outputs, own=np.array([problem.NO_COLUMN, 7, problem.NO_COLUMN]))
    weights = found.theta.toarray()
    assert weights[1, 7] == 0 and weights[0, 7] == pytest.approx(theta[0, 7] + 5, abs=0.1)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            {"masks": np.zeros((5, 40), bool), "outputs": np.zeros((5, 3))},
            InputError,
            "holds out less than 2 of 5 rows",
        ),
        ({"outputs": np.zeros((10, 3))}, InputError, "masks have 600 rows and outputs 10: must be equal"),
        ({"masks": np.full((600, 40), 2)}, InputError, "type int64: must be bool, a row for each model"),
        (
            {"outputs": np.zeros(600)},
            InputError,
            r"outputs have shape \(600,\).*: must be numbers, a row for each model",
        ),
        ({"outputs": np.zeros((600, 0))}, InputError, r"outputs have shape \(600, 0\): must have at least one target"),
        (
            {"masks": np.zeros((600, 0), bool)},
            InputError,
            r"masks have shape \(600, 0\): must have at least one column",
        ),
        ({"outputs": [[1.0], [1.0, 2.0]]}, InputError, "outputs: cannot be made an array"),
        ({"own": np.array([1, 2])}, InputError, r"own has shape \(2,\) and type int64: .* each of 3 targets"),
        ({"own": np.array([0.5, 1, 2])}, InputError, "own has shape .* type float64: must be integers"),
        ({"own": np.array([0, 40, 2])}, InputError, "own has 40: must be columns 0 to 39, or -1 for none"),
        ({"seed": -1, "solver": "saga"}, InputError, "seed = -1: must be a whole number from 0"),
        ({"threads": -3}, InputError, "threads = -3: must be a whole number from 0"),
        ({"threads": 1.5}, InputError, "threads = 1.5: must be a whole number"),
        (
            {"estimator": "weighted"},
            SpecError,
            "fit.estimator = 'weighted': .*; take lasso, pooled, .* or infl",
        ),
        ({"tolerance": "small"}, SpecError, "fit.tolerance = 'small': must be"),
        ({"speed": 3}, SpecError, "fit.speed: unknown field; fields here are "),
        ({"device": "tpu"}, SettingsError, "device = 'tpu'"),
    ],
)
def test_own_arrays_that_cannot_be_fitted(change, kind, message):
    masks, outputs, _ = made()
    with pytest.raises(kind, match=message):
        datamodels.fit_arrays(**{"masks": masks, "outputs": outputs} | change)


def test_a_solution_predicts_for_masks_of_its_width_only():
    masks, outputs, _ = made()
    found = datamodels.fit_arrays(masks, outputs, estimator="difference")
    for wrong in (masks[:, :7], np.packbits(masks, axis=1), masks[0]):
        with pytest.raises(MaskError, match=r"must be \(subsets, 40\), bool"):
            found.predict(wrong)


def test_a_spec_is_loaded_from_a_file_or_by_name(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text('{name: mine, dataset: {load: "a:b"}, trainer: {class: "a:B"}, m: 100}')
    assert datamodels.load_spec(path).run.startswith("mine-")
    assert datamodels.load_spec("digits").name == "digits"
