import numpy as np
import pytest
from sklearn.naive_bayes import MultinomialNB

from datamodels.errors import SpecError
from datamodels.train import Dataset
from datamodels.train.workloads import text


@pytest.fixture(scope="module")
def data():
    return text.load()


def build(data, **options):
    return text.NaiveBayes(data, data.targets("test"), **options)


def test_texts_are_counts_of_words_and_the_same_each_time(data):
    assert data.x.shape[0] == data.y.shape[0] == 600 and data.x_test.shape == (200, data.x.shape[1])
    assert (data.x == np.round(data.x)).all() and data.x.min() == 0
    assert set(data.y) == set(range(len(data.label_names)))
    again = text.load()
    np.testing.assert_array_equal(data.x, again.x)
    np.testing.assert_array_equal(data.y_test, again.y_test)


def test_most_texts_are_put_where_they_belong(data):
    made = build(data)
    margins = made.outputs_many(made.train_many([np.arange(600), np.arange(0, 600, 2)], [0, 1]))
    assert (margins > 0).mean(axis=1).min() > 0.7


def test_words_are_weighted_as_by_scikit_learn(data):
    made, subset = build(data, smoothing=0.5), np.arange(0, 600, 3)
    priors, words = made.train_many([np.arange(600), subset], [0, 0])
    other = MultinomialNB(alpha=0.5).fit(data.x[subset], data.y[subset])
    np.testing.assert_allclose(words[1][other.classes_], other.feature_log_prob_, rtol=1e-4)
    np.testing.assert_allclose(np.exp(priors).sum(axis=1), 1, rtol=1e-5)


def test_outputs_are_the_same_for_many_targets_as_for_few(data):
    many = Dataset(x=data.x, y=data.y, x_test=np.tile(data.x_test, (3, 1)), y_test=np.tile(data.y_test, 3))
    models = build(data).train_many([np.arange(100)], [0])
    found = build(many).outputs_many(models).reshape(3, 200)
    np.testing.assert_allclose(found, np.broadcast_to(build(data).outputs_many(models), found.shape), rtol=1e-4)


@pytest.mark.parametrize("subset", [np.array([], dtype=np.int32), np.array([3])], ids=["no text", "one text"])
def test_classes_without_texts_have_only_their_smoothing(data, subset):
    made = build(data)
    assert np.isfinite(made.outputs_many(made.train_many([subset], [0]))).all()


@pytest.mark.parametrize(
    ("options", "fault"), [({"smoothing": 0.0}, "smoothing"), ({"output": "squared_error"}, "output")]
)
def test_faulty_options_are_refused(data, options, fault):
    with pytest.raises(SpecError, match=rf"trainer.options.{fault} = "):
        build(data, **options)
