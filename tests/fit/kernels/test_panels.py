import numpy as np
import pytest

from datamodels.fit.kernels import coordinate_descent, panels

D, M = panels.TILE_ROWS + 2 * panels.WIDTH + 21, 900  # two tiles of rows; the last panel is not full


def made(dtype, share=0.3, pinned=(5, 200)) -> tuple[panels.Panels, np.ndarray]:
    """Return the Gram in panels of random masks, in two blocks, and as float64[d, d]; two columns never vary."""
    x = np.random.default_rng(0).random((M, D)) < share
    x[:, pinned[0]], x[:, pinned[1]] = True, False
    varies = np.ones(D, dtype=bool)
    varies[list(pinned)] = False
    masks = np.packbits(x, axis=1, bitorder="little")
    values = np.zeros((-(-D // panels.WIDTH), D, panels.WIDTH), dtype=np.int16)
    ones, usual = panels.add_counts(values, varies, [masks[:333], masks[333:]], share**2, threads=2)
    assert np.array_equal(ones, x.sum(axis=0)) and usual == round(333 * share**2) + round((M - 333) * share**2)
    return panels.Panels(values, ones, usual, M, dtype), np.cov(x.T, bias=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_products_are_those_of_the_gram(dtype):
    """Few and many weights; the numbers of changes are beside multiples of eight, and none."""
    gram, dense = made(dtype)
    rng, counts = np.random.default_rng(1), np.array([0, 1, 7, 8, 9, 40])
    base, base_neg_grad = rng.normal(size=(6, D)).astype(dtype), rng.normal(size=(6, D)).astype(dtype)
    theta = base.copy()
    for j, count in enumerate(counts):
        theta[j, rng.choice(D, count, replace=False)] += 1
    neg_grad = np.zeros((6, D), dtype)
    gram.sparse_neg_grads(np.array([0, 2, 3, 4, 5]), counts, theta, base, base_neg_grad, gram.entries, neg_grad)
    wanted = base_neg_grad - (theta - base).astype(np.float64) @ dense
    wanted[1] = 0
    close = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(neg_grad, wanted, atol=close)
    np.testing.assert_allclose(base @ gram, base.astype(np.float64) @ dense, atol=close)
    np.testing.assert_allclose(gram @ base[0], dense @ base[0], atol=close)
    np.testing.assert_allclose(gram.exactly(base.astype(np.float64)), base.astype(np.float64) @ dense, atol=1e-13)
    np.testing.assert_allclose(gram.curvature, np.diag(dense), atol=1e-15)


def test_coordinate_descent_is_that_on_the_gram():
    gram, dense = made(np.float64)
    rng = np.random.default_rng(2)
    neg_grad = 0.1 * rng.normal(size=(3, D)) * (np.diag(dense) > 0)
    found = []
    for entries in (gram.entries, dense):
        theta = np.zeros((3, D))
        lambda_, screen, goal = np.full(3, 0.1), np.full(3, 0.05), np.full(3, 1e-12)
        sizes = coordinate_descent.working_set_sizes(theta, neg_grad, screen)
        coordinate_descent.descend(np.arange(3), sizes, theta, neg_grad, entries, lambda_, screen, goal, 1000, None)
        found.append(theta)
    assert 20 < np.count_nonzero(found[0]) < 3 * D / 2
    np.testing.assert_allclose(found[0], found[1], atol=1e-10)


def test_a_count_that_does_not_fit_is_refused():
    """Two columns that are always together are in half of the rows, where others are in a quarter."""
    x = np.random.default_rng(0).random((4 * panels.LIMIT + 1000, 4)) < 0.5
    varies, values = np.ones(4, dtype=bool), np.zeros((1, 4, panels.WIDTH), dtype=np.int16)
    masks = np.packbits(x, axis=1, bitorder="little")
    assert panels.add_counts(values, varies, [masks], 0.25, threads=1) is not None
    x[:, 1] = x[:, 0]
    values[:] = 0
    assert panels.add_counts(values, varies, [np.packbits(x, axis=1, bitorder="little")], 0.25, threads=1) is None
