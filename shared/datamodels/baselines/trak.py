"""Compute TRAK (Park et al. 2023, arXiv:2303.14186, equation 17): a linear model of randomly projected gradients.

P' is a random projection, phi_i = P' grad log(p_i / (1 - p_i)) for the pool's examples (the rows of Phi), phi_j = P'
grad output_j for targets, and Q = diag(1 - p_i). The score is phi_j' (Phi' Phi)^-1 Phi' Q. As in the paper,
phi_j' (Phi' Phi)^-1 Phi' and Q are averaged over models separately.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from datamodels.baselines.context import Trained
from datamodels.baselines.gradients import dense

EXAMPLES_PER_DIMENSION = 14
"""Sets the dimensions of the projection. With more, the inverse amplifies noise; with fewer, too much is lost. LDS on
the digits was highest at 100 dimensions, for 1,400 examples."""


def attribution(trained: Trained, examples_per_dimension: int = EXAMPLES_PER_DIMENSION) -> np.ndarray:
    """Return float32[n, examples]: the scores."""
    kernel: np.ndarray = np.zeros((1, 1), dtype=np.float32)
    wrong: np.ndarray = np.zeros(1, dtype=np.float32)  # sum over models of the diagonal of Q
    for model, found in enumerate(trained.gradients()):
        examples, targets = dense(found.odds), dense(found.outputs)
        parameters = examples.shape[1]
        dimensions = min(parameters, max(1, len(examples) // examples_per_dimension))
        if dimensions < parameters:
            projection = np.random.default_rng(model).standard_normal((parameters, dimensions), dtype=np.float32)
            examples, targets = examples @ projection, targets @ projection
        kernel = kernel + targets @ _pseudo_inverse(examples.astype(np.float64)).astype(np.float32)
        right = found.probabilities[np.arange(len(trained.trainer.y)), trained.trainer.y]
        wrong = wrong + (1 - right)
    return kernel * wrong / len(trained.models) ** 2


def _pseudo_inverse(features: np.ndarray) -> np.ndarray:
    """Return float64[f, e]: (Phi' Phi)^-1 Phi' for Phi [e, f], with a small shift that makes it safe to invert."""
    square = features.T @ features
    square[np.diag_indices_from(square)] += 1e-6 * np.trace(square) / len(square)
    return linalg.solve(square, features.T, assume_a="pos")
