import numpy as np
import pytest
from scipy import sparse

from datamodels.analyze.patterns.conflicts import conflicts
from datamodels.errors import InputError

A, B, EACH, OWN = 4, 3, 40, 6


def world(*, seed=0, harm=-0.5, noise=0.2):
    """(theta, groups of columns, groups of targets): group 2 of columns harms group 1 of targets."""
    rng = np.random.default_rng(seed)
    sources, targets = np.arange(A).repeat(OWN), rng.permutation(np.arange(B).repeat(EACH))
    theta = noise * rng.normal(size=(len(targets), len(sources)))
    theta[np.ix_(targets == 1, sources == 2)] += harm / OWN
    return sparse.csr_array(theta), sources, targets


def test_a_planted_conflict_is_found_with_its_size():
    theta, sources, targets = world()
    found = conflicts(theta, sources, targets, same=False)
    assert (found.source[0], found.target[0], found.sure[0]) == (2, 1, 1) and found.pairs == A * B
    assert found.interval[0, 0] < -0.5 < found.interval[0, 1] < 0
    own = theta.toarray()[targets == 1][:, sources == 2].sum(axis=1)
    assert found.effect[0] == pytest.approx(own.mean()) and found.harmed[0] == (own < 0).mean()
    assert (found.effect < 0).all() and (np.diff(found.interval[:, 1]) >= 0).all()
    assert not found.sure[1:].any()


def test_without_a_conflict_none_of_all_pairs_is_sure_about_as_often_as_the_level_says():
    wrong = sum(
        conflicts(*world(seed=seed, harm=0), same=False, resamples=200, seed=seed).sure.any() for seed in range(60)
    )
    assert wrong <= 6  # half of what intervals miss is on this side: 1.5 expected


def test_groups_of_one_numbering_have_no_conflict_with_themselves():
    theta, sources, targets = world()
    found = conflicts(-abs(theta), sources, targets, same=True)
    assert found.pairs == A * B - B and not (found.source == found.target).any()
    assert conflicts(-abs(theta), sources, targets, same=False).pairs == A * B


def test_small_groups_and_what_is_in_no_group_are_left_out():
    theta, sources, targets = world()
    expected = conflicts(theta, sources, targets, same=False)
    theta = sparse.csr_array(np.pad(theta.toarray(), ((0, 6), (0, 2)), constant_values=-9))
    sources = np.concatenate([sources, [-1, -1]])
    targets = np.concatenate([targets, [-1, -1, B, B, B, B]])
    found = conflicts(theta, sources, targets, same=False)
    np.testing.assert_array_equal(found.effect, expected.effect)
    np.testing.assert_array_equal(found.interval, expected.interval)


@pytest.mark.parametrize(
    "sources, targets, fault",
    [
        (np.full(24, -1), np.zeros(120, int), "no two groups"),
        (np.zeros(24, int), np.full(120, -1), "no two groups"),
        (np.zeros(24, int), np.zeros(120, int), "no two groups"),
        (np.full(24, 5000), np.zeros(120, int), "5001 groups"),
    ],
)
def test_bad_questions_are_refused(sources, targets, fault):
    with pytest.raises(InputError, match=fault):
        conflicts(world()[0], sources, targets, same=True)
