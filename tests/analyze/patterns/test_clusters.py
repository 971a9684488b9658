import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from datamodels.analyze.patterns.clusters import NO_CLUSTER, by_gap, clusters, leading, similarity
from datamodels.errors import InputError


def planted(blocks=4, each=30, columns=40, noise=0.1, seed=0):
    """(CSR [n, d], labels): vectors of a block lie around one direction over columns of its own, with weights of noise
    everywhere; the order is mixed and lengths differ much."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(blocks).repeat(each))
    theta = np.zeros((len(label), blocks * columns))
    for i, block in enumerate(label):
        own = slice(block * columns, (block + 1) * columns)
        theta[i, own] = np.random.default_rng(block).normal(size=columns) + 0.8 * rng.normal(size=columns)
        theta[i] += noise * rng.normal(size=theta.shape[1]) * (rng.random(theta.shape[1]) < 0.3)
        theta[i] *= rng.lognormal(sigma=1.5)
    return sparse.csr_array(theta.astype(np.float32)), label


@pytest.mark.parametrize("noise", [0, 0.1])
@pytest.mark.parametrize("k", [0, 4])
def test_planted_blocks_are_found_and_counted(noise, k):
    theta, label = planted(noise=noise)
    found = clusters(theta, k=k)
    assert adjusted_rand_score(label, found.cluster) == 1
    assert found.sizes.tolist() == [30] * 4
    for c, central in enumerate(found.central):
        assert (found.cluster[central] == c).all()


@pytest.mark.parametrize("noise", [0, 0.1])
def test_many_rows_give_the_same_clusters_by_lanczos(noise):
    theta, label = planted(each=250, noise=noise)
    found = clusters(theta)
    assert adjusted_rand_score(label, found.cluster) == 1


@pytest.mark.parametrize("noise", [0, 0.1])
def test_lanczos_finds_what_a_dense_solver_finds(noise):
    theta, _ = planted(blocks=3, each=100, noise=noise)
    lengths = np.sqrt(theta.multiply(theta).sum(axis=1))
    graph, _ = similarity(sparse.csr_array(theta.toarray() / lengths[:, None]))
    values, vectors = leading(graph, 8)
    root = np.sqrt(np.asarray(graph.sum(axis=1)).ravel())
    normalised = graph.toarray() / np.outer(root, root)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(normalised)[::-1][:8], atol=1e-6)
    np.testing.assert_allclose(normalised @ vectors, vectors * values, atol=1e-5)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(8), atol=1e-6)


def test_the_similarity_is_the_rbf_of_the_nearest():
    theta, _ = planted(each=10)
    unit = theta.toarray() / np.linalg.norm(theta.toarray(), axis=1, keepdims=True)
    graph, bandwidth = similarity(sparse.csr_array(unit))
    squared = ((unit[:, None] - unit) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    dense = np.exp(-squared / (2 * bandwidth**2))
    near = squared <= np.sort(squared, axis=1)[:, [14]]
    near = (near | near.T) & (squared < 2 - 1e-5)  # an angle below 90 degrees
    np.testing.assert_allclose(graph.toarray(), dense * near, atol=1e-4)


def test_what_is_like_nothing_is_in_no_cluster():
    theta = planted()[0].toarray()
    theta = np.pad(theta, ((0, 2), (0, 1)))
    theta[-1, -1] = 3  # a column of its own; the one before has no weights
    found = clusters(sparse.csr_array(theta))
    assert found.cluster[-2:].tolist() == [NO_CLUSTER] * 2 and found.sizes.sum() == len(theta) - 2
    assert (found.cluster[:-2] != NO_CLUSTER).all() and found.central.max() < len(theta) - 2


def test_with_more_parts_than_clusters_the_smallest_parts_are_left_out():
    theta, label = planted(blocks=5, noise=0, each=20)
    kept = (label != 2) | (np.cumsum(label == 2) <= 10)
    found = clusters(theta[kept], k=4)
    assert found.sizes.tolist() == [20] * 4
    assert ((found.cluster == NO_CLUSTER) == (label[kept] == 2)).all()


def test_the_gap_is_where_eigenvalues_fall_most():
    assert by_gap(np.array([1, 0.97, 0.95, 0.6, 0.5])) == 3
    assert by_gap(np.array([1, 1, 1, 0.4])) == 3
    assert by_gap(np.ones(21)) == 20
    assert by_gap(np.array([1, 0.9, 0.1])) == 2


def test_progress_rises_and_what_it_raises_stops_the_work():
    reports = []
    clusters(planted()[0], progress=reports.append)
    assert reports == sorted(reports) and reports[-1] > 0.9

    def stop(fraction):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clusters(planted()[0], progress=stop)


@pytest.mark.parametrize(
    "theta, k, fault",
    [
        (planted()[0], 1, "k = 1: must be 2 to 100"),
        (planted()[0], -1, "k = -1"),
        (planted()[0], 101, "k = 101: must be 2 to 100"),
        (planted(blocks=2, each=5)[0], 11, "k = 11: must be 2 to 10"),
        (sparse.csr_array((5, 7), dtype=np.float32), 0, "0 of 5 have weights"),
        (sparse.csr_array(np.eye(6, dtype=np.float32)), 2, "0 of 6 have weights and share"),
    ],
)
def test_bad_questions_are_refused(theta, k, fault):
    with pytest.raises(InputError, match=fault):
        clusters(theta, k=k)
