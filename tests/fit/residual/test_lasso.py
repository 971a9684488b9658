"""The LASSO on what a prior mean leaves of the outputs: by the rows, the same as from the Gram."""

import numpy as np
import pytest

from datamodels.fit.data.problem import OK
from datamodels.fit.data.rows import Rows
from datamodels.fit.lasso import gram
from datamodels.fit.residual import lasso
from datamodels.fit.residual.sample import Sample, read_targets
from datamodels.run.specs import FitSpec

D, M, TARGETS = 30, 200, 6
SETTINGS = FitSpec(estimator="prior", tolerance=1e-6, max_epochs=5000)


@pytest.fixture
def fitted(made_problem, monkeypatch):
    """Returns what `solve` and `walk` find, from the Gram or by the rows, beside a prior or without."""
    made, _ = made_problem(d=D, m=M, n=TARGETS, scale=2.0, shift=-3.0, noise=0.5, pinned_in=(4,))
    prior = np.random.default_rng(1).standard_t(3, size=(TARGETS, D)) * 0.3
    prior[:, 4] = 0
    monkeypatch.setattr(lasso, "GAP", 1e-6)

    def find(by_rows, beside):
        with monkeypatch.context() as patch:
            if by_rows:
                patch.setattr(gram, "GRAM_BYTES", 0)
            targets = read_targets(Rows(made, dtype=np.float64), 0, TARGETS)
            sample = Sample(targets)
            assert lasso.by_gram(sample.rows) != by_rows
            given = prior if beside else None
            classes = np.zeros(D, dtype=np.int64)
            solution = lasso.solve(targets, sample, (given, given), 0.2, SETTINGS, lambda: None, classes=classes)
            return solution, list(lasso.walk(sample, given, SETTINGS, lambda: None))

    return find


@pytest.mark.parametrize("beside", [True, False], ids=["beside a prior", "without"])
def test_the_rows_give_what_the_gram_gives(fitted, beside):
    (by_gram, walked), (by_rows, streamed) = fitted(False, beside), fitted(True, beside)
    assert by_gram.status == by_rows.status == [OK] * TARGETS and (by_rows.gap <= SETTINGS.tolerance).all()
    np.testing.assert_allclose(by_rows.lambda_, by_gram.lambda_, rtol=1e-6)
    np.testing.assert_allclose(by_rows.dense(range(TARGETS)), by_gram.dense(range(TARGETS)), atol=2e-3)
    np.testing.assert_allclose(by_rows.intercept, by_gram.intercept, atol=5e-3)
    np.testing.assert_allclose(by_rows.heldout_r2, by_gram.heldout_r2, atol=0.01)
    assert (by_rows.measured is not None) == beside
    assert [fraction for fraction, _ in walked] == [fraction for fraction, _ in streamed]
    for (_, one), (_, other) in zip(walked, streamed, strict=True):
        np.testing.assert_allclose(other.error, one.error, rtol=0.01)
        np.testing.assert_allclose(other.correlation, one.correlation, atol=0.01)


def test_what_is_not_solved_says_why():
    assert lasso.unable(1_000_000, 20_000, 4, leave_out=False) == ""
    assert lasso.unable(20_000, 50_000, 4, leave_out=False) == "", "by the rows"
    assert lasso.unable(30_000, 50_000, 4, leave_out=False) == "30,000 models on 50,000 columns"
    assert lasso.unable(100, 1_000, 4, leave_out=True) == "targets are training examples"
