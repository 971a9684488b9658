"""Run loops of `coordinate_descent`, but not coordinate descent itself, as array operations or as kernels of a GPU."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np


class Batched:
    """`proximal` and `measure` of `coordinate_descent` for arrays of the module numpy or cupy.

    Arrays [a, d] are of the module, arrays [a] and [p] of NumPy. On a GPU, each call is one kernel.
    """

    def __init__(self, xp: ModuleType):
        self.xp = xp
        self._kernels: dict[tuple[str, np.dtype], Any] = _cuda() if xp.__name__ == "cupy" else {}

    def host(self, array) -> np.ndarray:
        """Return an array of the module as one of NumPy."""
        return np.asarray(array) if self.xp is np else self.xp.asnumpy(array)

    def proximal(
        self, places, theta, neg_grad, lambda_, step, ahead, past_theta, past_neg_grad, remember, factor=None
    ) -> np.ndarray:
        xp = self.xp
        uphill = np.zeros(len(theta))
        if self._kernels:
            if len(places):
                # One upload for all numbers that each target has.
                own = xp.asarray(np.array([places, (step * lambda_)[places], ahead[places], remember[places]], float))
                found = xp.empty(len(places))
                arrays = (theta, neg_grad, past_theta, past_neg_grad, theta if factor is None else factor)
                self._launch("proximal", own, *arrays, factor is not None, theta.dtype.type(step), found)
                uphill[places] = self.host(found)
            return uphill
        chosen = slice(None) if len(places) == len(theta) else xp.asarray(places)
        threshold, beyond = (xp.asarray(array[places])[:, None] for array in (step * lambda_, ahead))
        threshold = _times(threshold, None if factor is None else factor[chosen])
        now, slope = theta[chosen], neg_grad[chosen]
        start = now + beyond * (now - past_theta[chosen])
        target = start + step * (slope + beyond * (slope - past_neg_grad[chosen]))
        fresh = xp.maximum(target - threshold, 0) + xp.minimum(target + threshold, 0)
        uphill[places] = self.host(((start - fresh) * (fresh - now)).sum(axis=1, dtype=np.float64))
        kept = xp.asarray(places[remember[places]])
        past_theta[kept], past_neg_grad[kept] = theta[kept], neg_grad[kept]
        theta[chosen] = fresh
        return uphill

    def measure(self, theta, neg_grad, products, factor=None) -> np.ndarray:
        if self._kernels:
            found = self.xp.empty((4, len(theta)))
            if len(theta):
                arrays = (theta, neg_grad, products, theta if factor is None else factor)
                self._launch("measure", found, *arrays, factor is not None, found)
            return self.host(found)
        found = (
            _times(abs(theta), factor).sum(axis=1, dtype=np.float64),
            (theta * neg_grad).sum(axis=1, dtype=np.float64),
            (abs(neg_grad) if factor is None else abs(neg_grad) / factor).max(axis=1),
            (theta * (products + neg_grad)).sum(axis=1, dtype=np.float64),
        )
        return np.array([self.host(row) for row in found], dtype=np.float64)

    def _launch(self, name: str, own, *arguments) -> None:
        """Launch a kernel with a block of threads for each column of `own`."""
        theta = arguments[0]
        width = np.int64(theta.shape[1])
        self._kernels[name, theta.dtype]((own.shape[1],), (THREADS,), (own, np.int64(own.shape[1]), width, *arguments))


def _times(array, factor):
    return array if factor is None else array * factor


THREADS = 256
"""Threads for each target, a power of 2."""
_SOURCE = r"""
typedef %(type)s T;

__device__ double total(double mine, double* shared) {  // the sum over the threads of a block
  shared[threadIdx.x] = mine;
  for (int half = blockDim.x / 2; half; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
  }
  __syncthreads();
  const double found = shared[0];
  __syncthreads();
  return found;
}

// own: the place, the threshold, the extrapolation and whether to remember, of each target
extern "C" __global__ void datamodels_proximal_%(type)s(
    const double* own, long long targets, long long d, T* theta, const T* neg_grad, T* past_theta, T* past_neg_grad,
    const T* factor, bool weighted, T step, double* uphill) {
  __shared__ double shared[%(threads)d];
  const long long first = (long long) own[blockIdx.x] * d;
  const T threshold = own[targets + blockIdx.x], beyond = own[2 * targets + blockIdx.x];
  const bool remember = own[3 * targets + blockIdx.x] != 0;
  double turn = 0;
  for (long long i = first + threadIdx.x; i < first + d; i += blockDim.x) {
    const T now = theta[i], slope = neg_grad[i], start = now + beyond * (now - past_theta[i]);
    const T target = start + step * (slope + beyond * (slope - past_neg_grad[i]));
    const T bar = weighted ? threshold * factor[i] : threshold;
    const T fresh = max(target - bar, T(0)) + min(target + bar, T(0));
    turn += double(start - fresh) * double(fresh - now);
    if (remember) past_theta[i] = now, past_neg_grad[i] = slope;
    theta[i] = fresh;
  }
  turn = total(turn, shared);
  if (!threadIdx.x) uphill[blockIdx.x] = turn;
}

extern "C" __global__ void datamodels_measure_%(type)s(
    const double* unused, long long targets, long long d, const T* theta, const T* neg_grad, const T* products,
    const T* factor, bool weighted, double* found) {
  __shared__ double shared[%(threads)d];
  const long long first = blockIdx.x * d;
  double l1 = 0, aligned = 0, norm = 0, explained = 0;
  for (long long i = first + threadIdx.x; i < first + d; i += blockDim.x) {
    const double t = theta[i], g = neg_grad[i], scale = weighted ? factor[i] : T(1);
    l1 += fabs(t) * scale;
    aligned += t * g;
    explained += t * (products[i] + g);
    norm = max(norm, fabs(g) / scale);
  }
  l1 = total(l1, shared), aligned = total(aligned, shared), explained = total(explained, shared);
  shared[threadIdx.x] = norm;
  for (int half = blockDim.x / 2; half; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] = max(shared[threadIdx.x], shared[threadIdx.x + half]);
  }
  if (threadIdx.x) return;
  found[blockIdx.x] = l1, found[targets + blockIdx.x] = aligned;
  found[2 * targets + blockIdx.x] = shared[0], found[3 * targets + blockIdx.x] = explained;
}
"""


@functools.cache
def _cuda():
    import cupy

    modules = {
        dtype: (kind, cupy.RawModule(code=_SOURCE % {"type": kind, "threads": THREADS}))
        for dtype, kind in ((np.dtype(np.float32), "float"), (np.dtype(np.float64), "double"))
    }
    return {
        (name, dtype): module.get_function(f"datamodels_{name}_{kind}")
        for dtype, (kind, module) in modules.items()
        for name in ("proximal", "measure")
    }
