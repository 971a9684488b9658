import dataclasses

import numpy as np
import pytest

from datamodels.analyze.what_if import mislabel, relabel
from datamodels.display import stored
from datamodels.explore import queue
from datamodels.query.weights import WeightStore
from datamodels.testing import fitted
from tests.display.test_stored import D, N, make
from tests.report import made as findings


@pytest.fixture
def made():
    """Two pairs of examples with the same text: one pair has two labels, the other has one."""
    texts = [f"Said {i}" for i in range(D)]
    store, run, data = make(texts=texts, texts_test=["asked"] * N)
    same = int(np.flatnonzero(run.labels[10:] == run.labels[2])[0]) + 10
    other = int(np.flatnonzero(run.labels[5:10] != run.labels[4])[0]) + 5
    texts[same], texts[other] = texts[2], texts[4]
    store, run, data = make(texts=texts, texts_test=["asked"] * N)
    stored.write(store, run, data)
    fitted.commit_fit(store, run, fitted.make_theta(run), intercept=np.zeros(run.n))
    return WeightStore(store).fitted(run.name), stored.open_looks(store, run), same, other


def duplicates(found):
    return [(one.index, one.other, one.score) for one in found.suspects if one.kind == "duplicate"]


def test_examples_with_the_same_content_are_suspects_those_of_two_labels_first(made):
    fit, looks, same, other = made
    assert duplicates(queue.of_fit(fit, looks, 9)) == [(4, other, queue.SAME_BUT_LABEL), (2, same, queue.SAME)]
    assert duplicates(queue.of_fit(fit, looks, 1)) == [(4, other, queue.SAME_BUT_LABEL)]


def test_without_looks_the_queue_says_why_it_has_no_duplicates(made):
    found = queue.of_fit(made[0], None, 9)
    assert duplicates(found) == [] and "no looks" in found.left_out["duplicate"]


def of_kind(found, kind):
    made = queue.of_findings(found, found.fitted, 12)
    return [one for one in made.suspects if one.kind == kind], made.ranked.get(kind, ""), made.left_out.get(kind)


def test_a_copy_of_a_test_example_is_the_first_pair_of_a_report(tmp_path):
    data = findings.dataset(image_shape=None)
    x = data.x.copy()
    x[9] = data.x_test[3]
    copied = dataclasses.replace(data, x=x, texts=["t"] * 30, texts_test=["u"] * 5)
    suspects, ranked, _ = of_kind(findings.findings(tmp_path, data=copied), "leak")
    assert len(suspects) == 12 and "Ranked by distance" in ranked
    assert (suspects[0].index, suspects[0].other, suspects[0].score) == (3, 9, 0.0)
    assert suspects[0].why.startswith("distance 0, equal as compared, other texts, weight ")


def test_without_inputs_leaks_are_found_by_weights(tmp_path):
    suspects, ranked, _ = of_kind(findings.findings(tmp_path, data=None), "leak")
    assert "of the weight that helps it" in suspects[0].why and "compares inputs" in ranked


@pytest.mark.parametrize("targets, by", [("test", "move targets of other labels"), ("both", "have not seen them")])
def test_labels_of_a_report_are_those_of_the_analysis(tmp_path, targets, by):
    found = findings.findings(tmp_path, targets=targets)
    suspects, ranked, _ = of_kind(found, "label")
    expected = mislabel.suspects(found.run, found.fitted.solution, 12)
    assert by in ranked and [one.index for one in suspects] == expected.example.tolist()
    assert [one.suggested for one in suspects] == relabel.suggested(found.run, found.fitted.solution, expected)


def test_a_report_says_what_there_is_none_of(tmp_path):
    train = findings.findings(tmp_path / "a", targets="train")
    assert of_kind(train, "leak")[2] == "the run has no targets that could be copies of examples"
    grouped = findings.findings(tmp_path / "b", design={"kind": "grouped"})
    assert of_kind(grouped, "leak")[2] and of_kind(grouped, "label")[2]
    loss = findings.findings(tmp_path / "c", trainer={"class": "a:B", "options": {"output": "loss"}})
    assert of_kind(loss, "label")[0] and "no threshold" in of_kind(loss, "fragile")[2]
