import numpy as np
import pytest
from scipy import stats

from datamodels.errors import ConfigError, SettingsError
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


NORMAL = np.random.default_rng(0).normal(size=(300, 3))


def stopped_after(run, outputs, **given):
    """Number of models, in batches of 2, after which training stops, and why; (None, "") if it goes on."""
    failures = Failures(run, **given)
    for first in range(0, len(outputs), 2):
        try:
            failures.saw(range(first, first + 2), outputs[first : first + 2])
        except ConfigError as error:
            return first + 2, str(error)
    return None, ""


@pytest.mark.parametrize(
    ("outputs", "models", "why"),
    [
        (
            NORMAL + 2.0**28,
            6,
            "models on the first 6 subsets: float32 rounds away what varies in the outputs of 3 of 3",
        ),
        (NORMAL * 1e-50, 6, "float32 rounds away what varies in the outputs of 3 of 3 targets; rescale the outputs"),
        (NORMAL * 0 + 0.7, 20, "models on the first 20 subsets: the outputs of all 3 targets are the same for each"),
        (NORMAL * 0 + 1, 132, "the outputs of all 3 targets are the same for each model, so no example has an effect"),
        (NORMAL + np.array([0.0, 0.0, 2.0**28]), None, ""),  # most are kept
        (NORMAL * [1, 0, 0], None, ""),  # one target that varies is enough,
        ((np.arange(900).reshape(300, 3) == 300).astype(float), None, ""),  # or a single hit among the first
        (NORMAL + 1e6, None, ""),
    ],
)
def test_outputs_that_say_nothing_about_subsets_stop_a_run(make_run, outputs, models, why):
    run = make_run(m=300, chunk=300, sub_chunk=10)
    found, said = stopped_after(run, outputs)
    assert found == models and why in said
    assert not said or "To train all models nevertheless, set DATAMODELS_TRAINER_TOLERATED_FAILURES=1" in said
    assert stopped_after(run, outputs, tolerated=1) == (None, "")


def test_models_of_one_subset_or_without_outputs_do_not_show_that_outputs_never_vary(make_run):
    run = make_run(m=10, chunk=10, evaluate={"subsets": 7, "models": 40}, sub_chunk=10)
    failures = Failures(run)
    failures.saw(range(10, 210), np.full((200, 3), 0.7))  # models of five subsets
    failures.saw(range(210, 290), np.full((80, 3), np.nan))
