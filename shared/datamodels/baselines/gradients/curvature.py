"""Compute with the Gauss-Newton matrix of the training loss at trained weights: products, and solutions.

The matrix is the mean over the pool's e examples of J_i' S_i J_i, where J_i [classes, parameters] has the gradients of
example i's logits and S_i = diag(p_i) - p_i p_i' is the curvature of the cross-entropy. It is also the Fisher
information (Martens 2020, section 9). Systems are solved with `damping` added to its diagonal. Weight decay adds
exactly that to the curvature, and without damping the matrix has no inverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import linalg

from datamodels.errors import InputError
from datamodels.fit.kernels import conjugate
from datamodels.train.gradients import Gradients, LayerFactors, slices
from datamodels.train.workloads.factors import FactoredGradients, Layer, combined, products, split

LEAST_DAMPING = 1e-3
"""Damping if the trainer has less weight decay than this."""
TOLERANCE, STEPS = 0.1, 50
"""Conjugate gradients stop at this relative residual, or after so many steps. A tenth of it changes LDS by 0.001."""

MOST_PARAMETERS = 12_000
"""The most weights of a network whose whole matrix is inverted: with float32, that takes 1.2 GB and about a minute."""

Linear = Callable[[np.ndarray], np.ndarray]


def damping(decay: float) -> float:
    """Return the damping for a weight decay."""
    return max(decay, LEAST_DAMPING)


def multiply(vectors: np.ndarray, layers: list[Layer], p: np.ndarray) -> np.ndarray:
    """Multiply the matrix with vectors, float32[t, parameters].

    layers  gradients of the logits of all classes
    p       float32[e, classes]; probabilities
    """
    moved = products(vectors, layers)  # [t, classes, e]
    weighted = p.T * moved
    return combined((weighted - p.T * weighted.sum(axis=1, keepdims=True)) / np.float32(len(p)), layers)


def ekfac(layers: list[Layer], p: np.ndarray, damping: float) -> Linear:
    """Return an approximate inverse: EK-FAC (George et al. 2018, arXiv:1806.03884; for influence, Grosse et al. 2023).

    The block of each layer is approximated in the eigenvectors of the Kronecker product of the second moments of its
    inputs and of its signals, where it has its exact diagonal. Labels are distributed as the model predicts, and the
    expectation over them is exact.
    """
    bases = []
    for layer in layers:
        signals = layer.signals - np.einsum("ec,ceb->eb", p, layer.signals)  # [classes, e, b]: of the losses, negated
        weighted = signals * np.sqrt(p.T)[:, :, None]
        flat = weighted.reshape(-1, weighted.shape[-1])
        left = np.linalg.eigh((layer.inputs.T @ layer.inputs).astype(np.float64))[1].astype(p.dtype)
        right = np.linalg.eigh((flat.T @ flat).astype(np.float64))[1].astype(p.dtype)
        squares = ((weighted @ right) ** 2).sum(axis=0)
        values = ((layer.inputs @ left) ** 2).T @ squares / len(p)
        bases.append((left, right, values + p.dtype.type(damping)))

    def apply(vectors: np.ndarray) -> np.ndarray:
        found = np.empty_like(vectors)
        parts = zip(split(vectors, layers), split(found, layers), bases, strict=True)
        for given, into, (left, right, values) in parts:
            np.matmul(left, (left.T @ given @ right) / values @ right.T, out=into)
        return found

    return apply


def solve(vectors: np.ndarray, layers: list[Layer], p: np.ndarray, damping: float) -> np.ndarray:
    """Solve for vectors, float32[t, parameters], by conjugate gradients preconditioned by `ekfac`."""
    near = ekfac(layers, p, damping)
    return conjugate.solve(
        lambda v, places: multiply(v, layers, p),
        lambda r, lambda_: near(r),
        vectors,
        np.full(len(vectors), damping),
        TOLERANCE**2 * np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64),
        STEPS,
    )


def of(found: FactoredGradients) -> tuple[list[Layer], np.ndarray]:
    """Return (gradients of the logits of all classes, probabilities)."""
    return found.classes, found.probabilities


def matrix(found: Gradients) -> np.ndarray:
    """Return float32[parameters, parameters]: the matrix of any network.

    Raises InputError for more than MOST_PARAMETERS weights.
    """
    if found.parameters > MOST_PARAMETERS:
        raise InputError(
            f"layers: the chosen ones have {found.parameters:,} weights, and at most {MOST_PARAMETERS:,} are inverted "
            "exactly; choose fewer"
        )
    total = np.zeros((found.parameters, found.parameters), dtype=np.float32)
    for rows in slices(found.examples, 32 * 4 * found.parameters):
        factors = found.of_curvature(rows).reshape(-1, found.parameters)
        total += factors.T @ factors
    return total / np.float32(found.examples)


def exact(found: Gradients, damping: float) -> Linear:
    """Return the inverse of the whole matrix, by its Cholesky factors. Raises InputError as `matrix`."""
    damped = matrix(found)
    damped[np.diag_indices_from(damped)] += np.float32(damping)
    factored = linalg.cho_factor(damped, lower=True, overwrite_a=True, check_finite=False)
    return lambda vectors: linalg.cho_solve(factored, vectors.T, check_finite=False).T


def ekfac_of_layers(found: Gradients, damping: float) -> Linear:
    """Return the approximate inverse of `ekfac` for the dense and convolutional layers of any network.

    At each of several positions, as of pixels or words, a layer has inputs and signals. As usual, their second moments
    are taken over all positions, and the diagonal is that of the gradients, which are sums over positions. Weights of
    other layers count as fixed: the inverse is zero there.
    """
    moments: list[tuple[np.ndarray, np.ndarray]] = []
    for layers in _all_factors(found):
        parts = [(_second_moment(layer.inputs), _second_moment(layer.signals)) for layer in layers]
        moments = [(a + c, b + d) for (a, b), (c, d) in zip(moments, parts, strict=True)] if moments else parts
    bases = [(_eigenvectors(left), _eigenvectors(right)) for left, right in moments]
    values = [np.zeros((right.shape[0], left.shape[0]), dtype=np.float64) for left, right in bases]
    columns: list[np.ndarray] = []
    for layers in _all_factors(found):
        columns = [layer.columns for layer in layers]
        for layer, (left, right), total in zip(layers, bases, values, strict=True):
            gradients = np.matmul(np.swapaxes(layer.signals @ right, -1, -2), layer.inputs @ left)  # [r, e, b, a]
            total += np.square(gradients).sum(axis=(0, 1))
    inverses = [1 / (total / found.examples + damping) for total in values]

    def apply(vectors: np.ndarray) -> np.ndarray:
        into = np.zeros_like(vectors)
        for at, (left, right), inverse in zip(columns, bases, inverses, strict=True):
            given = vectors[:, at].reshape(len(vectors), *inverse.shape)
            turned = (right.T @ given @ left) * inverse.astype(np.float32)
            into[:, at] = (right @ turned @ left.T).reshape(len(vectors), -1)
        return into

    return apply


def _all_factors(found: Gradients) -> Iterator[list[LayerFactors]]:
    return (found.factors(rows) for rows in slices(found.examples, 32 * 4 * found.parameters))


def _eigenvectors(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.eigh(matrix)[1].astype(np.float32)


def _second_moment(vectors: np.ndarray) -> np.ndarray:
    """Return float64[f, f]: the sum of the outer products of vectors [..., f]."""
    flat = vectors.reshape(-1, vectors.shape[-1])
    return (flat.T @ flat).astype(np.float64)
