import numpy as np
import pytest

from datamodels.fit.kernels import coordinate_descent
from datamodels.fit.kernels.batched import Batched


def arrays(dtype=np.float32, a=6, d=13, weighted=False):
    rng = np.random.default_rng(0)
    made = {
        name: rng.normal(size=(a, d)).astype(dtype) for name in ("theta", "neg_grad", "past_theta", "past_neg_grad")
    }
    made["theta"][rng.random((a, d)) < 0.5] = 0
    if weighted:
        made["factor"] = rng.uniform(0.3, 2, size=(a, d)).astype(dtype)
    return made | {
        "products": rng.normal(size=(a, d)).astype(dtype),
        "lambda_": rng.random(a).astype(dtype),
        "ahead": rng.random(a).astype(dtype),
        "remember": rng.random(a) < 0.5,
    }


def done_by(loops, places, a, xp=np):
    """All that the loops give and change, as NumPy's."""
    big = {k: xp.asarray(v.copy()) for k, v in a.items() if v.ndim == 2}
    factor = big.get("factor")
    measured = np.array(loops.measure(big["theta"], big["neg_grad"], big["products"], factor))
    uphill = loops.proximal(
        places,
        big["theta"],
        big["neg_grad"],
        a["lambda_"],
        a["lambda_"].dtype.type(0.3),
        a["ahead"],
        big["past_theta"],
        big["past_neg_grad"],
        a["remember"],
        factor,
    )
    return [measured, uphill, *(b if xp is np else xp.asnumpy(b) for b in big.values())]


def agree(ours, theirs, dtype):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=40 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("places", [np.arange(6), np.array([4, 1]), np.array([], dtype=np.int64)])
@pytest.mark.parametrize("weighted", [False, True])
def test_they_do_as_the_compiled_loops(dtype, places, weighted):
    a = arrays(dtype, weighted=weighted)
    agree(done_by(Batched(np), places, a), done_by(coordinate_descent, places, a), dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("places", [np.arange(6), np.array([4, 1])])
@pytest.mark.parametrize("weighted", [False, True])
def test_on_a_gpu_they_do_as_on_numpy(cupy, dtype, places, weighted):
    a = arrays(dtype, weighted=weighted)
    agree(done_by(Batched(cupy), places, a, cupy), done_by(Batched(np), places, a), dtype)
