"""Compute the estimator `ridge`: for each target minimise, over theta in R^d and b in R,

    P(theta, b) = 1/(2 m_j) * sum_{i in rows_j} (x_i . theta + b - y_ij)^2  +  lambda_j / 2 * ||theta||^2

with rows_j as in `problem`. Its weights solve (G_j + lambda_j I) theta = c_j, with G_j the Gram of the centred masks of
rows_j and c_j their covariance with the outputs. One eigendecomposition of the Gram G of the rows to fit, G = V diag(s)
V', gives the weights at all lambdas: theta = V (V' c / (s + lambda)). If G_j is not G (in the last fit, which takes all
rows, and for training examples, which leave out their own rows), this is the preconditioner of conjugate gradients.
They then need few steps, because the masks have the same distribution. Beyond EIGEN_COLUMNS there is no preconditioner,
and every product streams over the rows.

The grid. If d weights of equal variance explain the fraction R^2 of an output by m rows, the best lambda is v (d / m)
(1 - R^2) / R^2, with v the mean curvature of G (Hoerl, Kennard and Baldwin 1975). The grid spans R^2 from 0.01 to 0.99:
v (d / m) times 100 down to 1 / 100. It is never 0. lambda is chosen on held-out rows, as for the LASSO.

The gap. The gradient of P at the best b is g = lambda theta - (c - G theta), and the Fenchel dual point of the
residuals gives the duality gap ||g||^2 / (2 lambda). As for the LASSO (`gap`), it is stated relative to the objective
at zero weights, and computed in float64 from the masks for the weights as they are saved: P is above its optimum by at
most this.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from datamodels.fit.contract.block import Arrays, BlockProgress, Tick
from datamodels.fit.contract.choice import Choice
from datamodels.fit.contract.targets import Targets
from datamodels.fit.data import means, moments
from datamodels.fit.data.covariance import Covariance
from datamodels.fit.data.means import Means
from datamodels.fit.data.problem import Solution
from datamodels.fit.data.rows import Rows, columns
from datamodels.fit.kernels import conjugate
from datamodels.run.specs import FitSpec

EIGEN_COLUMNS = 10_000
"""Most columns for an eigendecomposition: it takes minutes on one core, and 4 d^2 floats."""
WIDTH = 100.0
"""Largest lambda over the best one for an R^2 of one half, and that over the smallest."""
PATH_GAP = 0.1
"""Largest gap on the path over the tolerance. Conjugate gradients that stop early shrink weights as a larger lambda
does, and would be chosen for it."""
PATH_FLOOR = 1e-5
"""Smallest gap that the path aims at: held-out errors differ well before."""
REFIT_GAP = 0.25
"""Gap that the last fit aims at over the tolerance. Its gradients are float32; the certificate is float64."""


def grid(settings: FitSpec) -> np.ndarray:
    """Return float64[k]: lambdas over v d / m, going down by equal ratios."""
    k = settings.lambdas
    return np.geomspace(WIDTH, 1 / WIDTH, k) if k > 1 else np.ones(1)


def solve(
    rows: Rows, settings: FitSpec, first: int, last: int, *, seed: int, tick: Tick, resume: Arrays | None = None
) -> Solution:
    """Fit a block of targets; see `contract.block.Solve`. A block that is interrupted starts again."""
    targets = Targets.read(rows, first, last)
    if not len(targets.able):
        return targets.unfitted()
    y, keep = targets.columns(rows.whole)
    location = y.mean(axis=0, dtype=np.float64).astype(y.dtype)
    y = y - location
    fit, heldout = (means.of(rows, span, y, keep) for span in (rows.fit, rows.heldout))
    choice = _choose(_Equations(rows, rows.fit, keep, fit), settings, y, tick)
    whole = _Equations(rows, rows.whole, keep, fit + heldout)
    weights, gap = _refit(whole, settings, choice.chosen, tick)
    theta = weights.astype(np.float64)
    return targets.solution(
        weights,
        lambda_=choice.chosen,
        gap=gap,
        intercept=location + whole.level(theta) - theta @ rows.problem.center,
        heldout_r2=targets.heldout_r2(choice.best_error),
        tolerance=settings.tolerance,
    )


class _Equations:
    """The equations (G_j + lambda_j I) theta = c_j of a targets over a span of rows.

    right  float64[a, d]; the c_j
    zero   float64[a]; variances of the outputs, twice the objectives at zero weights
    """

    def __init__(self, rows: Rows, span: slice, keep: np.ndarray | None, found: Means):
        """`found` are the means over the span; keep bool[m, a] says which rows count, None that all do."""
        self.rows, self.span, self.keep, self.found = rows, span, keep, found
        self.right, self.zero = found.covariance, found.variance
        self._curvature = found.curvature(rows.problem.center)
        small = rows.problem.columns <= EIGEN_COLUMNS
        self._eigen = _eigen(rows) if small else None
        self._covariance = Covariance.of(rows, span, keep, found, gram=small)

    def unit(self) -> np.ndarray:
        """Return float64[a]: the best lambdas for an R^2 of one half."""
        total = self._curvature.sum(axis=1)
        return np.where(total > 0, total, 1) / self.found.count

    def neg_grad(self, theta: np.ndarray, lambda_: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return minus the gradient at theta [p, d], in its type."""
        product = self._covariance.multiply(theta, places) if theta.any() else 0
        return self.right[places].astype(theta.dtype) - product - lambda_[:, None].astype(theta.dtype) * theta

    def correction(self, neg_grad: np.ndarray, lambda_: np.ndarray, places: np.ndarray, gap: float, steps: int):
        """Return what to add to weights with this neg_grad [p, d] for a relative gap of at most `gap`."""
        found = conjugate.solve(
            lambda vectors, chosen: self._covariance.multiply(vectors, places[chosen]),
            self._precondition,
            neg_grad.astype(self.rows.dtype),
            lambda_,
            gap * lambda_ * self.zero[places],
            steps,
        )
        # The weight of a column that never varies is only rounding.
        return found * (self._covariance.of_targets(self._curvature, places) > 0)

    def gap(self, neg_grad: np.ndarray, lambda_: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return float64[p]: relative duality gaps of weights with this neg_grad [p, d]."""
        zero = self.zero[places]
        return np.einsum("ij,ij->i", neg_grad, neg_grad, dtype=np.float64) / (lambda_ * np.where(zero > 0, zero, 1))

    def level(self, theta: np.ndarray, places: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return float64[p]: the best intercepts for weights [p, d] of masks less `center`."""
        mean = self._covariance.of_targets(self.found.mean_masks, places)
        return self.found.mean[places] - np.einsum("ij,ij->i", theta, np.broadcast_to(mean, theta.shape))

    def _precondition(self, residual: np.ndarray, lambda_: np.ndarray) -> np.ndarray:
        if self._eigen is None:
            return residual
        values, vectors = self._eigen
        turned = residual @ vectors
        turned /= values + lambda_[:, None].astype(values.dtype)
        return turned @ vectors.T


def _choose(equations: _Equations, settings: FitSpec, y: np.ndarray, tick: Tick) -> Choice:
    """Walk all targets down their grids."""
    rows = equations.rows
    theta = np.zeros(equations.right.shape, dtype=rows.dtype)
    choice = Choice(grid(settings), equations.unit(), settings.patience)
    near = max(PATH_GAP * settings.tolerance, PATH_FLOOR)
    while choice.active:
        here = np.flatnonzero(~choice.done)
        tick(BlockProgress.on_path(choice.fraction, choice.mean_position))
        lambda_ = choice.current(here)
        neg_grad = equations.neg_grad(theta[here], lambda_, here)
        theta[here] += equations.correction(neg_grad, lambda_, here, near, settings.max_epochs)
        level = equations.level(theta[here], here)
        held, keep = columns(y[rows.heldout], here), equations.keep
        keep = None if keep is None else columns(keep[rows.heldout], here)
        error = means.heldout_error(rows, held, keep, theta[here], level)
        choice.record_error(here, error)
    return choice


def _refit(equations: _Equations, settings: FitSpec, lambda_: np.ndarray, tick: Tick) -> tuple[np.ndarray, np.ndarray]:
    """Return (weights float32[a, d], gaps float64[a]) at these lambdas, refined until the gaps are small enough."""
    a = len(lambda_)
    weights, gap, places = np.zeros(equations.right.shape, dtype=np.float32), np.zeros(a), np.arange(a)
    steps = settings.max_epochs
    while True:
        chosen, theta = lambda_[places], weights[places].astype(np.float64)
        neg_grad = equations.neg_grad(theta, chosen, places)
        gap[places] = equations.gap(neg_grad, chosen, places)
        far = gap[places] > settings.tolerance
        places = places[far]
        if not len(places) or not steps:
            return weights, gap
        tick(BlockProgress.in_refit(1 - len(places) / a, float(settings.lambdas - 1)))
        goal = REFIT_GAP * settings.tolerance
        correction = equations.correction(neg_grad[far], chosen[far], places, goal, steps)
        weights[places] = theta[far] + correction
        steps //= 2


def _eigen(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return (eigenvalues [d], at least 0, eigenvectors [d, d] as columns) of the Gram of the rows to fit."""

    def make() -> tuple[np.ndarray, np.ndarray]:
        values, vectors = linalg.eigh(moments.of_masks(rows).fit.gram, driver="evd")
        return np.maximum(values, 0), vectors

    return rows.once("eigen", make)
