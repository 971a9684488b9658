import numpy as np
import pytest
from sklearn.linear_model import Lasso

from datamodels.fit.data import problem
from datamodels.testing import reference


@pytest.mark.parametrize("fraction", [0.9, 0.3, 0.05, 0.01])
def test_agrees_with_scikit_learn(fraction, made_problem):
    made, _ = made_problem(d=40, m=200, n=1)
    x, y = reference.design_of(made, 0)
    lambda_ = fraction * reference.lambda_max(x, y)
    theta, intercept, gap = reference.lasso(x, y, lambda_)
    peer = Lasso(alpha=lambda_, tol=1e-12, max_iter=1_000_000).fit(x, y)
    assert gap <= 1e-12
    assert np.abs(theta - peer.coef_).max() < 1e-5
    assert abs(intercept - peer.intercept_) < 1e-4
    found, expected = (
        reference.objective(x, y, *model, lambda_) for model in ((theta, intercept), (peer.coef_, peer.intercept_))
    )
    assert found <= expected * (1 + 1e-10)


def test_lambda_max_is_where_the_first_weight_appears(made_problem):
    made, _ = made_problem(d=40, m=200, n=1)
    x, y = reference.design_of(made, 0)
    top = reference.lambda_max(x, y)
    assert not reference.lasso(x, y, top * (1 + 1e-9))[0].any()
    assert np.count_nonzero(reference.lasso(x, y, top * 0.999)[0]) == 1


def test_rows_that_count(made_problem):
    made, x = made_problem(d=40, m=200, n=2, own=[problem.NO_COLUMN, 7])
    everything, y = reference.design_of(made, 0)
    assert np.array_equal(everything, x) and len(y) == 200
    without_own, y = reference.design_of(made, 1, heldout=False)
    counts = ~x[:, 7] & ~made.heldout
    assert np.array_equal(without_own, x[counts])
    assert np.array_equal(y, made.outputs[counts, 1].astype(np.float64))
