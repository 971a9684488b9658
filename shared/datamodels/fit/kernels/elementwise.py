"""Do the elementwise work of the solvers, for NumPy and for CuPy.

Each CuPy kernel has a NumPy twin of the same name, arguments and result; tests compare the two. `of(xp)` returns the
kernels for an array module.
"""

from __future__ import annotations

import functools
from types import ModuleType, SimpleNamespace

import numpy as np


def of(xp: ModuleType) -> SimpleNamespace:
    """Return the kernels of this module for an array module; NumPy's for all but cupy."""
    if xp.__name__ != "cupy":
        return SimpleNamespace(
            centred=centred,
            exact=exact,
            bits=bits,
            keep=keep,
            residuals=residuals,
            exchange=exchange,
            proximal_step=proximal_step,
            dots=dots,
        )
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


def exact(packed: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Unpack masks uint8[r, ceil(d / 8)] and subtract center float64[d]. Returns float64[r, d]."""
    return np.unpackbits(packed, axis=1, count=len(center), bitorder="little") - center


def bits(packed: np.ndarray, columns: int) -> np.ndarray:
    """Unpack masks uint8[r, ceil(d / 8)]. Returns float16[r, d], zeros and ones."""
    return np.unpackbits(packed, axis=1, count=columns, bitorder="little").astype(np.float16)


def keep(packed: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Return bool[r, a]: whether each of the masks uint8[r, ceil(d / 8)] is without column int[a], 0 to d - 1."""
    return (packed[:, column // 8] >> (column % 8).astype(np.uint8)) & 1 == 0


def residuals(prediction: np.ndarray, y: np.ndarray, keep: np.ndarray | None) -> None:
    """Replace predictions [r, n] of outputs y [r, n] by y - prediction, or by 0 if bool[r, n] keep is False."""
    np.subtract(y, prediction, out=prediction)
    if keep is not None:
        prediction *= keep


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


def dots(a: np.ndarray, b: np.ndarray, dtype: type[np.floating] | None = None) -> np.ndarray:
    """Return the dot products [n] of the columns of two arrays [m, n], summed in a dtype; in float64 on a GPU."""
    return np.einsum("ij,ij->j", a, b, dtype=dtype)


_UNPACK = r"""
// One thread for each column, so that neighbouring threads write neighbouring numbers. It walks down the rows: no index
// is divided. The columns from `d` on get `tail`.
extern "C" __global__ void datamodels_%(name)s(
    const unsigned char* packed, long long width, const %(type)s* center, %(type)s tail, long long rows, long long d,
    long long across, %(type)s* x) {
  const long long column = blockIdx.x * (long long) blockDim.x + threadIdx.x;
  if (column >= across) return;
  const bool inside = column < d;
  const %(type)s out = inside ? -center[column] : tail, in = inside ? 1 - center[column] : tail;
  const unsigned char* bytes = packed + (inside ? column >> 3 : 0);
  for (long long row = blockIdx.y; row < rows; row += gridDim.y)
    x[row * across + column] = bytes[row * width] >> (column & 7) & 1 ? in : out;
}
"""
_BITS = r"""
extern "C" __global__ void datamodels_bits(
    const unsigned char* packed, long long width, long long rows, long long d, unsigned short* x) {
  const long long column = blockIdx.x * (long long) blockDim.x + threadIdx.x;
  if (column >= d) return;
  const unsigned short one = 0x3c00;  // 1 in float16
  for (long long row = blockIdx.y; row < rows; row += gridDim.y)
    x[row * d + column] = packed[row * width + (column >> 3)] >> (column & 7) & 1 ? one : 0;
}
"""
_KEEP = r"""
extern "C" __global__ void datamodels_keep(
    const unsigned char* packed, long long width, const long long* own, long long rows, long long targets, bool* keep) {
  const long long target = blockIdx.x * (long long) blockDim.x + threadIdx.x;
  if (target >= targets) return;
  const long long byte = own[target] >> 3, bit = own[target] & 7;
  for (long long row = blockIdx.y; row < rows; row += gridDim.y)
    keep[row * targets + target] = !(packed[row * width + byte] >> bit & 1);
}
"""
_THREADS = 256
"""Threads of a block of these kernels."""
_ROW_BLOCKS = 1024
"""Most blocks of threads that share the rows of one piece: with those along the columns, enough for any GPU."""


@functools.cache
def _cuda() -> SimpleNamespace:
    import cupy

    unpack = {
        np.dtype(dtype): cupy.RawKernel(_UNPACK % {"name": name, "type": kind}, f"datamodels_{name}")
        for dtype, name, kind in ((np.float32, "centred", "float"), (np.float64, "exact", "double"))
    }
    half, member = cupy.RawKernel(_BITS, "datamodels_bits"), cupy.RawKernel(_KEEP, "datamodels_keep")

    def launch(kernel, packed, across, *arguments):
        """Launch a kernel with a thread for each of `across` columns. Masks are in C order."""
        if len(packed) and across:
            grid = (-(-across // _THREADS), min(len(packed), _ROW_BLOCKS))
            kernel(grid, (_THREADS,), (packed, np.int64(packed.shape[1]), *arguments))

    def unpacked(packed, center, tail, across):
        x = cupy.empty((len(packed), across), dtype=center.dtype)
        sizes = (np.int64(len(packed)), np.int64(len(center)), np.int64(across))
        launch(unpack[center.dtype], packed, across, center, center.dtype.type(tail), *sizes, x)
        return x

    subtract = cupy.ElementwiseKernel(
        "T y, bool keep", "T prediction", "prediction = keep ? y - prediction : T(0);", "datamodels_residuals"
    )
    swap = cupy.ElementwiseKernel(
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

    products = cupy.ReductionKernel(
        "T a, T b", "float64 y", "double(a) * double(b)", "a + b", "y = a", "0", "datamodels_dots"
    )

    def bits(packed, columns):
        x = cupy.empty((len(packed), columns), dtype=np.float16)
        launch(half, packed, columns, np.int64(len(packed)), np.int64(columns), x)
        return x

    def keep(packed, column):
        found = cupy.empty((len(packed), len(column)), dtype=bool)
        launch(
            member, packed, len(column), column.astype(np.int64), np.int64(len(packed)), np.int64(len(column)), found
        )
        return found

    def exchange(prediction, y, keep, table):
        swap(y, True if keep is None else keep, prediction, table)

    def proximal_step(theta, average, change, gain, threshold, batches_per_row, rows):
        number = theta.dtype.type
        penalised = (theta.shape[0] - 1) * theta.shape[1]
        step(change, gain, threshold, number(batches_per_row), number(1 / rows), penalised, theta, average)

    return SimpleNamespace(
        centred=lambda packed, center, tail: unpacked(packed, center, tail, len(center) + 1),
        exact=lambda packed, center: unpacked(packed, center, 0, len(center)),
        bits=bits,
        keep=keep,
        residuals=lambda prediction, y, keep: subtract(y, True if keep is None else keep, prediction),
        exchange=exchange,
        proximal_step=proximal_step,
        dots=lambda a, b, dtype=None: products(a, b, axis=0),
    )
