"""Compute with the Gauss-Newton matrix of the training loss at trained weights: products, and solutions.

The matrix is the mean over the pool's e examples of J_i' S_i J_i, where J_i [classes, parameters] has the gradients of
example i's logits and S_i = diag(p_i) - p_i p_i' is the curvature of the cross-entropy. It is also the Fisher
information (Martens 2020, section 9). Systems are solved with `damping` added to its diagonal. Weight decay adds
exactly that to the curvature, and without damping the matrix has no inverse.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from datamodels.baselines.gradients import Gradients, Layer, combined, products, split
from datamodels.fit.kernels import conjugate

LEAST_DAMPING = 1e-3
"""Damping if the trainer has less weight decay than this."""
TOLERANCE, STEPS = 0.1, 50
"""Conjugate gradients stop at this relative residual, or after so many steps. A tenth of it changes LDS by 0.001."""

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


def dense(layers: list[Layer], p: np.ndarray) -> np.ndarray:
    """Return float64[parameters, parameters]: the matrix of one layer, which must be small."""
    (layer,) = layers
    signals = np.moveaxis(layer.signals, 0, 1).astype(np.float64)  # [e, classes, b]
    mean = np.einsum("ec,ecb->eb", p, signals)
    within = np.einsum("ec,ecb,ecd->ebd", p, signals, signals, optimize=True) - mean[:, :, None] * mean[:, None]
    a, b = layer.shape
    inputs = layer.inputs.astype(np.float64)
    found = np.empty((a, b, a, b))
    for i in range(b):
        for j in range(i, b):
            found[:, i, :, j] = (inputs * within[:, i, j, None]).T @ inputs
            found[:, j, :, i] = found[:, i, :, j].T
    return found.reshape(a * b, a * b) / len(p)


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


def of(found: Gradients, *, last: bool = False) -> tuple[list[Layer], np.ndarray]:
    """Return (gradients of the logits of all classes, probabilities); with `last`, only those of the last layer."""
    return found.classes[-1:] if last else found.classes, found.probabilities
