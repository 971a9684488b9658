import dataclasses

import numpy as np
import pytest

from datamodels.errors import SpecError
from datamodels.train.images import recipe
from datamodels.train.images.recipe import FAST, PAPER


def test_the_rate_rises_and_falls_by_straight_lines():
    found = recipe.rates(dataclasses.replace(PAPER, learning_rate=2.0, peak=0.25), 8)
    np.testing.assert_allclose(found, [0.5, 1.5, 11 / 6, 1.5, 7 / 6, 5 / 6, 0.5, 1 / 6], rtol=1e-6)
    for peak in (0.0, 1.0):
        slope = np.diff(recipe.rates(dataclasses.replace(PAPER, peak=peak), 8))
        assert (slope < 0).all() if peak == 0 else (slope > 0).all()


@pytest.mark.parametrize(
    ("members", "expected"), [(25_000, (1171, 512)), (512, (24, 512)), (100, (24, 100)), (1, (24, 1))]
)
def test_a_subset_smaller_than_a_minibatch_still_has_its_epochs(members, expected):
    assert recipe.steps(PAPER, members) == expected


def test_every_fault_is_told_with_what_is_allowed():
    with pytest.raises(SpecError) as caught:
        dataclasses.replace(
            FAST,
            epochs=0,
            batch_size=0,
            learning_rate=0.0,
            peak=2.0,
            momentum=1.0,
            weight_decay=-1.0,
            label_smoothing=1.0,
            flip="often",
        )
    assert [fault.split(" ")[0] for fault in caught.value.faults] == [
        f"trainer.options.{name}"
        for name in (
            "epochs",
            "batch_size",
            "learning_rate",
            "peak",
            "momentum",
            "weight_decay",
            "label_smoothing",
            "flip",
        )
    ]
    assert "flip = 'often': must be none, random or alternate" in str(caught.value)
