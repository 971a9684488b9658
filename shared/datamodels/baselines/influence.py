"""Compute influence functions (Koh and Liang 2017, arXiv:1703.04730, equation 2), for outputs instead of losses.

If example i gets a little more weight, the parameters of a network at its minimum move in the direction
-H^-1 grad loss_i, and output j by -grad output_j' H^-1 grad loss_i. H is the curvature of the loss with weight decay;
see `curvature`.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from datamodels.baselines import curvature
from datamodels.baselines.context import Trained
from datamodels.baselines.gradients import Gradients, dense, products


def last_layer(trained: Trained) -> np.ndarray:
    """Return float32[n, examples]: influence through the last layer alone, with its exact curvature."""

    def inverse(found: Gradients, vectors: np.ndarray, damping: float) -> np.ndarray:
        matrix = curvature.dense(*curvature.of(found, last=True))
        matrix[np.diag_indices_from(matrix)] += damping
        return linalg.solve(matrix, vectors.T, assume_a="pos").T.astype(vectors.dtype)

    return _mean(trained, inverse, last=True)


def whole(trained: Trained) -> np.ndarray:
    """Return float32[n, examples]: influence through all weights, by conjugate gradients."""
    return _mean(trained, lambda found, vectors, damping: curvature.solve(vectors, *curvature.of(found), damping))


def ekfac(trained: Trained) -> np.ndarray:
    """Return float32[n, examples]: influence through all weights, by the approximate inverse of EK-FAC."""
    return _mean(trained, lambda found, vectors, damping: curvature.ekfac(*curvature.of(found), damping)(vectors))


def _mean(trained: Trained, inverse, *, last: bool = False) -> np.ndarray:
    """Return float32[n, examples]: the mean influence over models. `inverse` solves for the gradients of outputs."""
    damping, total = curvature.damping(trained.trainer.recipe.weight_decay), np.zeros((1, 1), dtype=np.float32)
    part = slice(-1, None) if last else slice(None)
    for found in trained.gradients():
        total = total - products(inverse(found, dense(found.outputs[part]), damping), found.losses[part])
    return total / len(trained.models)
