"""Compute influence functions (Koh and Liang 2017, arXiv:1703.04730, equation 2), for outputs instead of losses.

If example i gets a little more weight, the parameters of a network at its minimum move in the direction
-H^-1 grad loss_i, and output j by -grad output_j' H^-1 grad loss_i. H is the curvature of the loss with weight decay;
see `curvature`.
"""

from __future__ import annotations

import numpy as np

from datamodels.baselines.context import Trained
from datamodels.baselines.gradients import curvature
from datamodels.baselines.gradients.products import with_losses
from datamodels.train.gradients import Gradients
from datamodels.train.workloads.factors import FactoredGradients


def last_layer(trained: Trained) -> np.ndarray:
    """Return float32[n, examples]: influence through the last layer alone, with its exact curvature."""
    return _mean(trained, curvature.exact, last=True)


def whole(trained: Trained) -> np.ndarray:
    """Return float32[n, examples]: influence through all weights.

    Networks of dense layers are solved by conjugate gradients, and others exactly. Raises InputError if others have
    more weights than `curvature.MOST_PARAMETERS`.
    """

    def inverse(found: Gradients, damping: float) -> curvature.Linear:
        if isinstance(found, FactoredGradients):
            layers, p = curvature.of(found)
            return lambda vectors: curvature.solve(vectors, layers, p, damping)
        return curvature.exact(found, damping)

    return _mean(trained, inverse)


def ekfac(trained: Trained) -> np.ndarray:
    """Return float32[n, examples]: influence through all weights, by the approximate inverse of EK-FAC."""

    def inverse(found: Gradients, damping: float) -> curvature.Linear:
        if isinstance(found, FactoredGradients):
            return curvature.ekfac(*curvature.of(found), damping)
        return curvature.ekfac_of_layers(found, damping)

    return _mean(trained, inverse)


def _mean(trained: Trained, inverse, *, last: bool = False) -> np.ndarray:
    """Return float32[n, examples]: the mean influence over models. `inverse` solves for the gradients of outputs."""
    total: np.ndarray = np.zeros((1, 1), dtype=np.float32)
    for found in trained.gradients():
        chosen = found.last() if last else found
        total = total - with_losses(chosen, inverse(chosen, curvature.damping(chosen.weight_decay)))
    return total / len(trained.models)
