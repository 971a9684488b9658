"""Random problems and those that once failed, for all solvers of the LASSO; and that the check sees what is wrong."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.fit.solve import fit
from tests.fit import search
from tests.helpers.properties import examples

SEEDS = st.integers(0, 2**48 - 1)


@given(SEEDS)
def test_gram_solves_any_problem_or_says_why_not(seed):
    assert not search.faults(search.made(seed, solver="gram"))


@examples(10)
@given(SEEDS, st.sampled_from(["stream", "saga"]))
def test_the_others_solve_any_problem_or_say_why_not(seed, solver):
    assert not search.faults(search.made(seed, solver=solver))


@pytest.mark.parametrize("file", sorted(search.CASES.glob("*.npz")), ids=lambda file: file.stem)
def test_problems_that_once_failed(file):
    assert not search.faults(search.Case.load(file))


def test_a_case_is_the_same_when_it_is_loaded(tmp_path):
    case = search.made(3)
    case.save(tmp_path / "case.npz")
    loaded = search.Case.load(tmp_path / "case.npz")
    assert loaded.settings == case.settings and loaded.problem.columns == case.problem.columns
    for name in search.ARRAYS:
        assert np.array_equal(getattr(loaded.problem, name), getattr(case.problem, name))


@pytest.fixture(scope="module")
def solved():
    """A case all of whose targets are solved, and the solution."""
    case = next(case for case in map(search.made, range(100)) if case.problem.n > 2 and case.settings.solver == "gram")
    return case, fit(case.problem, case.settings, 0, threads=1)


def test_the_check_accepts_what_is_right(solved):
    assert set(solved[1].status) == {"ok"} and not search.check(*solved)


@pytest.mark.parametrize(
    "name, change, fault",
    [
        ("status", lambda status: ["no_signal"] * len(status), "the status must be ok"),
        ("status", lambda status: ["not_converged"] * len(status), "the status must be ok"),
        ("gap", lambda gap: np.ones(len(gap)), "above the tolerance"),
        ("lambda_", lambda lambda_: 1.02 * lambda_, "not on the path"),
        ("weights", lambda weights: 1.2 * weights, "on average"),
        ("intercept", lambda intercept: intercept + 0.1, "on average"),
    ],
)
def test_the_check_sees_what_is_wrong(solved, name, change, fault):
    case, solution = solved
    wrong = dataclasses.replace(solution, **{name: change(getattr(solution, name))})
    assert any(fault in found for found in search.check(case, wrong))


def test_the_check_sees_weights_that_are_not_the_best(solved):
    """With the intercept that is best for them, and the gap that the solution claims."""
    case, solution = solved
    halved = dataclasses.replace(solution, weights=solution.weights / 2)
    for j in range(case.problem.n):
        x, y = search.reference.design_of(case.problem, j)
        halved.intercept[j] = (y - x @ halved.dense([j])[0]).mean()
    assert any("above the optimum" in found for found in search.check(case, halved))


def test_a_search_ends_at_the_first_fault():
    """A solver of which too much is asked: one step for each lambda."""
    seed, case, wrong = search.first_fault(range(50), solver="gram", tolerance=1e-6, max_epochs=1)
    assert wrong == search.faults(case) and "the status must be ok" in wrong[0]
    assert search.first_fault(range(seed), solver="gram", tolerance=1e-6, max_epochs=1) is None


def test_a_search_without_fault(capsys):
    assert search.main(["--problems", "3", "--first", "0", "--solver", "gram"]) == 0
    assert capsys.readouterr().out == "no fault in 3 problems\n"
