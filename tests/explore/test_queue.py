import numpy as np
import pytest

from datamodels.display import stored
from datamodels.explore import queue
from datamodels.query.weights import WeightStore
from datamodels.testing import fitted
from tests.display.test_stored import D, N, make


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
