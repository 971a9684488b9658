import numpy as np
import pytest

from datamodels.analyze.quality.agreement import agreement, points
from datamodels.errors import NotReadyError


def world(*, subsets=150, models=10, targets=20, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(subsets, targets))
    return signal, signal[:, None] + noise * rng.normal(size=(subsets, models, targets))


def r2_of(true, predicted):
    return 1 - ((true - predicted) ** 2).sum() / ((true - true.mean()) ** 2).sum()


@pytest.mark.parametrize("single", [True, False])
def test_r2_is_what_the_textbook_says_failed_models_and_uncounted_subsets_left_out(single):
    signal, outputs = world(subsets=30, targets=4)
    outputs[3, 5] = np.nan
    outputs[7, 1:] = np.nan  # one model is too few
    counts = np.random.default_rng(1).random(signal.shape) < 0.7
    found = agreement(signal, outputs, single=single, counts=counts, resamples=20)
    usable = np.arange(30) != 7
    for j in range(4):
        rows = usable & counts[:, j]
        if single:
            kept = ~np.isnan(outputs[rows, :, j].ravel())
            expected = r2_of(outputs[rows, :, j].ravel()[kept], signal[rows, j].repeat(10)[kept])
        else:
            expected = r2_of(np.nanmean(outputs[rows, :, j], axis=1), signal[rows, j])
        assert found.per_target[j] == pytest.approx(expected)
    assert found.r2 == pytest.approx(found.per_target.mean())


def test_a_perfect_prediction_reaches_the_ceiling_of_single_models_and_of_means():
    signal, outputs = world(subsets=400, noise=1.0)
    single, mean = (agreement(signal, outputs, single=s, resamples=100) for s in (True, False))
    assert single.r2 == pytest.approx(0.5, abs=0.02) and single.ceiling == pytest.approx(0.5, abs=0.02)
    assert mean.r2 == pytest.approx(1 / 1.1, abs=0.01) and mean.ceiling == pytest.approx(1 / 1.1, abs=0.01)
    assert (single.models, mean.models) == (1, 10)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(40):
        signal, outputs = world(subsets=60, models=3, targets=6, seed=seed)
        low, high = agreement(signal, outputs, single=False, resamples=200, seed=seed).interval
        covered += low <= 1 - 1 / 4 <= high  # 1/3 of noise in 4/3 of variance
    assert covered >= 33


def test_few_subsets_have_an_interval_too():
    signal, outputs = world(subsets=3, targets=2)
    low, high = agreement(signal, outputs, single=False).interval
    assert np.isfinite([low, high]).all() and low <= high


def test_the_interval_surrounds_the_value_if_some_resamples_hardly_vary():
    """Two of four subsets nearly agree, so resamples of these two alone have an R^2 far below 0."""
    signal = np.array([0.0, 0.1, 1.0, 3.0])[:, None]
    outputs = signal[:, None] + np.array([0.1, 0.11])[:, None]
    found = agreement(signal, outputs, single=True)
    low, high = found.interval
    assert low <= found.r2 <= high


def test_targets_that_never_vary_are_not_scored():
    signal, outputs = world(targets=3)
    outputs[:, :, 1] = 2.5
    found = agreement(signal, outputs, single=False, resamples=20)
    assert np.isnan(found.per_target).tolist() == [False, True, False] and np.isfinite(found.r2)
    same = agreement(signal[:, 1:2], outputs[:, :, 1:2], single=True, resamples=20)
    assert np.isnan([same.r2, *same.interval, same.ceiling, *same.per_target]).all() and same.models == 1
    with pytest.raises(NotReadyError, match="no target has 3"):
        agreement(signal, outputs, counts=np.zeros((len(signal), 3), bool), single=True, resamples=20)


def test_points_are_pairs_of_the_data():
    signal, outputs = world(subsets=12, targets=9)
    counts = np.arange(9) != 4
    found = points(signal, outputs, counts=np.tile(counts, (12, 1)), most=50)
    assert len(found.target) == 50 and 4 not in found.target
    for target, predicted, single, mean in zip(found.target, found.predicted, found.single, found.mean, strict=True):
        subset = np.flatnonzero(np.isclose(signal[:, target], predicted, atol=1e-6)).item()
        assert np.isclose(outputs[subset, :, target], single, atol=1e-6).any()
        assert mean == pytest.approx(outputs[subset, :, target].mean(), abs=1e-5)
