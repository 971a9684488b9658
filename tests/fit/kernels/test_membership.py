import numpy as np
import pytest

from datamodels.fit.data import problem
from datamodels.fit.kernels import lookup, membership
from datamodels.run import designs


@pytest.fixture
def solution():
    rng = np.random.default_rng(0)
    theta = np.where(rng.random((40, 75)) < 0.3, rng.normal(size=(40, 75)), 0)
    theta[7] = 0
    given = {"lambda_": np.ones(40), "gap": np.zeros(40), "heldout_r2": np.zeros(40), "intercept": rng.normal(size=40)}
    return problem.of_dense(theta, status=[problem.OK] * 40, **given)


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 64, 200])
def test_sums_are_those_of_one_subset_after_another(solution, count):
    masks = np.random.default_rng(1).random((count, solution.d)) < 0.5
    targets = np.array([3, 7, 39, 0])
    arrays = solution.indptr, solution.columns, solution.weights
    words = membership.words_of(designs.pack(masks), solution.d)
    found = membership.sums(*arrays, targets, words, count)
    expected = [[np.float32(0)] * len(targets) for _ in range(count)]
    for row, mask in enumerate(masks):
        for i, target in enumerate(targets):
            for column, weight in zip(*solution.row(target), strict=True):
                expected[row][i] += weight * mask[column]
    assert found.tolist() == np.array(expected).reshape(count, len(targets)).tolist()


def test_predictions_are_the_same_either_way(solution, monkeypatch):
    masks = designs.pack(np.random.default_rng(2).random((50, solution.d)) < 0.5)
    chosen = np.array([9, 1])
    few, some = solution.predict_packed(masks), solution.predict_packed(masks, chosen)
    monkeypatch.setattr(problem, "COMPILED_SUMS", 0)
    assert np.array_equal(few, solution.predict_packed(masks))
    assert np.array_equal(some, solution.predict_packed(masks, chosen)) and np.array_equal(some, few[:, chosen])


@pytest.mark.parametrize("dtype, rounding", [(np.float32, 1e-4), (np.float64, 1e-12)])
@pytest.mark.parametrize("count, share", [(1, 0.3), (64, 0.01), (129, 0.3), (70, 0)])
def test_sums_of_sparse_weights_are_products_with_centred_masks(count, share, dtype, rounding):
    rng = np.random.default_rng(3)
    masks, center = rng.random((count, 130)) < 0.3, np.full(130, 0.3, dtype=np.float32)
    theta = np.where(rng.random((130, 5)) < share, rng.normal(size=(130, 5)), 0).astype(dtype)
    theta[:, 2] = 0
    words = lookup.words_of(designs.pack(masks), 130)
    found = membership.Sparse.of(theta, center).sums(words, count)
    np.testing.assert_allclose(found, (masks - center.astype(float)) @ theta, atol=rounding)
