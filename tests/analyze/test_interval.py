import math

import numpy as np
import pytest
from scipy import stats

from datamodels.analyze import interval


@pytest.mark.parametrize("successes, trials", [(0, 10), (3, 10), (10, 10), (500, 1000)])
def test_the_interval_of_a_share_is_wilsons(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert interval.share(successes, trials) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_a_mean_is_students():
    values = np.random.default_rng(0).normal(3, 2, size=7)
    expected = stats.t.interval(0.95, 6, loc=values.mean(), scale=stats.sem(values))
    assert interval.mean(values) == pytest.approx(expected)
    assert interval.mean(values[:1]) == (-math.inf, math.inf)
