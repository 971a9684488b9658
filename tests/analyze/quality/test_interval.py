import math

import numpy as np
import pytest
from scipy import stats

from datamodels.analyze.quality import interval


@pytest.mark.parametrize("successes, trials", [(0, 10), (3, 10), (10, 10), (500, 1000)])
def test_the_interval_of_a_share_is_wilsons(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert interval.share(successes, trials) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_a_mean_is_students():
    values = np.random.default_rng(0).normal(3, 2, size=7)
    expected = stats.t.interval(0.95, 6, loc=values.mean(), scale=stats.sem(values))
    assert interval.mean(values) == pytest.approx(expected)
    assert interval.mean(values[:1]) == (-math.inf, math.inf)


def test_the_interval_of_a_rank_correlation_holds_what_it_should():
    """Of normal pairs: Spearman's rho is 6/pi asin(r/2). Held 95 times in 100, give or take four standard errors."""
    rng, r, held, times = np.random.default_rng(0), 0.8, 0, 600
    true = 6 / math.pi * math.asin(r / 2)
    for _ in range(times):
        x = rng.normal(size=60)
        y = r * x + math.sqrt(1 - r * r) * rng.normal(size=60)
        low, high = interval.correlation(stats.spearmanr(x, y).statistic, 60)
        held += low <= true <= high
    assert held / times == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / times))


@pytest.mark.parametrize("r", [-1.0, 1.0])
def test_a_whole_correlation_has_an_interval(r):
    low, high = interval.correlation(r, 50)
    assert -1 <= low <= high <= 1
    assert interval.correlation(r, 3) == (-1.0, 1.0)


def test_every_resample_draws_as_many_values_as_there_are():
    drawn = interval.draws(7, seed=3, resamples=50)
    assert drawn.shape == (50, 7) and (drawn.sum(axis=1) == 7).all() and len(np.unique(drawn, axis=0)) > 1
    assert (interval.draws(7, seed=3, resamples=50) == drawn).all()


def test_an_interval_of_deviations_lies_around_the_value():
    deviations = np.linspace(-1, 1, 201)
    assert interval.around(5.0, deviations) == pytest.approx((4.05, 5.95))
    assert interval.around(0.5, deviations, most=1.0) == pytest.approx((-0.45, 1.0))
