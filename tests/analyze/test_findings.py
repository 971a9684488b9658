import dataclasses

import numpy as np
import pytest

from datamodels.aggregate import manifest
from datamodels.analyze.findings import gather
from datamodels.analyze.quality.unseen import Unseen
from datamodels.display import stored
from datamodels.display.looks import Loaded
from datamodels.errors import ConflictError
from datamodels.fit.data import problem
from datamodels.fit.job import fits
from datamodels.storage import keys
from datamodels.storage.local import LocalStore
from datamodels.testing import committed
from tests.report import made


def test_a_fit_is_evaluated_once_all_models_are_there(tmp_path):
    half = made.findings(tmp_path / "half", stop=209)  # three of the unseen subsets, and a model of the fourth
    assert half.partial and half.evaluation.subsets == 3
    assert not LocalStore(tmp_path / "half").exists(keys.evaluation(half.run.name, 0))
    whole = made.findings(tmp_path / "whole")
    store = LocalStore(tmp_path / "whole")
    assert not whole.partial and store.exists(keys.evaluation(whole.run.name, 0))
    again = gather(store, whole.run, whole.dataset)
    assert again.evaluation.lds == whole.evaluation.lds and not len(again.evaluation.deviations)
    assert again.evaluation.document() == whole.evaluation.document()


def test_it_is_what_the_unseen_subsets_say(tmp_path):
    found = made.findings(tmp_path)
    store = LocalStore(tmp_path)
    unseen = Unseen.read(found.run, manifest.read_newest(store, found.run.name), store)
    expected = unseen.predicted_by(found.fitted.solution).evaluate()
    np.testing.assert_allclose(expected.per_target, found.evaluation.per_target)


def test_no_fit_and_no_unseen_subsets(tmp_path):
    none = made.findings(tmp_path / "a", fit=False)
    assert none.fitted is None and none.evaluation is None and none.committed == 218


def test_another_data_set_is_refused(tmp_path):
    found = made.findings(tmp_path)
    other = made.dataset(groups=None)
    object.__setattr__(other, "y", other.y[::-1])
    with pytest.raises(ConflictError, match="its data set now has other examples"):
        gather(LocalStore(tmp_path), found.run, other)


def test_names_of_classes_come_from_the_data_set_if_the_run_has_none(tmp_path):
    found = made.findings(tmp_path)
    record = dataclasses.replace(found.run, label_names=())
    assert gather(LocalStore(tmp_path), record, found.dataset).run.label_names == made.NAMES
    assert gather(LocalStore(tmp_path), found.run, None).run.label_names == made.NAMES


def test_the_numbers_of_rows_are_summarised(tmp_path):
    data = made.dataset(image_shape=None, feature_names=("width", "height"))
    found = made.findings(tmp_path, data=data).features
    assert found.names == ["width", "height", "x2", "x3"]
    assert found.mean == pytest.approx(data.x.mean(axis=0), rel=1e-3)
    assert found.deviation == pytest.approx(data.x.std(axis=0), rel=1e-3)
    assert Loaded(committed.make_run(), made.dataset()).features is None, "pictures are shown instead"


def test_examples_are_shown_as_the_store_has_them_without_the_data_set(tmp_path):
    found = made.findings(tmp_path)
    store = LocalStore(tmp_path)
    assert gather(store, found.run, None).looks is None
    stored.write(store, found.run, found.dataset)
    later = gather(store, found.run, None)
    assert later.looks.pool(3).picture == found.looks.pool(3).picture
    assert later.looks.pool(3).picture is not None
    assert later.looks.target(2).name == found.looks.target(2).name == made.NAMES[found.run.target_labels[2]]


def test_what_a_card_counts(tmp_path):
    store, found = LocalStore(tmp_path), made.findings(tmp_path)
    weights = np.diff(found.fitted.solution.indptr)
    assert found.fitted.unusual == 0 and found.fitted.weights == np.median(weights)
    theta = made.weights(found.run)
    solution = problem.of_dense(
        theta,
        status=["not_converged"] * 2 + ["ok"] * 3,
        **dict.fromkeys(("lambda_", "gap", "heldout_r2", "intercept"), np.zeros(5)),
    )
    fits.write(store, found.run.name, "d1", 0, solution)
    record = dataclasses.replace(found.fitted.record, digest="d1", number=1, blocks=())
    fits.commit(store, record, [(0, 5)])
    assert gather(store, found.run, found.dataset).fitted.unusual == 2
