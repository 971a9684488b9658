"""Augmentation against plain NumPy, image by image."""

import dataclasses

import numpy as np
import pytest
import torch

from datamodels.train.images import augment
from datamodels.train.images.recipe import FAST, PAPER, steps

SIZE = (9, 12)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(recipe, members, seed=0):
    return augment.draw(recipe, members, *steps(recipe, members), SIZE, generator(seed))


def varied(image, flip, down, right, pad):
    """Mirror one image, then move it within its reflection."""
    height, width = image.shape[:2]
    image = image[:, ::-1] if flip else image
    wide = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    return wide[pad - down : pad - down + height, pad - right : pad - right + width]


def test_images_are_those_of_plain_numpy():
    recipe = dataclasses.replace(PAPER, batch_size=16, epochs=2, translate=4, cutout=5)
    x = np.random.default_rng(1).integers(0, 256, (40, *SIZE, 3), dtype=np.uint8)
    draws = drawn(recipe, 40)
    for step in range(len(draws.position)):
        index, flip, down, right, top, left = (
            getattr(draws, field.name)[step] for field in dataclasses.fields(augment.Draws)
        )
        found = augment.gather(torch.from_numpy(x), index, flip, down, right).numpy()
        keep = augment.kept(top, left, recipe.cutout, SIZE).numpy()
        assert found.dtype == np.uint8
        for row, example in enumerate(index.tolist()):
            expected = varied(x[example], bool(flip[row]), int(down[row]), int(right[row]), 4)
            np.testing.assert_array_equal(found[row], expected)
            blank = np.ones(SIZE, dtype=bool)
            t, s = int(top[row]), int(left[row])
            blank[max(0, t) : t + 5, max(0, s) : s + 5] = False
            np.testing.assert_array_equal(keep[row, :, :, 0], blank)


def test_every_epoch_has_every_member_once_in_a_new_order():
    recipe = dataclasses.replace(PAPER, batch_size=7, epochs=5)
    order = drawn(recipe, 21).position.reshape(5, 21)
    assert all(sorted(epoch) == list(range(21)) for epoch in order.tolist())
    assert len({tuple(epoch) for epoch in order.tolist()}) == 5


def test_minibatches_may_span_epochs_and_leave_out_less_than_one():
    recipe = dataclasses.replace(PAPER, batch_size=8, epochs=5)
    position = drawn(recipe, 21).position
    assert position.shape == (13, 8)
    assert sorted(position.reshape(-1)[:21].tolist()) == list(range(21))
    counts = np.bincount(position.reshape(-1).numpy())
    assert counts.min() >= 4 and counts.sum() == 104


def test_flips_alternate_or_are_a_coin_or_none():
    recipe = dataclasses.replace(FAST, batch_size=10, epochs=4)
    draws = drawn(recipe, 50)
    by_member = np.empty((4, 50), dtype=int)
    position, flip = draws.position.reshape(4, 50).numpy(), draws.flip.reshape(4, 50).numpy()
    np.put_along_axis(by_member, position, flip, axis=1)
    assert (by_member[0] == by_member[2]).all() and (by_member[0] != by_member[1]).all()
    assert 10 < by_member[0].sum() < 40
    assert drawn(dataclasses.replace(recipe, flip="none"), 50).flip.sum() == 0
    coin = drawn(dataclasses.replace(recipe, flip="random"), 50).flip
    assert 60 < coin.sum() < 140


def test_draws_cover_their_range_and_come_from_the_seed():
    recipe = dataclasses.replace(PAPER, batch_size=50, epochs=40, translate=2, cutout=4)
    draws, again, other = drawn(recipe, 100, 1), drawn(recipe, 100, 1), drawn(recipe, 100, 2)
    assert set(draws.down.unique().tolist()) == set(draws.right.unique().tolist()) == {-2, -1, 0, 1, 2}
    assert (draws.top.min(), draws.top.max()) == (-2, SIZE[0] - 3)
    assert (draws.left.min(), draws.left.max()) == (-2, SIZE[1] - 3)
    for field in dataclasses.fields(augment.Draws):
        name = field.name
        assert torch.equal(getattr(draws, name), getattr(again, name))
        assert not torch.equal(getattr(draws, name), getattr(other, name))


@pytest.mark.parametrize("down", [-3, 0, 3])
def test_what_is_moved_in_is_the_border_reflected(down):
    x = torch.arange(5, dtype=torch.uint8).reshape(1, 5, 1, 1)
    zero = torch.zeros(1, dtype=torch.int64)
    found = augment.gather(x, zero, zero, torch.tensor([down]), zero).flatten().tolist()
    assert found == {-3: [3, 4, 3, 2, 1], 0: [0, 1, 2, 3, 4], 3: [3, 2, 1, 0, 1]}[down]
