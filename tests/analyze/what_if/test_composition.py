import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from datamodels.analyze.what_if.composition import composition
from datamodels.errors import InputError


@pytest.mark.parametrize("seed", range(5))
def test_the_adjusted_rand_index_is_that_of_others_and_purity_counts_the_commonest(seed):
    rng = np.random.default_rng(seed)
    cluster = rng.integers(-1, 4, size=200)
    labels = np.where(rng.random(200) < 0.6, cluster, rng.integers(3, size=200)) * 10
    found, inside = composition(cluster, labels), cluster >= 0
    assert found.rand == pytest.approx(adjusted_rand_score(labels[inside], cluster[inside]))
    commonest = sum(np.unique(labels[cluster == c], return_counts=True)[1].max() for c in range(4))
    assert found.purity == commonest / inside.sum()
    for value, (low, high) in ((found.rand, found.rand_interval), (found.purity, found.purity_interval)):
        assert low < value < high <= 1
    for c in range(4):
        for label, count in zip(found.classes, found.counts[c], strict=True):
            assert count == np.count_nonzero((cluster == c) & (labels == label))


def test_the_same_division_scores_one_and_one_cluster_scores_one_with_one_class():
    labels = np.arange(30) % 3
    assert composition(labels, labels).rand_interval == (1, 1)
    assert composition(np.zeros(5, int), np.zeros(5, int)).rand == 1


def test_bad_questions_are_refused():
    with pytest.raises(InputError, match="3 clusters and 2 labels"):
        composition(np.zeros(3, int), np.zeros(2, int))
    with pytest.raises(InputError, match="some in a cluster"):
        composition(np.full(3, -1), np.zeros(3, int))
