import pytest
from scipy import stats

from datamodels.errors import SettingsError
from datamodels.train.failures import CHANCE, Failures, unlikely


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_what_counts_as_unlikely_is_so_by_the_binomial_distribution(rate):
    """The bound is never above the chance that is allowed, and within a factor of 100 of it."""
    for tried in (1, 5, 6, 20, 100, 1000):
        least = next((failed for failed in range(tried + 1) if unlikely(tried, failed, rate)), None)
        if least is None:
            assert stats.binom.sf(tried - 1, tried, rate) > CHANCE
        else:
            assert stats.binom.sf(least - 1, tried, rate) <= CHANCE * (1 + 1e-6)
            assert least == 1 or stats.binom.sf(least - 2, tried, rate) > CHANCE / 100


def test_a_rate_of_0_tolerates_none_and_1_all():
    assert unlikely(100, 1, 0.0) and not unlikely(100, 0, 0.0) and not unlikely(100, 100, 1.0)
    assert not unlikely(0, 0, 0.1)


def test_a_rate_that_is_none_is_refused(run):
    with pytest.raises(SettingsError, match=r"DATAMODELS_TRAINER_TOLERATED_FAILURES=3\.1: must be 0 to 1"):
        Failures(run, 3.1)
