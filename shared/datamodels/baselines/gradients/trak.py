"""Compute TRAK (Park et al. 2023, arXiv:2303.14186, equation 17): a linear model of randomly projected gradients.

P' is a random projection, phi_i = P' grad log(p_i / (1 - p_i)) for the pool's examples (the rows of Phi), phi_j = P'
grad output_j for targets, and Q = diag(1 - p_i). The score is phi_j' (Phi' Phi)^-1 Phi' Q. As in the paper,
phi_j' (Phi' Phi)^-1 Phi' and Q are averaged over models separately. For a squared error, predictions take the place of
log odds, and Q has twice the residuals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import linalg

from datamodels.baselines.context import Trained
from datamodels.train.gradients import slices

EXAMPLES_PER_DIMENSION = 14
"""Sets the dimensions of the projection. With more, the inverse amplifies noise; with fewer, too much is lost. LDS on
the digits was highest at 100 dimensions, for 1,400 examples."""


DRAWN_BYTES = 2**28
"""Bytes of the projection that are drawn at once. A larger one is drawn again for each part of the examples."""


def attribution(trained: Trained, examples_per_dimension: int = EXAMPLES_PER_DIMENSION) -> np.ndarray:
    """Return float32[n, examples]: the scores."""
    kernel: np.ndarray = np.zeros((1, 1), dtype=np.float32)
    wrong: np.ndarray = np.zeros(1, dtype=np.float32)  # sum over models of the diagonal of Q
    for model, found in enumerate(trained.gradients()):
        project = _Projection(model, found.parameters, max(1, found.examples // examples_per_dimension))
        examples = project.all(found.of_odds, found.examples)
        targets = project.all(found.of_outputs, found.targets)
        kernel = kernel + targets @ _pseudo_inverse(examples.astype(np.float64)).astype(np.float32)
        wrong = wrong + found.odds_slopes()
    return kernel * wrong / len(trained.models) ** 2


class _Projection:
    """A matrix [parameters, dimensions] of standard normal numbers; none if there are as many dimensions."""

    def __init__(self, seed: int, parameters: int, dimensions: int):
        self._seed, self._parameters, self._dimensions = seed, parameters, min(parameters, dimensions)
        self._small = parameters * dimensions * 4 <= DRAWN_BYTES
        self._kept: list[tuple[slice, np.ndarray]] = []

    def all(self, gradients: Callable[[slice], np.ndarray], count: int) -> np.ndarray:
        """Return float32[count, dimensions]: the projections of `gradients(rows)` of all rows."""
        parts = [self._of(gradients(rows)) for rows in slices(count, 4 * self._parameters)]
        return np.concatenate(parts)

    def _of(self, vectors: np.ndarray) -> np.ndarray:
        if self._dimensions == self._parameters:
            return vectors
        found = np.zeros((len(vectors), self._dimensions), dtype=np.float32)
        for part, drawn in self._kept or self._drawn():
            found += vectors[:, part] @ drawn
            if self._small:
                self._kept = [(part, drawn)]
        return found

    def _drawn(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield parts of the matrix. Together they are the same whatever their sizes."""
        generator, step = np.random.default_rng(self._seed), max(1, DRAWN_BYTES // (4 * self._dimensions))
        for start in range(0, self._parameters, step):
            part = slice(start, min(start + step, self._parameters))
            shape = (part.stop - part.start, self._dimensions)
            yield part, generator.standard_normal(shape, dtype=np.float32)


def _pseudo_inverse(features: np.ndarray) -> np.ndarray:
    """Return float64[f, e]: (Phi' Phi)^-1 Phi' for Phi [e, f], with a small shift that makes it safe to invert."""
    square = features.T @ features
    square[np.diag_indices_from(square)] += 1e-6 * np.trace(square) / len(square)
    return linalg.solve(square, features.T, assume_a="pos")
