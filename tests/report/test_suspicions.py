import dataclasses

import numpy as np
import pytest

from datamodels.analyze import findings
from datamodels.analyze.patterns import leakage
from datamodels.analyze.what_if import mislabel, relabel
from datamodels.report import suspicions
from tests.report import made


def test_a_copy_of_a_test_example_is_the_first_pair(tmp_path):
    data = made.dataset(image_shape=None)
    x = data.x.copy()
    x[9] = data.x_test[3]
    found = made.findings(tmp_path, data=dataclasses.replace(data, x=x, texts=["t"] * 30, texts_test=["u"] * 5))
    leaks = suspicions.leaks(found)
    first = leaks["pairs"][0]
    assert leaks["by"] == leakage.BY_INPUTS and (first["id"], first["score"]) == (3, 0.0)
    assert first["same"] == "equal as compared, other texts"
    assert first["example"]["name"] == "#9" and first["target"]["text"] == "u"
    assert len(leaks["pairs"]) == findings.SUSPECTED


def test_without_inputs_by_weights(tmp_path):
    found = made.findings(tmp_path, data=None)
    assert suspicions.leaks(found)["by"] == leakage.BY_WEIGHTS


@pytest.mark.parametrize("targets, by", [("test", mislabel.HARM), ("both", mislabel.OWN)])
def test_suspects_are_those_of_the_analysis(tmp_path, targets, by):
    found = made.findings(tmp_path, targets=targets)
    suspects = suspicions.suspects(found)
    expected = mislabel.suspects(found.run, found.fitted.solution, findings.SUSPECTED)
    assert suspects["by"] == by
    assert [one["example"]["name"] for one in suspects["suspects"]] == [f"#{i}" for i in expected.example]
    np.testing.assert_allclose([one["score"] for one in suspects["suspects"]], expected.score, rtol=1e-3)
    labels = relabel.suggested(found.run, found.fitted.solution, expected)
    assert [one["suggested"] for one in suspects["suspects"]] == [
        None if label is None else made.NAMES[label] for label in labels
    ]


def test_what_there_is_none_of_is_left_out(tmp_path):
    assert suspicions.leaks(made.findings(tmp_path / "a", targets="train")) is None
    grouped = made.findings(tmp_path / "b", design={"kind": "grouped"})
    assert suspicions.leaks(grouped) is None and suspicions.suspects(grouped) is None
    prediction = made.findings(tmp_path / "c", trainer={"class": "a:B", "options": {"output": "prediction"}})
    assert suspicions.suspects(prediction) is None
    loss = made.findings(tmp_path / "e", trainer={"class": "a:B", "options": {"output": "loss"}})
    assert suspicions.suspects(loss)["suspects"]
    assert suspicions.leaks(made.findings(tmp_path / "d", fit=False)) is None
