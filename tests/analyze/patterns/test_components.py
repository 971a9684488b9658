import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from datamodels.analyze.patterns.components import components
from datamodels.errors import InputError
from tests.analyze.patterns.test_clusters import planted


def weights(n=50, d=35, seed=0):
    rng = np.random.default_rng(seed)
    scale = 1 / (1 + np.arange(d))
    return sparse.csr_array((rng.normal(size=(n, d)) * scale + 1) * (rng.random((n, d)) < 0.6))


@pytest.mark.parametrize("transposed", [False, True])
def test_components_are_those_of_a_dense_pca(transposed):
    theta = weights()
    theta = theta.T if transposed else theta
    found, dense = components(theta, k=4, extremes=3), PCA(4).fit(theta.toarray())
    np.testing.assert_allclose(found.share, dense.explained_variance_ratio_, rtol=1e-8)
    loadings = dense.components_ * np.sign(
        np.take_along_axis(dense.components_, np.abs(dense.components_).argmax(axis=1)[:, None], axis=1)
    )
    scores = (theta.toarray() - dense.mean_) @ loadings.T
    np.testing.assert_allclose(found.scores, scores[:, :2], atol=1e-5)
    for c in range(4):
        order = np.argsort(-scores[:, c])
        assert found.high[c].tolist() == order[:3].tolist() and found.low[c].tolist() == order[::-1][:3].tolist()
        np.testing.assert_allclose(found.high_score[c], scores[order[:3], c], atol=1e-5)
        np.testing.assert_allclose(found.low_score[c], scores[order[::-1][:3], c], atol=1e-5)
        ranked = np.argsort(-loadings[c])
        assert found.high_feature[c].tolist() == ranked[:3].tolist()
        assert found.low_feature[c].tolist() == ranked[::-1][:3].tolist()


def test_a_planted_direction_comes_first_and_its_share_is_within_the_interval():
    rng = np.random.default_rng(3)
    direction, strength = rng.normal(size=40), rng.normal(size=300)
    theta = np.outer(strength, direction / np.linalg.norm(direction)) + 0.05 * rng.normal(size=(300, 40))
    found = components(sparse.csr_array(theta), k=2, extremes=1)
    # 1 of variance against 40 x .05^2
    assert found.interval[0, 0] < 1 / (1 + 40 * 0.05**2) < found.interval[0, 1]
    assert {int(found.high[0, 0]), int(found.low[0, 0])} == {int(strength.argmax()), int(strength.argmin())}


def test_extremes_of_a_component_tell_planted_groups_apart():
    theta, label = planted(blocks=2, each=40)
    lengths = np.sqrt(theta.multiply(theta).sum(axis=1))
    found = components(sparse.csr_array(theta.toarray() / lengths[:, None]), k=1, extremes=10)
    assert len(set(label[found.high[0]])) == len(set(label[found.low[0]])) == 1
    assert label[found.high[0, 0]] != label[found.low[0, 0]] and found.scores.shape == (80, 1)


def test_the_same_twice_and_progress_that_rises():
    theta, reports = weights(), []
    first, second = components(theta, progress=reports.append), components(theta)
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.interval, second.interval)
    assert reports == sorted(reports) and reports[-1] <= 1 and (first.interval[:, 0] <= first.share).all()


@pytest.mark.parametrize(
    "theta, asked, fault",
    [
        (weights(), {"k": 0}, "k = 0: must be 1 to 34"),
        (weights(), {"k": 35}, "k = 35: must be 1 to 34 for 50 vectors of 35 weights"),
        (weights(), {"extremes": 0}, "extremes = 0"),
        (sparse.csr_array((6, 5)), {"k": 2}, "all vectors are equal"),
        (sparse.csr_array(np.ones((6, 5))), {"k": 2}, "all vectors are equal"),
    ],
)
def test_bad_questions_are_refused(theta, asked, fault):
    with pytest.raises(InputError, match=fault):
        components(theta, **asked)
