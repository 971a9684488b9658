import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.fit.data import sums as sums_module
from datamodels.fit.data.problem import fold_of
from datamodels.fit.data.sums import Kept, Sums
from datamodels.fit.estimators.base import folds_of_sums, uses_sums
from datamodels.fit.memory import Size
from datamodels.fit.solve import fit
from datamodels.plan.fit import made_up
from datamodels.run.specs import FitSpec
from tests.fit.solutions import same

SETTINGS = FitSpec(solver="gram", lambdas=8, tolerance=1e-6, max_epochs=2000)


def half(made):
    return dataclasses.replace(made, outputs=made.outputs.astype(np.float16))


def summed(made, order=None, cuts=()):
    """The sums of a problem's rows, added in this order, cut into increments at these places."""
    order = np.arange(made.rows) if order is None else order
    total = Sums.empty(made.columns, made.n)
    for first, last in itertools.pairwise([0, *sorted(cuts), made.rows]):
        rows = order[first:last]
        total.add(made.masks[rows], made.outputs[rows], made.heldout[rows])
    return total


@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(1, 299), max_size=6, unique=True))
def test_sums_do_not_depend_on_the_order_or_the_increments(made_of_hypothesis, seed, cuts):
    made = made_of_hypothesis
    at_once, later = summed(made), summed(made, np.random.default_rng(seed).permutation(made.rows), cuts)
    move = later.shift - at_once.shift
    for a, b in ((at_once.fit, later.fit), (at_once.heldout, later.heldout)):
        assert a.rows == b.rows and np.array_equal(a.counts, b.counts)
        # Exact, for all that the shift is another one: not a bit of the products is rounded.
        assert np.array_equal(b.products + np.outer(move, np.diag(a.counts)), a.products)
        assert np.array_equal(b.total + move * a.rows, a.total)
    assert np.array_equal(at_once.low, later.low) and np.array_equal(at_once.high, later.high)


@pytest.fixture(scope="module")
def made_of_hypothesis():
    from datamodels.fit.data.problem import NO_COLUMN, Problem, is_heldout
    from datamodels.run import designs

    rng = np.random.default_rng(3)
    x = rng.random((300, 21)) < 0.5
    return Problem(
        masks=designs.pack(x),
        outputs=(rng.normal(size=(300, 4)) * [0.01, 1, 30, 1] + [0, 8, 900, -3]).astype(np.float16),
        columns=21,
        center=np.full(21, 0.5, dtype=np.float32),
        own_column=np.full(4, NO_COLUMN, dtype=np.int32),
        heldout=is_heldout(np.arange(300), 0.2),
    )


@pytest.mark.parametrize("holdout", [0.1, 0.5])
def test_a_fit_from_sums_in_increments_is_that_from_scratch(made_problem, holdout):
    scale, shift = np.geomspace(0.01, 100, 12), np.linspace(-800, 800, 12)
    made, _ = made_problem(d=40, m=500, n=12, scale=scale, shift=shift, holdout=holdout, pinned_in=(3,))
    made = half(made)
    scratch = fit(made, SETTINGS, 0)
    order = np.random.default_rng(1).permutation(made.rows)
    increments = fit(made, SETTINGS, 0, sums=summed(made, order, [20, 21, 350]))
    assert increments.status == scratch.status
    np.testing.assert_allclose(increments.lambda_, scratch.lambda_, rtol=1e-9)
    np.testing.assert_allclose(increments.heldout_r2, scratch.heldout_r2, atol=1e-6)
    size = np.abs(scratch.dense(range(12))).max(axis=1, keepdims=True) + 1e-9
    np.testing.assert_allclose(increments.dense(range(12)) / size, scratch.dense(range(12)) / size, atol=1e-6)
    np.testing.assert_allclose(increments.intercept, scratch.intercept, rtol=1e-6, atol=1e-6)


def unreadable(made):
    """The same problem, with rows that spoil everything that reads them."""
    outputs, masks = np.full_like(made.outputs, np.nan), np.full_like(made.masks, 255)
    return dataclasses.replace(made, outputs=outputs, masks=masks)


def test_a_fit_from_sums_reads_no_row(made_problem):
    made, _ = made_problem(d=40, m=500, n=3)
    made = half(made)
    whole = fit(made, SETTINGS, 0, sums=(sums := summed(made)))
    assert same(fit(unreadable(made), SETTINGS, 0, sums=sums), whole)


def with_folds(made, settings, cuts):
    """The sums that a choice is made from, added in increments."""
    assert uses_sums(made, settings)
    total, fold = Sums.empty(made.columns, made.n, folds_of_sums(settings)), fold_of(made.pairs)
    for first, last in itertools.pairwise([0, *cuts, made.rows]):
        rows = slice(first, last)
        total.add(made.masks[rows], made.outputs[rows], made.heldout[rows], fold=fold[rows])
    return total


@pytest.mark.parametrize("estimator, m, d", [("pooled", 400, 40), ("prior", 300, 40), ("prior", 900, 30)])
def test_a_choice_from_sums_is_that_from_the_rows_and_reads_none(estimator, m, d):
    """The LASSO with a lambda for each target holds out other rows without sums."""
    settings = FitSpec(estimator=estimator, lambdas=6)
    made = made_up(Size(m, d, 9), d, 9, settings)
    sums = with_folds(made, settings, cuts=(100, 101, 250))
    rows, found = fit(made, settings, 0), fit(made, settings, 0, sums=sums)
    assert found.status == rows.status == ["ok"] * 9
    errors, expected = (dict(solution.choice["errors"]) for solution in (found, rows))
    assert errors.pop("lasso") == pytest.approx(expected.pop("lasso"), rel=0.1)
    assert errors == pytest.approx(expected, abs=1e-4)
    assert found.choice["way"] == rows.choice["way"] != "lasso"
    np.testing.assert_allclose(found.dense(range(9)), rows.dense(range(9)), atol=2e-3)
    np.testing.assert_allclose(found.intercept, rows.intercept, atol=5e-3)
    np.testing.assert_allclose(found.heldout_r2, rows.heldout_r2, atol=1e-4)

    unread = fit(unreadable(made), settings, 0, sums=sums)
    assert same(unread, found)


def test_sums_of_folds_come_back_and_are_not_those_of_the_lasso(tmp_path):
    settings = FitSpec(estimator="pooled")
    made = made_up(Size(300, 20, 3), 20, 3, settings)
    sums = with_folds(made, settings, cuts=())
    Kept(tmp_path, "run", 0.1, 2).save(sums)
    found = Kept(tmp_path, "run", 0.1, 2).load([])
    assert Kept(tmp_path, "run", 0.1).load([]) is None
    for number in range(2):
        inside = fold_of(made.pairs) == number
        for ours, held in ((found.without(number), inside), (found.outside(number), made.heldout)):
            part = summed(dataclasses.replace(made, heldout=held | inside))
            assert ours.fit.rows == part.fit.rows and np.array_equal(ours.fit.counts, part.fit.counts)
            part = summed(dataclasses.replace(made, heldout=held))
            assert ours.heldout.rows == part.heldout.rows and np.array_equal(ours.heldout.counts, part.heldout.counts)
            move = np.outer(part.shift - ours.shift, np.diag(part.heldout.counts))
            np.testing.assert_allclose(ours.heldout.products, part.heldout.products + move, atol=1e-9)


def test_targets_that_cannot_be_fitted_have_the_same_status_from_sums(made_problem):
    made, _ = made_problem(d=30, m=300, n=6)
    outputs = made.outputs.astype(np.float16)
    outputs[:, 1] = 3.25
    outputs[0, 2] = np.nan
    outputs[170, 3] = np.inf
    outputs[:, 4] = np.nan
    made = dataclasses.replace(made, outputs=outputs)
    scratch, increments = fit(made, SETTINGS, 0), fit(made, SETTINGS, 0, sums=summed(made, cuts=[100]))
    assert increments.status == scratch.status == ["ok", "constant", "not_finite", "not_finite", "not_finite", "ok"]
    assert increments.intercept[1] == 3.25 and np.isnan(increments.heldout_r2[1])


@pytest.mark.parametrize("m", [1, 2, 3])
def test_hardly_any_rows(made_problem, m):
    made, _ = made_problem(d=30, m=m, n=2)
    outputs = np.arange(2 * m, dtype=np.float16).reshape(m, 2)
    made = dataclasses.replace(made, outputs=outputs, heldout=np.arange(m) == m - 1)
    assert fit(made, SETTINGS, 0, sums=summed(made)).status == (["ok"] * 2 if m == 3 else ["no_rows"] * 2)


def test_a_run_of_own_subsets_is_fitted_from_its_rows(made_problem):
    """Whose own subsets are left out have sums of their own; they do not come from these."""
    made, _ = made_problem(d=30, m=300, n=3, own=[-1, 4, -1])
    made = half(made)
    loose = FitSpec(solver="gram", lambdas=6)
    assert np.array_equal(fit(made, loose, 0, sums=summed(made)).weights, fit(made, loose, 0).weights)


PARTS = [("a", "1" * 64), ("b", "2" * 64)]


def test_kept_sums_come_back_to_the_bit(made_problem, tmp_path):
    made, _ = made_problem(d=20, m=100, n=3)
    sums = dataclasses.replace(summed(half(made)), parts=frozenset(PARTS))
    Kept(tmp_path, "run", 0.1).save(sums)
    found = Kept(tmp_path, "run", 0.1).load([*PARTS, ("c", "3" * 64)])
    assert found.parts == frozenset(PARTS) and found.rows == 100
    for a, b in ((sums.fit, found.fit), (sums.heldout, found.heldout)):
        assert all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))
    assert np.array_equal(sums.shift, found.shift) and np.array_equal(sums.finite, found.finite)


def test_sums_of_a_part_that_is_gone_or_changed_are_not_used(made_problem, tmp_path):
    made, _ = made_problem(d=20, m=100, n=3)
    Kept(tmp_path, "run", 0.1).save(dataclasses.replace(summed(half(made)), parts=frozenset(PARTS)))
    assert Kept(tmp_path, "run", 0.1).load(PARTS[:1]) is None
    assert Kept(tmp_path, "run", 0.1).load([PARTS[0], ("b", "4" * 64)]) is None
    assert Kept(tmp_path, "other", 0.1).load(PARTS) is None
    assert Kept(tmp_path, "run", 0.2).load(PARTS) is None, "other models are held out"
    assert Kept(tmp_path / "none", "run", 0.1).load(PARTS) is None
    assert Kept(None, "run", 0.1).load(PARTS) is None


@given(draw=st.data(), how=st.sampled_from(["cut", "flip"]))
def test_a_torn_or_flipped_file_is_never_trusted(kept_file, draw, how):
    folder, data, sums = kept_file
    place = draw.draw(st.integers(0, len(data) - 1))
    torn = data[:place] if how == "cut" else data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]
    (folder / "sums.npz").write_bytes(torn)
    found = Kept(folder, "run", 0.1).load(PARTS)
    # Some bytes of a zip file mean nothing; whatever is read must be what was written.
    assert found is None or np.array_equal(found.fit.products, sums.fit.products)


@pytest.fixture(scope="module")
def kept_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    rng = np.random.default_rng(0)
    sums = Sums.empty(12, 2)
    sums.add(
        rng.integers(0, 256, (50, 2), dtype=np.uint8) & np.uint8([255, 15]), rng.random((50, 2)), np.arange(50) % 5 == 0
    )
    Kept(folder, "run", 0.1).save(dataclasses.replace(sums, parts=frozenset(PARTS)))
    return folder, (folder / "sums.npz").read_bytes(), sums


def test_sums_that_would_take_too_much_memory_are_not_made():
    assert sums_module.fits(1400, 397) and not sums_module.fits(50_000, 10)
    assert not sums_module.fits(20_000, 60_000)
