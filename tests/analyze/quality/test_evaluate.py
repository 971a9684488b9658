import json

import numpy as np
import pytest
from scipy import stats

from datamodels.analyze.quality.evaluate import evaluate, from_document
from datamodels.errors import InputError, NotReadyError
from datamodels.storage import records


def noisy_truth(*, subsets=120, models=10, targets=40, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(subsets, targets))
    return signal, signal[:, None] + noise * rng.normal(size=(subsets, models, targets))


def test_a_perfect_prediction_of_noiseless_truth_scores_one():
    signal, outputs = noisy_truth(noise=0.0)
    found = evaluate(signal, outputs, resamples=20)
    assert found.lds == pytest.approx(1) and found.ceiling == pytest.approx(1)
    assert found.interval == pytest.approx((1, 1))


def test_predictions_unrelated_to_the_truth_score_zero_within_the_interval():
    _, outputs = noisy_truth()
    found = evaluate(np.random.default_rng(9).normal(size=(120, 40)), outputs, resamples=200)
    assert found.interval[0] < 0 < found.interval[1] or abs(found.lds) < 0.05


def test_target_means_alone_earn_nothing():
    """A correlation pooled over targets would be near 1 here."""
    rng = np.random.default_rng(3)
    means = 100 * np.arange(40.0)
    outputs = means + rng.normal(size=(120, 10, 40))
    assert abs(evaluate(means + rng.normal(size=(120, 40)), outputs, resamples=1).lds) < 0.1


def test_ceiling_is_the_correlation_that_the_noise_allows():
    signal, outputs = noisy_truth(subsets=200, models=20, targets=60, noise=2.0)
    # Means of 10 models have reliability 1 / (1 + 4/10); Spearman's is 6/pi asin(r/2) of Pearson's for normal values.
    expected = 6 / np.pi * np.arcsin(1 / 1.4 / 2)
    found = evaluate(signal, outputs, resamples=1)
    assert found.ceiling == pytest.approx(expected, abs=0.03)
    assert found.lds > found.ceiling  # the signal has no noise
    assert found.lds == pytest.approx(found.best, abs=0.02)


def test_the_interval_covers_the_score_and_narrows_with_more_subsets():
    widths = []
    for subsets in (30, 300):
        signal, outputs = noisy_truth(subsets=subsets, targets=20, noise=3.0)
        found = evaluate(signal, outputs, resamples=200)
        assert found.interval[0] <= found.lds <= found.interval[1]
        widths.append(found.interval[1] - found.interval[0])
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("noise", [0.5, 1.5])
def test_few_models_tell_what_many_give(noise):
    signal, outputs = noisy_truth(subsets=400, models=20, noise=noise)
    predicted = signal + np.random.default_rng(4).normal(size=signal.shape)
    many, few = (evaluate(predicted, outputs[:, :models], resamples=50) for models in (20, 2))
    assert (many.models, many.mean_of, few.models, few.mean_of) == (20, 20, 2, 20)
    assert few.lds == pytest.approx(many.lds, abs=0.02)
    assert few.ceiling == pytest.approx(many.ceiling, abs=0.02)
    # Uncorrected, as by SciPy, it would be lower by this.
    raw = np.mean([stats.spearmanr(predicted[:, j], outputs[:, :2, j].mean(axis=1))[0] for j in range(40)])
    assert few.lds > raw + {0.5: 0.02, 1.5: 0.1}[noise]


def test_outputs_that_are_chance_alone_earn_nothing_by_correction():
    rng = np.random.default_rng(2)
    found = evaluate(rng.normal(size=(100, 40)), rng.normal(size=(100, 2, 40)), resamples=200)
    assert found.interval[0] < 0 < found.interval[1] and abs(found.ceiling) < 0.3


@pytest.mark.parametrize("sign", [1, -1])
def test_a_correction_gives_no_correlation_beyond_that_of_the_same_or_the_opposite_order(sign):
    _, outputs = noisy_truth(subsets=30, models=2, noise=2.0)
    found = evaluate(sign * outputs.mean(axis=1), outputs, resamples=50)
    assert found.lds == sign and np.abs(found.per_target).max() == 1


@pytest.mark.parametrize("models", [2, 20])
def test_the_ceiling_has_an_interval_that_covers_it(models):
    """One target, so that its ceiling moves with the subsets. Without noise there is nothing to be unsure of."""
    expected = 6 / np.pi * np.arcsin(1 / 1.9 / 2)  # of halves of 10 models, whose means have reliability 1 / (1 + 9/10)
    covered = 0
    for seed in range(20):
        found = evaluate(*noisy_truth(models=models, targets=1, noise=3.0, seed=seed), resamples=200)
        low, high = found.ceiling_interval
        assert low <= found.ceiling <= high and low < high
        covered += low <= expected <= high
    assert covered >= 17
    assert evaluate(*noisy_truth(models=models, noise=0.0), resamples=20).ceiling_interval == pytest.approx((1, 1))
    rng = np.random.default_rng(5)
    chance = evaluate(rng.normal(size=(30, 1)), rng.normal(size=(30, models, 1)))
    assert chance.ceiling_interval[0] <= 0 and chance.ceiling_text == (
        f"{chance.ceiling:.3f} ({chance.ceiling_interval[0]:.3f} to {chance.ceiling_interval[1]:.3f})"
    )


def test_outputs_that_do_not_vary_or_are_stored_coarsely_are_counted():
    signal, outputs = noisy_truth(targets=4)
    outputs = np.float32(outputs * [1, 0, 1e-3, 1] + [0, 7, 1e4, 1e3])
    counts = np.ones(signal.shape, dtype=bool)
    counts[:, 3] = False  # not scored
    found = evaluate(signal, outputs, counts=counts, resamples=2)
    assert (found.targets, found.constant, found.coarse) == (3, 1, 1)
    assert evaluate(signal, outputs, resamples=2, dtype="float16").coarse == 2


def test_a_record_without_an_interval_of_the_ceiling_is_read():
    found = evaluate(*noisy_truth(), resamples=2)
    document = json.loads(json.dumps(found.document()))
    assert from_document(document).ceiling_interval == found.ceiling_interval
    del document["ceiling_interval"], document["constant"], document["coarse"]
    early = from_document(document)
    assert np.isnan(early.ceiling_interval).all() and early.ceiling_text == f"{found.ceiling:.3f}"
    again = from_document(json.loads(json.dumps(early.document())))
    assert np.isnan(again.ceiling_interval).all() and (again.constant, again.coarse) == (0, 0)


def test_an_early_record_is_of_the_models_that_it_counts():
    document = evaluate(*noisy_truth(models=20), resamples=1).document()
    del document["mean_of"]
    assert from_document(document | {"models": 4}).mean_of == 4


@pytest.mark.parametrize("models", [2, 20])
def test_the_interval_covers_what_fresh_subsets_give_as_often_as_it_says(models):
    rng, covered, worlds = np.random.default_rng(1), 0, 20
    for _ in range(worlds):
        loadings = rng.normal(size=(2, 8, 20))  # targets are alike in part, as real ones are

        def score(models, resamples, loadings=loadings):
            signal, missed = (rng.normal(size=(60, 8)) @ loading for loading in loadings)
            chance = rng.normal(size=(60, models, 20))
            return evaluate(signal, (signal + missed / 2)[:, None] + 2 * chance, resamples=resamples)

        fresh = np.mean([score(20, 1).lds for _ in range(10)])
        low, high = score(models, 100).interval
        covered += low <= fresh <= high
    assert covered / worlds >= 0.85


def test_failed_models_are_left_out_of_the_means():
    signal, outputs = noisy_truth(noise=0.01)
    with_failures = outputs.copy()
    with_failures[::2, 3] = np.nan
    found, expected = (evaluate(signal, each, resamples=1).lds for each in (with_failures, outputs))
    assert found == pytest.approx(expected, abs=0.01)


def test_a_subset_with_one_trained_model_is_left_out():
    signal, outputs = noisy_truth()
    outputs[7, 1:] = np.nan
    found = evaluate(signal, outputs, resamples=1)
    assert found.subsets == 119
    assert found.lds == evaluate(np.delete(signal, 7, axis=0), np.delete(outputs, 7, axis=0), resamples=1).lds


def test_too_few_trained_models_are_told():
    signal, outputs = noisy_truth()
    outputs[2:, 1:] = np.nan
    with pytest.raises(NotReadyError, match="2 of 120 unseen subsets have two trained models"):
        evaluate(signal, outputs, resamples=1)


def test_subsets_that_do_not_count_for_a_target_change_nothing():
    signal, outputs = noisy_truth(models=20, noise=0.5)
    counts = np.random.default_rng(5).random(signal.shape) < 0.5
    spoilt = np.where(counts[:, None], outputs, 1000.0)
    found = evaluate(np.where(counts, signal, -1000.0), spoilt, counts=counts, resamples=1)
    assert found.lds == pytest.approx(evaluate(signal, outputs, resamples=1).lds, abs=0.02)
    for target in range(3):
        rows = counts[:, target]
        alone = evaluate(signal[rows, target, None], outputs[rows][:, :, target, None], resamples=1)
        assert found.per_target[target] == pytest.approx(alone.lds)


def test_a_target_that_no_subset_counts_for_is_not_scored():
    signal, outputs = noisy_truth()
    counts = np.ones(signal.shape, dtype=bool)
    counts[2:, 5] = False
    found = evaluate(signal, outputs, counts=counts, resamples=1)
    assert found.targets == 39 and np.isnan(found.per_target[5])
    others = np.delete(np.arange(40), 5)
    assert found.lds == pytest.approx(evaluate(signal[:, others], outputs[:, :, others], resamples=1).lds)
    again = from_document(json.loads(records.canonical(found.document())))
    np.testing.assert_array_equal(again.per_target, found.per_target)
    with pytest.raises(NotReadyError, match="no target"):
        evaluate(signal, outputs, counts=np.zeros(signal.shape, dtype=bool))


@pytest.mark.parametrize("predictions, outputs", [((5, 4), (5, 2, 3)), ((2, 4), (2, 2, 4)), ((5, 4), (5, 4))])
def test_shapes_that_do_not_fit_are_refused(predictions, outputs):
    with pytest.raises(InputError, match="must be"):
        evaluate(np.zeros(predictions), np.zeros(outputs))


def test_it_survives_the_trip_through_a_record():
    found = evaluate(*noisy_truth(), resamples=20)
    again = from_document(json.loads(records.canonical(found.document())))
    np.testing.assert_array_equal(again.per_target, found.per_target)
    assert (again.lds, again.interval, again.ceiling) == (found.lds, found.interval, found.ceiling)


def test_a_handful_of_subsets_leaves_an_lds_unsure():
    """Predictions are perfect, and so would be a few by chance."""
    few, enough = (evaluate(*noisy_truth(subsets=s, noise=0.0), resamples=20) for s in (5, 10))
    assert few.lds == pytest.approx(1) and few.interval[0] < 0.5 and few.interval[1] == pytest.approx(1)
    assert few.few and not enough.few and enough.interval == pytest.approx((1, 1))
