"""Do the elementwise work of the solvers, for NumPy and for CuPy.

Each CuPy kernel has a NumPy twin of the same name, arguments and result; tests compare the two. `of(xp)` returns the
kernels for an array module.
"""

from __future__ import annotations

import functools
from types import ModuleType, SimpleNamespace

import numpy as np


def of(xp: ModuleType) -> SimpleNamespace:
    """Return the kernels `centred`, `exchange` and `proximal_step` for an array module; NumPy's for all but cupy."""
    if xp.__name__ != "cupy":
        return SimpleNamespace(centred=centred, exchange=exchange, proximal_step=proximal_step)
    return _cuda()


def centred(packed: np.ndarray, center: np.ndarray, tail: float) -> np.ndarray:
    """Unpack masks and centre them; a last column of `tail` carries the intercept.

    packed  uint8[r, ceil(d / 8)]
    center  float32 or float64 [d]

    Returns [r, d + 1], of the type of center.
    """
    d = len(center)
    x = np.empty_like(center, shape=(len(packed), d + 1))
    np.subtract(np.unpackbits(packed, axis=1, count=d, bitorder="little"), center, out=x[:, :d])
    x[:, d] = tail
    return x


def exchange(prediction: np.ndarray, y: np.ndarray, keep: np.ndarray | None, table: np.ndarray) -> None:
    """Compute the new residuals of some rows, and their changes.

    prediction  [r, n]; becomes the residuals: prediction - y, or 0 if keep is False
    y           [r, n]
    keep        bool[r, n]; which rows count; None if all do
    table       [r, n]; the old residuals; becomes new - old
    """
    prediction -= y
    if keep is not None:
        prediction *= keep
    np.subtract(prediction, table, out=table)


def proximal_step(
    theta: np.ndarray,
    average: np.ndarray,
    change: np.ndarray,
    gain: np.ndarray,
    threshold: np.ndarray,
    batches_per_row: float,
    rows: int,
) -> None:
    """Take one step of SAGA: update theta and the average gradient.

    theta            [d + 1, n]; its last row, the intercept, is not penalised
    average          [d + 1, n]; becomes average + change / rows
    change           [d + 1, n]; sum of the batch's new gradients minus their old ones; is overwritten
    gain             [n]; step size
    threshold        [n]; soft threshold
    batches_per_row  factor that makes the batch's sum an unbiased estimate of the mean over all rows
    """
    move = change * change.dtype.type(batches_per_row)
    move += average
    move *= gain
    theta -= move
    penalised, kept = theta[:-1], move[:-1]
    np.maximum(penalised, -threshold, out=kept)
    np.minimum(kept, threshold, out=kept)
    penalised -= kept
    change *= change.dtype.type(1 / rows)
    average += change


@functools.cache
def _cuda() -> SimpleNamespace:
    import cupy

    unpack = cupy.ElementwiseKernel(
        "raw uint8 packed, raw T center, T tail, int64 d, int64 width",
        "T x",
        """
        const long long row = i / (d + 1), column = i % (d + 1);
        x = column == d ? tail : T((packed[row * width + (column >> 3)] >> (column & 7)) & 1) - center[column];
        """,
        "datamodels_centred",
    )
    residuals = cupy.ElementwiseKernel(
        "T y, bool keep",
        "T prediction, T table",
        """
        const T fresh = keep ? prediction - y : T(0);
        table = fresh - table;
        prediction = fresh;
        """,
        "datamodels_exchange",
    )
    step = cupy.ElementwiseKernel(
        "T change, T gain, T threshold, T batches_per_row, T per_row, int64 penalised",
        "T theta, T average",
        """
        const T moved = theta - gain * (change * batches_per_row + average);
        theta = i < penalised ? moved - max(-threshold, min(threshold, moved)) : moved;
        average += change * per_row;
        """,
        "datamodels_proximal_step",
    )

    def centred(packed, center, tail):
        x = cupy.empty((len(packed), len(center) + 1), dtype=center.dtype)
        return unpack(packed, center, center.dtype.type(tail), len(center), packed.shape[1], x)

    def exchange(prediction, y, keep, table):
        residuals(y, True if keep is None else keep, prediction, table)

    def proximal_step(theta, average, change, gain, threshold, batches_per_row, rows):
        number = theta.dtype.type
        penalised = (theta.shape[0] - 1) * theta.shape[1]
        step(change, gain, threshold, number(batches_per_row), number(1 / rows), penalised, theta, average)

    return SimpleNamespace(centred=centred, exchange=exchange, proximal_step=proximal_step)
