import numpy as np
import pytest

from datamodels.fit.pairs import pairs
from datamodels.fit.pairs.gradients import DTYPE, GradientScores
from datamodels.testing import committed

FOLDS, N, D = 5, 7, 4
SCALE = 0.25


@pytest.fixture
def means():
    """Means [folds, n, d]: target 2 has no model in fold 1, and target 5 has none at all."""
    found = np.random.default_rng(0).integers(-100, 100, size=(FOLDS, N, D)).astype(np.float32)
    found[1, 2], found[:, 5] = np.nan, np.nan
    return found


@pytest.fixture
def scores(means):
    stored = means.astype(DTYPE)
    return GradientScores(20, SCALE, [stored[:, :3], stored[:, 3:4], stored[:, 4:]])


@pytest.mark.parametrize("without", [None, 0, 1, 4])
def test_they_are_means_over_the_folds_that_count(scores, means, without):
    rest = np.delete(means, without, axis=0) if without is not None else means
    asked = np.array([6, 2, 0, 3, 2, 4])
    expected = SCALE * np.stack([np.nanmean(rest[:, target], axis=0) for target in asked])
    np.testing.assert_allclose(scores.of(asked, without), expected, rtol=1e-6)
    assert not scores.of(np.array([5]), without).any()


def test_models_of_a_single_fold_may_all_be_left_out(means):
    means[1:] = np.nan
    one = GradientScores(1, 1.0, [means.astype(DTYPE)])
    assert one.of(np.arange(N)).any() and not one.of(np.arange(N), 0).any()
    assert (one.name, GradientScores(20, 1.0, []).name) == ("gradients of 1 model", "gradients of 20 models")


def test_they_stand_beside_other_features_or_alone(scores):
    run = committed.make_run(design={"pinned_in": [1], "pinned_out": [4]})
    blocks = [np.ones((FOLDS, run.n, run.design.columns), dtype=DTYPE)]
    given, targets = GradientScores(2, 3.0, blocks), np.arange(run.n)
    alone = pairs.with_gradients(None, run, given)
    beside = pairs.with_gradients(
        pairs.of_arrays(
            np.zeros((committed.D, 2)), np.arange(committed.D) % 3, np.zeros((run.n, 2)), targets % 3, alpha=0.5
        ),
        run,
        given,
    )
    assert alone.names == (given.name,) == beside.names[-1:] and len(beside.names) > 1
    features = alone.of(targets)
    assert features.shape == (1, run.n, run.design.columns) and not features[0][:, [1, 4]].any()
    assert (np.delete(features[0], [1, 4], axis=1) == 3).all()
    assert len(beside.of(targets)) == len(beside.names) <= pairs.MOST
