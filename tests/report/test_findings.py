import numpy as np
import pytest

from datamodels import keys
from datamodels.analyze.quality import Unseen
from datamodels.errors import ConflictError
from datamodels.report.findings import gather
from tests.report import made


def test_a_fit_is_evaluated_once_all_models_are_there(tmp_path):
    half = made.findings(tmp_path / "half", stop=209)  # three of the unseen subsets, and a model of the fourth
    assert half.partial and half.evaluation.subsets == 3
    assert not half.fitted.store.exists(keys.evaluation(half.run.name, 0))
    whole = made.findings(tmp_path / "whole")
    assert not whole.partial and whole.fitted.store.exists(keys.evaluation(whole.run.name, 0))
    again = gather(whole.fitted.store, whole.run, whole.examples.dataset)
    assert again.evaluation.lds == whole.evaluation.lds and not len(again.evaluation.deviations)
    assert again.evaluation.document() == whole.evaluation.document()


def test_it_is_what_the_unseen_subsets_say(tmp_path):
    found = made.findings(tmp_path)
    from datamodels.aggregate import manifest

    store = found.fitted.store
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
        gather(found.fitted.store, found.run, other)


@pytest.mark.parametrize(
    "options, output, margins", [({}, "margin", True), ({"output": "squared_error"}, "squared error", False)]
)
def test_what_outputs_are_called(tmp_path, options, output, margins):
    found = made.findings(tmp_path, trainer={"class": "a:B", "options": options})
    assert (found.output, found.margins) == (output, margins)
