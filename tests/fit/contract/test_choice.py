import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.fit.contract.choice import Choice


def by_one(errors: list[float], patience: int, signal: bool) -> tuple[int, int]:
    """(lambdas looked at, the best of them), by the rule as Ilyas et al. and the docstring say it, for one target."""
    rises = 0
    for k in range(len(errors)):
        rises = rises + 1 if k and errors[k] > errors[k - 1] else 0
        if rises == patience or not signal:
            break
    return k + 1, int(np.argmin(errors[: k + 1]))


@st.composite
def curves(draw):
    """(held-out errors float64[t, k], signal bool[t]); ties are common."""
    t, k = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    rows = st.lists(st.integers(0, 4), min_size=k, max_size=k)
    errors = np.array(draw(st.lists(rows, min_size=t, max_size=t)), dtype=float)
    return errors, np.array(draw(st.lists(st.booleans(), min_size=t, max_size=t)))


@given(curves(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_each_target_walks_its_own_path_whatever_the_others_do(found, patience, random):
    errors, signal = found
    t, k = errors.shape
    choice = Choice(np.linspace(1, 0.1, k), np.where(signal, np.arange(1.0, t + 1), 0), patience)
    looked_at = np.zeros(t, dtype=int)
    fractions = [choice.fraction]
    while choice.active:
        left = np.flatnonzero(~choice.done)
        some = np.array(sorted(random.sample(left.tolist(), random.randint(1, len(left)))))
        assert np.array_equal(choice.current(some), choice.top[some] * choice.grid[looked_at[some]])
        error = errors[some, looked_at[some]]
        best_before = choice.best_error[some].copy()
        assert np.array_equal(choice.record_error(some, error), error < best_before)
        looked_at[some] += 1
        fractions.append(choice.fraction)
    for j in range(t):
        length, best = by_one(errors[j].tolist(), patience, bool(signal[j]))
        assert (looked_at[j], choice.best[j], choice.best_error[j]) == (length, best, errors[j, best])
        assert choice.position[j] == length - 1
    assert np.array_equal(choice.chosen, choice.top * choice.grid[choice.best])
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_errors_that_are_no_numbers_are_never_the_best():
    choice = Choice(np.array([1.0, 0.5, 0.25]), np.ones(2), 3)
    both = np.arange(2)
    for error in ([np.nan, 2.0], [3.0, np.inf], [np.nan, 1.0]):
        choice.record_error(both, np.array(error))
    assert choice.done.all() and choice.best.tolist() == [1, 2]


@pytest.mark.parametrize("done", [0, 2, 5])
def test_a_restored_choice_goes_on_where_it_was(done):
    rng = np.random.default_rng(0)
    errors, grid = rng.integers(0, 3, size=(4, 8)).astype(float), np.geomspace(1, 0.1, 8)
    original, restored = Choice(grid, np.ones(4), 2), Choice(grid, np.ones(4), 2)
    for step in range(8):
        if step == done:
            restored.restore({name: array.copy() for name, array in original.arrays().items()})
        for choice in (original, restored)[: 1 + (step >= done)]:
            left = np.flatnonzero(~choice.done)
            choice.record_error(left, errors[left, choice.position[left]])
    assert all(np.array_equal(array, restored.arrays()[name]) for name, array in original.arrays().items())


def test_no_targets_are_no_work():
    choice = Choice(np.ones(3), np.zeros(0), 1)
    assert (choice.active, choice.fraction, choice.mean_position) == (0, 1.0, 0.0)
