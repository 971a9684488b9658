"""Compute the estimators `difference` and `influence`: compare models with each column with models without it.

    difference_c = mean of y over the rows with column c  -  mean of y over the rows without column c

For `influence`, the definition of Feldman and Zhang (2020, equation 2), y is 1 if the model is right (its margin is
above 0) and 0 if not. The difference of the two shares is the weight. For another output, y is 1 if the output is above
its threshold, so that the weights have the direction of the output: if lower is better, y is 1 if the model is wrong.

For `difference`, y is the output, and the differences are rescaled. Ilyas et al. (2022) show that differences of means
are the least-squares datamodel of infinitely many models, up to a scale. The scale, if each subset holds exactly k of
the d columns: with a column in a subset, each other one is in it with probability (k - 1) / (d - 1), without it with
k / (d - 1). So for outputs y = theta . x + noise the difference estimates theta_c - sum_{c' != c} theta_c' / (d - 1),
which is d / (d - 1) (theta_c - mean(theta)). The mean of the weights changes no prediction, because theta . 1 = k
mean(theta) is part of the intercept; in the least-squares solution of smallest norm it is 0. Hence

    theta_c = (d - 1) / d * difference_c

In other words: the covariance of the masks is alpha (1 - alpha) d / (d - 1) (I - 11'/d), and theta is its
pseudo-inverse times the covariance of masks and outputs. A stratified design has one such block for each stratum, with
the number of columns of the stratum in place of d. Pinned columns never vary and have no weight. If a target is a
training example, it leaves out the rows with its own column, which is then missing from its stratum.

No lambda is chosen and nothing iterates: lambda and gap are 0. With few models, the weights are unbiased but noisy,
because the effects of all other columns are noise in each weight. Predictions may then rank well although they are not
close: held-out R^2 may be far below 0.
"""

from __future__ import annotations

import numpy as np

from datamodels.fit.contract.block import Arrays, BlockProgress, Tick
from datamodels.fit.contract.targets import Targets
from datamodels.fit.data import means
from datamodels.fit.data.means import Means
from datamodels.fit.data.problem import NO_COLUMN, Problem, Solution
from datamodels.fit.data.rows import Rows
from datamodels.run.specs import FitSpec


def solve(
    rows: Rows, settings: FitSpec, first: int, last: int, *, seed: int, tick: Tick, resume: Arrays | None = None
) -> Solution:
    """Fit a block of targets by rescaled differences of mean outputs; see `contract.block.Solve`."""
    targets = Targets.read(rows, first, last)
    return _solve(targets, rescaling(rows.problem, targets.numbers), tick)


def solve_shares(
    rows: Rows, settings: FitSpec, first: int, last: int, *, seed: int, tick: Tick, resume: Arrays | None = None
) -> Solution:
    """Fit a block of targets by differences of the shares of models above the threshold; see `contract.block.Solve`."""
    outputs = rows.outputs(first, last)
    above = np.where(np.isfinite(outputs), outputs > rows.problem.threshold, outputs).astype(rows.dtype)
    return _solve(Targets.of(rows, first, above, rows.keep(first, last)), 1.0, tick)


def _solve(targets: Targets, scale: np.ndarray | float, tick: Tick) -> Solution:
    """Fit targets by differences times a scale, [t, d] or a number."""
    tick(BlockProgress("refit", 0.0, 0.0))
    if not len(targets.able):
        return targets.unfitted()
    rows = targets.rows
    y, keep = targets.columns(rows.whole)
    location = y.mean(axis=0, dtype=np.float64)
    fit, heldout = (means.of(rows, span, y - location, keep) for span in (rows.fit, rows.heldout))
    theta = scale * differences(fit, rows.problem.center)
    level = fit.mean - np.einsum("ij,ij->i", theta, np.broadcast_to(fit.mean_masks, theta.shape))
    error = means.heldout_error(
        rows, (y - location)[rows.heldout], None if keep is None else keep[rows.heldout], theta, level
    )
    whole = fit + heldout
    weights = (scale * differences(whole, rows.problem.center)).astype(np.float32)
    used = weights.astype(np.float64)
    mean = np.broadcast_to(whole.mean_masks + rows.problem.center, used.shape)
    nothing = np.zeros(len(weights))
    return targets.solution(
        weights,
        lambda_=nothing,
        gap=nothing,
        intercept=location + whole.mean - np.einsum("ij,ij->i", used, mean),
        heldout_r2=targets.heldout_r2(error),
    )


def differences(found: Means, center: np.ndarray) -> np.ndarray:
    """Return float64[a, d]: mean output with each column minus the mean without it; 0 if there are no such rows."""
    curvature = np.broadcast_to(found.curvature(center), found.products.shape)
    return np.divide(found.covariance, curvature, out=np.zeros(curvature.shape), where=curvature > 0)


def rescaling(given: Problem, targets: np.ndarray) -> np.ndarray:
    """Return float64[a, d]: weight over difference, (s - 1) / s for a column in a stratum of s columns."""
    stratum = given.strata
    varying = stratum >= 0
    sizes = np.bincount(stratum[varying], minlength=1)
    peers = np.tile(sizes[np.maximum(stratum, 0)], (len(targets), 1))
    own = given.own_column[targets]
    mine = (own != NO_COLUMN) & varying[own]
    peers[mine] -= stratum == stratum[own[mine], None]
    return np.where(varying, 1 - 1 / np.maximum(peers, 1), 0.0)
