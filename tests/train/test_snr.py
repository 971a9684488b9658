import math

import numpy as np
import pytest

from datamodels.errors import InputError
from datamodels.train.snr import additive, signal_to_noise


def outputs(ratio, subsets, seeds, targets=20, seed=0):
    """Draw normal outputs whose variance between subsets is `ratio` times that between seeds; noise varies."""
    generator = np.random.default_rng(seed)
    scale = np.linspace(0.5, 2, targets)
    signal = generator.standard_normal((subsets, 1, targets)) * math.sqrt(ratio)
    return (signal + generator.standard_normal((subsets, seeds, targets))) * scale + 7


@pytest.mark.parametrize("ratio", [0.2, 3.0, 20.0])
def test_the_ratio_is_found_and_its_interval_covers_it(ratio):
    found = [signal_to_noise(outputs(ratio, subsets=12, seeds=4, seed=seed)) for seed in range(200)]
    assert np.mean([f.ratio for f in found]) == pytest.approx(ratio, rel=0.1)
    covered = np.mean([f.interval[0] <= ratio <= f.interval[1] for f in found])
    assert 0.88 <= covered <= 1
    assert all(f.interval[0] < f.ratio < f.interval[1] or f.ratio == 0 for f in found)


def test_more_subsets_tell_more():
    few, many = (signal_to_noise(outputs(3, subsets, 4)) for subsets in (10, 200))
    assert np.diff(many.interval) < np.diff(few.interval) / 2
    assert (many.subsets, many.seeds) == (200, 4)


def test_outputs_that_the_subset_does_not_move_have_none():
    found = signal_to_noise(outputs(0, 100, 4))
    assert found.ratio < 0.05 and found.interval[0] == 0


def test_a_seed_that_changes_nothing_leaves_no_noise():
    found = signal_to_noise(np.repeat(outputs(1, 10, 1), 4, axis=1))
    assert found.ratio == math.inf and found.interval == (math.inf, math.inf)


@pytest.mark.parametrize("shape", [(2, 4, 3), (5, 1, 3), (5, 4), (5, 4, 0)])
def test_too_few_outputs_are_refused(shape):
    with pytest.raises(InputError, match="s >= 3 subsets, r >= 2 seeds"):
        signal_to_noise(np.ones(shape))


@pytest.mark.parametrize(
    ("single", "pairs", "middle"),
    [(1.0, 0.0, 1.0), (0.5, 0.5, 0.625), (0.5, 0.0, 0.25), (0.0, 0.0, 0.0)],
)
def test_what_single_examples_add_up_to_is_within_its_interval(single, pairs, middle):
    """The rest of the variance comes from large groups, so that outputs of two subsets have nothing in common in it.

    At a correlation of 1/2, half of what single examples explain is in common, and a quarter of what pairs do.
    """
    found = [additive(*_of_groups(single, pairs, np.random.default_rng(seed))) for seed in range(60)]
    assert np.mean([f.share for f in found]) == pytest.approx(middle, abs=0.1)
    assert np.mean([f.interval[0] <= single <= f.interval[1] for f in found]) >= 0.9
    assert all(0 <= f.interval[0] <= f.share <= f.interval[1] <= 1 for f in found)


def _of_groups(single, pairs, generator):
    """Return outputs of 4 models on each of 40 subsets, and of 2 on subsets near to these, with these variances."""
    mask = generator.choice([-1, 1], (40, 30))
    near = np.where(generator.random(mask.shape) < 0.5, mask, generator.choice([-1, 1], mask.shape))
    one, two = generator.normal(size=(2, 30, 20)) / math.sqrt(30)
    found = []
    for masks, models in ((mask, 4), (near, 2)):
        known = math.sqrt(single) * masks @ one + math.sqrt(pairs) * (masks * np.roll(masks, 1, axis=1)) @ two
        whole = known + math.sqrt(1 - single - pairs) * generator.normal(size=known.shape)
        found.append(whole[:, None] + generator.normal(size=(len(masks), models, 20)))
    return found
