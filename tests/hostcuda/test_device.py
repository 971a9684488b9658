"""The host device does as CUDA does, and counts it."""

import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.gpu

SUM = r"""
extern "C" __global__ void total(const float* x, float* found, int n) {
  __shared__ float part[64];
  part[threadIdx.x] = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) part[threadIdx.x] += x[i + n * blockIdx.x];
  for (int half = blockDim.x / 2; half; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
  }
  if (!threadIdx.x) found[blockIdx.x] = part[0];
}
"""


def test_threads_of_a_block_wait_for_each_other(device):
    import cupy

    x = np.random.default_rng(0).integers(0, 9, (5, 1000)).astype(np.float32)
    found = cupy.empty(5, dtype=np.float32)
    cupy.RawKernel(SUM, "total")((5,), (64,), (cupy.asarray(x), found, np.int32(1000)))
    np.testing.assert_array_equal(cupy.asnumpy(found), x.sum(axis=1))
    assert device.launches_of("total") == 1


def test_it_counts_what_crosses_and_what_waits(device):
    import cupy

    x = cupy.asarray(np.ones((30, 40), dtype=np.float32))
    product = x @ x.T
    assert float(product[0, 0]) == 40
    found = device.counts()
    assert (found["uploads"], found["uploaded"], found["downloads"], found["downloaded"]) == (1, 4800, 1, 4)
    assert (found["products"], found["flops"], found["syncs"]) == (1, 2 * 30 * 30 * 40, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_products_are_those_of_numpy(device, dtype, transposed):
    import cupy

    rng = np.random.default_rng(0)
    a, b = (rng.integers(-3, 4, shape).astype(dtype) for shape in ((7, 19), (19, 5)))
    left, right = (
        cupy.asarray(np.ascontiguousarray(x.T)).T if turned else cupy.asarray(x)
        for x, turned in zip((a, b), transposed, strict=True)
    )
    np.testing.assert_array_equal(cupy.asnumpy(left @ right), a @ b)


def test_fresh_memory_is_not_a_number(device):
    import cupy

    assert np.isnan(cupy.asnumpy(cupy.empty(9))).all()


def test_it_has_no_more_memory_than_its_card(device):
    import cupy

    device.set(memory=1 << 20)
    kept = cupy.zeros(200_000, dtype=np.uint8)
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
        cupy.zeros(900_000, dtype=np.uint8)
    del kept
    cupy.zeros(900_000, dtype=np.uint8)
    assert 900_000 <= device.counts()["peak"] < 1 << 20


def test_a_write_beyond_an_array_ends_the_process(device):
    script = (
        "from pathlib import Path; from tests.hostcuda import device; import numpy as np;"
        f"device.activate(Path({str(device.folder)!r})); import cupy; x = cupy.zeros(512, dtype=np.uint8);"
        "beyond = cupy.ndarray(513, dtype=np.uint8, memptr=x.data); beyond[512:] = 1; del x, beyond"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode and "a write outside an allocation of 512 bytes" in done.stderr
