"""Differences of means against explicit means, and against least squares over all subsets there are."""

import dataclasses
import itertools

import numpy as np
import pytest

from datamodels.fit.data.problem import NO_COLUMN, Problem
from datamodels.fit.solve import fit
from datamodels.run.specs import FitSpec
from datamodels.testing import reference

DIFFERENCE = FitSpec(estimator="difference")
INFLUENCE = FitSpec(estimator="influence")


def census(strata: list[tuple[int, int]], pinned: int, own: list[int], seed=0) -> Problem:
    """Every subset of a design once: of each stratum of so many columns so many members; then pinned columns, in.

    The outputs are no linear function of the masks, so that the best linear one is told from any other.
    """
    d = sum(size for size, _ in strata) + pinned
    parts = []
    for size, drawn in strata:
        parts.append([np.isin(np.arange(size), c) for c in itertools.combinations(range(size), drawn)])
    masks = np.array([np.concatenate([*chosen, np.ones(pinned, bool)]) for chosen in itertools.product(*parts)])
    rng = np.random.default_rng(seed)
    outputs = masks @ rng.normal(size=(d, len(own))) + np.sin(7 * masks @ rng.normal(size=(d, len(own))))
    outputs[:, 0] += 3 * masks[:, 0] * masks[:, 1]
    return Problem(
        masks=np.packbits(masks, axis=1, bitorder="little"),
        outputs=outputs.astype(np.float32),
        columns=d,
        center=masks.mean(axis=0).astype(np.float32),
        own_column=np.array(own, dtype=np.int32),
        heldout=np.arange(len(masks)) % 5 == 0,
        stratum=np.concatenate([np.full(size, g) for g, (size, _) in enumerate(strata)] + [np.full(pinned, -1)]),
    )


@pytest.mark.parametrize("strata", [[(9, 4)], [(6, 3), (4, 1), (5, 2)]])
def test_over_all_subsets_it_is_least_squares(strata):
    """The scale is exact: the pseudo-inverse finds the least squares of smallest norm."""
    made = census(strata, pinned=1, own=[NO_COLUMN, 2, 7, NO_COLUMN])
    solution = fit(made, DIFFERENCE, 0)
    assert solution.status == ["ok"] * 4
    for j in range(4):
        x, y = reference.design_of(made, j)
        best = np.linalg.pinv(x - x.mean(axis=0), rcond=1e-9) @ (y - y.mean())
        np.testing.assert_allclose(solution.dense([j])[0], best, atol=1e-5)
        assert solution.intercept[j] == pytest.approx(y.mean() - x.mean(axis=0) @ best, abs=1e-4)


@pytest.mark.parametrize("own", [None, [3, -1, 0]])
def test_it_is_the_difference_of_means_rescaled(made_problem, own):
    made, _ = made_problem(d=20, m=500, n=3, own=own, pinned_in=(5,), pinned_out=(11,), scale=4.0, shift=30.0)
    solution = fit(made, DIFFERENCE, 0)
    for j in range(3):
        x, y = reference.design_of(made, j)
        peers = 17 if own and own[j] >= 0 else 18
        expected = np.zeros(20)
        for c in range(20):
            if 0 < x[:, c].mean() < 1:
                expected[c] = (peers - 1) / peers * (y[x[:, c] == 1].mean() - y[x[:, c] == 0].mean())
        np.testing.assert_allclose(solution.dense([j])[0], expected, atol=1e-4)
        predictions = x @ expected + solution.intercept[j]
        assert predictions.mean() == pytest.approx(y.mean(), abs=1e-3)
    assert not np.isin([5, 11], solution.columns).any()
    assert not solution.gap.any() and not solution.lambda_.any()


@pytest.mark.parametrize("own", [None, [3, -1, 0]])
def test_influence_is_a_difference_of_shares_of_right_models(made_problem, own):
    made, _ = made_problem(d=20, m=600, n=3, own=own)
    solution = fit(made, INFLUENCE, 0)
    for j in range(3):
        x, y = reference.design_of(made, j)
        right = y > 0
        expected = [right[x[:, c] == 1].mean() - right[x[:, c] == 0].mean() if x[:, c].any() else 0 for c in range(20)]
        np.testing.assert_allclose(solution.dense([j])[0], expected, atol=1e-6)


def test_influence_counts_models_above_the_threshold(made_problem):
    made, _ = made_problem(d=20, m=600, n=1)
    shifted = dataclasses.replace(made, outputs=made.outputs + np.float32(3), threshold=3.0)
    np.testing.assert_allclose(fit(shifted, INFLUENCE, 0).dense([0]), fit(made, INFLUENCE, 0).dense([0]), atol=1e-6)


def test_a_target_that_models_always_get_right_has_no_influence(made_problem):
    made, _ = made_problem(d=20, m=200, n=2)
    made = dataclasses.replace(made, outputs=made.outputs + np.array([1000, 0], dtype=np.float32))
    solution = fit(made, INFLUENCE, 0)
    assert solution.status == ["constant", "ok"]
    assert solution.intercept[0] == 1 and not len(solution.row(0)[0])


def test_heldout_r2_is_of_the_rows_to_fit(made_problem):
    made, _ = made_problem(d=20, m=2000, n=2, noise=0.3)
    solution = fit(made, DIFFERENCE, 0)
    for j in range(2):
        x, y = reference.design_of(made, j, heldout=False)
        theta = 19 / 20 * np.array([y[x[:, c] == 1].mean() - y[x[:, c] == 0].mean() for c in range(20)])
        x_held, y_held = reference.design_of(made, j, fit=False)
        miss = y_held - y.mean() - (x_held - x.mean(axis=0)) @ theta
        assert solution.heldout_r2[j] == pytest.approx(1 - (miss**2).mean() / y_held.var(), abs=1e-4)
        assert solution.heldout_r2[j] > 0.8


def test_noise_falls_as_the_number_of_models_grows(made_problem):
    """Weights of different numbers of models differ by noise of the expected size alone: 2 sd(y) / sqrt(m)."""
    many, few = (fit(made_problem(d=20, m=m, n=1, noise=1.0)[0], DIFFERENCE, 0).dense([0])[0] for m in (40_000, 1000))
    assert 0.3 < np.abs(many - few).std() / (2 * np.sqrt(2) / np.sqrt(1000)) < 2
