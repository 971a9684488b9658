import numpy as np
import pytest
from scipy import sparse

from datamodels.analyze.patterns import similar
from datamodels.errors import InputError, MaskError, TargetRangeError


@pytest.fixture
def dense():
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(12, 30)) * (rng.random((12, 30)) < 0.4)
    theta[5] = 0
    return theta.astype(np.float32)


def test_rbf_is_that_of_the_distances(dense):
    found = similar.targets(sparse.csr_array(dense), 2, k=50, metric="rbf")
    scale = 2 * (dense**2).sum(axis=1)[np.arange(12) != 5].mean()
    expected = np.exp(-((dense.astype(float) - dense[2]) ** 2).sum(axis=1) / scale)
    assert sorted(found.index.tolist()) == [i for i in range(12) if i not in (2, 5)]
    np.testing.assert_allclose(found.score, expected[found.index], rtol=1e-5)
    assert (np.diff(found.score) <= 0).all()


@pytest.mark.parametrize("metric", similar.METRICS)
def test_a_copy_is_the_nearest_with_score_one(dense, metric):
    dense[9], dense[:, 21] = dense[2], dense[:, 4]
    dense[9] = dense[2]
    found = similar.targets(sparse.csr_array(dense), 2, k=1, metric=metric)
    assert found.index.tolist() == [9] and found.score[0] == pytest.approx(1, abs=1e-6)
    found = similar.columns(sparse.csr_array(dense), 4, k=1, metric=metric)
    assert found.index.tolist() == [21] and found.score[0] == pytest.approx(1, abs=1e-6)


def test_weights_whose_squares_float32_cannot_hold_are_weights(dense):
    small = sparse.csr_array((dense * 1e-42).astype(np.float32))
    assert (
        similar.targets(small, 2, k=3).index.tolist() == similar.targets(sparse.csr_array(dense), 2, k=3).index.tolist()
    )


def test_bad_questions_are_refused(dense):
    theta = sparse.csr_array(dense)
    with pytest.raises(TargetRangeError, match="target 12"):
        similar.targets(theta, 12, k=3)
    with pytest.raises(MaskError, match="column 30"):
        similar.columns(theta, 30, k=3)
    with pytest.raises(InputError, match="target 5: has no weights"):
        similar.targets(theta, 5, k=3)
    with pytest.raises(InputError, match="k = 0"):
        similar.targets(theta, 1, k=0)
