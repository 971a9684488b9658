import math

import numpy as np
import pytest

from datamodels.analyze.quality import evaluate, verdict
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.train.snr import Additive, SignalToNoise


def judged(lds, low, high, models, ceiling=1.0, targets=1, **stored):
    evaluation = Evaluation(lds, (low, high), ceiling, np.full(targets, lds), 50, 4, **stored)
    return verdict.of_evaluation(evaluation, models)


def snr(ratio, low=None, high=None):
    return SignalToNoise(ratio, (ratio if low is None else low, ratio if high is None else high), 20, 4)


WHOLE = Additive(1.0, (1.0, 1.0))


@pytest.mark.parametrize(
    "lds, low, high, word",
    [
        (0.03, -0.05, 0.11, verdict.NOTHING),
        (0.15, 0.10, 0.20, verdict.NOTHING),
        (0.35, -0.01, 0.60, verdict.NOTHING),
        (0.41, 0.39, 0.43, verdict.WEAK),
        (0.65, 0.62, 0.68, verdict.FAIR),
        (0.93, 0.92, 0.94, verdict.GOOD),
    ],
)
def test_an_lds_is_judged_by_its_thresholds_and_its_interval(lds, low, high, word):
    found = judged(lds, low, high, 1000)
    assert found.word == word and str(found).startswith(f"{word}: ")
    assert (found.goal is None) == (word == verdict.GOOD)
    assert "mean nothing yet" in found.text or word != verdict.NOTHING
    assert ("an LDS of 0 is within the interval" in found.text) == (low <= 0)


def test_a_good_verdict_names_a_check_that_takes_every_output():
    """`support` refuses outputs without a threshold."""
    text = judged(0.93, 0.92, 0.94, 1000).text
    assert text.endswith(
        "with other models, fewer if many help about equally. `counterfactual --verify` checks single claims."
    )


def test_an_lds_below_0_is_called_that():
    """0 is then not within the interval."""
    found = judged(-0.15, -0.21, -0.02, 1000)
    assert found.text.startswith("the weights mean nothing yet, as the LDS is below 0. ")


def test_a_noisy_evaluation_is_not_held_against_the_weights():
    """Two models of an SNR of 1: halves correlate at 1/2, and the mean of both with the truth at sqrt(2/3)."""
    assert evaluate.best(0.5) == pytest.approx(math.sqrt(2 / 3))
    found = judged(0.7, 0.65, 0.75, 1000, ceiling=0.5)
    assert found.lds == pytest.approx(0.7 / math.sqrt(2 / 3)) and found.word == verdict.GOOD


def test_the_models_that_a_goal_takes_follow_the_trend():
    b = 700.0
    lds = 1 / math.sqrt(1 + b / 400)
    found = judged(lds, lds, lds, 400)
    assert (found.word, found.goal) == (verdict.FAIR, verdict.SURE)
    for needed in found.needed:
        assert 1 / math.sqrt(1 + b / needed) == pytest.approx(verdict.SURE)
    assert "takes about 1,200 models" in found.text


def test_an_lds_that_may_be_0_may_take_any_number_of_models():
    found = judged(0.03, -0.05, 0.11, 200, ceiling=0.1)
    assert math.isinf(found.needed[1]) and found.needed[0] > 200
    assert "models or more" in found.text and "raise the SNR" in found.text
    near = judged(0.02, 0.006, 0.034, 200)
    assert near.text.startswith(
        "the weights mean nothing yet. An LDS of 0.6 of the best that noise allows takes more m"
    )
    assert near.needed == (math.inf, math.inf) and not any(letter.isdigit() for letter in near.text.replace("0.6", ""))
    wide = judged(0.1, 0.006, 0.2, 200)
    assert math.isinf(wide.needed[1]) and "takes about 2,700 models or more" in wide.text.replace(
        "takes 2", "takes about 2"
    )
    hopeless = judged(-0.2, -0.3, -0.1, 200)
    assert hopeless.word == verdict.NOTHING and "more models than can be said" in hopeless.text


def test_a_number_of_models_that_was_not_enough_is_not_advised():
    """100 models gave less than nothing, and the interval reaches an LDS that fewer would give."""
    assert "takes more than 100 models; how many more cannot be said" in judged(-0.1, -0.6, 0.9, 100).text
    assert "takes more than 100 models, and about 260 at most" in judged(0.5, 0.42, 0.7, 100).text


@pytest.mark.parametrize("word, low", [(verdict.FAIR, 0.65), (verdict.GOOD, 0.9)])
def test_a_verdict_that_rests_on_few_subsets_says_so(word, low):
    found = judged(low, 0.05, 1.0, 100)
    assert found.word == word
    assert "But the interval of the LDS begins at 0.05, so this is not sure: more than 50 unseen subsets" in found.text
    assert "not sure" not in judged(low, low - 0.02, low + 0.02, 100).text


def test_outputs_that_storage_holds_badly_are_the_reason_and_not_too_few_models():
    same = judged(0.0, 0.0, 0.0, 100, targets=6, constant=6)
    assert same.word == verdict.NOTHING and (same.goal, same.needed) == (None, None)
    assert same.text.startswith("the weights mean nothing: the outputs of all 6 targets are the same for each model")
    most = judged(0.1, -0.2, 0.4, 100, targets=6, constant=1, coarse=2)
    assert (most.word, most.needed) == (verdict.NOTHING, None) and "takes" not in most.text
    assert (
        "of 1 of 6 targets are the same for each model of the unseen subsets. Rounding costs some of the LDS"
        in most.text
    )
    assert "the outputs of 2 of 6 targets vary by fewer than ten steps of the numbers that store them" in most.text
    few = judged(0.5, 0.48, 0.52, 100, targets=6, coarse=2)
    assert "takes about" in few.text and "of 2 of 6 targets vary by fewer" in few.text
    good = judged(0.9, 0.88, 0.92, 100, targets=6, coarse=5)
    assert good.word == verdict.GOOD and "of 5 of 6 targets vary by fewer" in good.text


@pytest.mark.parametrize("models, ridge", [(500, 0.401), (2000, 0.712), (10_000, 0.901)])
def test_the_snr_of_the_digits_gives_the_measured_lds_of_weights_that_are_not_sparse(models, ridge):
    assert verdict.of_snr(snr(3.0), 1400, models, WHOLE).lds == pytest.approx(ridge, abs=0.07)


def test_an_snr_is_judged_before_the_run():
    poor = verdict.of_snr(snr(0.11, 0.07, 0.16), 1400, 200, WHOLE)
    assert poor.word == verdict.NOTHING and poor.lds == pytest.approx(1 / math.sqrt(1 + 1400 * 1.11 / 0.11 / 200))
    assert poor.needed[0] < 1400 * (1.11 / 0.11) * 0.36 / 0.64 < poor.needed[1]
    assert "raise the SNR" in poor.text
    assert verdict.of_snr(snr(0.0), 1400, 200, WHOLE).word == verdict.NOTHING
    assert "more models than can be said" in verdict.of_snr(snr(0.0), 1400, 200, WHOLE).text
    sure = verdict.of_snr(snr(math.inf), 600, 5000, WHOLE)
    assert sure.word == verdict.GOOD and sure.lds == pytest.approx(1 / math.sqrt(1 + 600 / 5000))
    assert "340 would give 0.6" in sure.text


def test_what_does_not_add_up_bounds_the_forecast_and_counts_as_noise():
    """No number of models explains more than single examples add up to."""
    half = verdict.of_snr(snr(math.inf), 200, 2000, Additive(0.5, (0.3, 0.65)))
    assert half.lds == pytest.approx(math.sqrt(0.5 / (1 + 200 / 0.5 / 2000))) and half.word == verdict.FAIR
    assert "of about 0.65 (0.47 to 0.75), so " in half.text and half.text.endswith("takes 20,000 models or more.")
    assert half.needed == (pytest.approx(200 / 0.65 / (0.65 / 0.64 - 1)), math.inf)


@pytest.mark.parametrize("models", [500, 20_000])
def test_a_forecast_says_that_it_leaves_out_the_prior_of_the_fit(models):
    alone = verdict.of_snr(snr(3.0), 1400, models, WHOLE)
    besides = verdict.of_snr(snr(3.0), 1400, models, WHOLE, "inputs and gradients")
    assert (besides.word, besides.lds, besides.needed) == (alone.word, alone.lds, alone.needed)
    assert besides.text.startswith(f"without a prior, {models:,} models give ") and "prior" not in alone.text
    assert "a prior from inputs and gradients: " in besides.text


def test_nothing_is_said_of_weights_after_a_handful_of_subsets():
    found = verdict.of_evaluation(Evaluation(1.0, (0.4, 1.0), 0.9, np.ones(5), 5, 4), 100)
    assert str(found) == (
        "nothing yet: 5 unseen subsets are too few to measure an LDS on, of these weights or any others; take 30 "
        "or more (evaluate.subsets)."
    )
