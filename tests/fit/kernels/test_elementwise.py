import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.fit.kernels import elementwise
from datamodels.run import designs


@given(st.integers(1, 70), st.integers(1, 9), st.sampled_from([np.float32, np.float64]), st.integers(0, 2**32 - 1))
def test_masks_are_unpacked_and_centred(d, rows, dtype, seed):
    rng = np.random.default_rng(seed)
    masks, center = rng.random((rows, d)) < 0.5, rng.random(d).astype(dtype)
    x = elementwise.centred(designs.pack(masks), center, 0.25)
    assert x.dtype == dtype and x.shape == (rows, d + 1)
    assert np.array_equal(x[:, :d], masks.astype(dtype) - center)
    assert (x[:, d] == 0.25).all()


def arrays(seed=0, rows=7, d=11, n=5, dtype=np.float32):
    rng = np.random.default_rng(seed)
    made = {name: rng.normal(size=(rows, n)).astype(dtype) for name in ("prediction", "y", "table")}
    made |= {name: rng.normal(size=(d + 1, n)).astype(dtype) for name in ("theta", "average", "change")}
    made |= {"gain": rng.random(n).astype(dtype), "threshold": rng.random(n).astype(dtype)}
    return made | {"keep": rng.random((rows, n)) < 0.7}


@pytest.mark.parametrize("masked", [False, True])
def test_residuals_are_exchanged_against_the_table(masked):
    a = arrays()
    keep = a["keep"] if masked else None
    fresh = np.where(keep, a["prediction"] - a["y"], 0) if masked else a["prediction"] - a["y"]
    prediction, table = a["prediction"].copy(), a["table"].copy()
    elementwise.exchange(prediction, a["y"], keep, table)
    np.testing.assert_allclose(prediction, fresh, rtol=1e-6)
    np.testing.assert_allclose(table, fresh - a["table"], rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_residuals_of_rows_that_do_not_count_are_0(masked):
    a = arrays()
    prediction, keep = a["prediction"].copy(), a["keep"] if masked else None
    elementwise.residuals(prediction, a["y"], keep)
    left = a["y"] - a["prediction"]
    np.testing.assert_array_equal(prediction, np.where(a["keep"], left, 0) if masked else left)


def test_a_step_is_that_of_the_docstring():
    a = arrays()
    theta, average, change = (a[name].astype(np.float64) for name in ("theta", "average", "change"))
    moved = theta - a["gain"] * (change * 0.125 + average)
    expected = np.sign(moved) * np.maximum(np.abs(moved) - a["threshold"], 0)
    expected[-1] = moved[-1]
    elementwise.proximal_step(a["theta"], a["average"], a["change"], a["gain"], a["threshold"], 0.125, 40)
    np.testing.assert_allclose(a["theta"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(a["average"], average + change / 40, rtol=1e-5, atol=1e-6)
    assert (a["theta"][:-1] == 0).any()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("masked", [False, True])
def test_cuda_kernels_do_as_their_numpy_twins(cupy, dtype, masked):
    ours, theirs = elementwise.of(np), elementwise.of(cupy)
    masks, center = np.random.default_rng(0).integers(0, 256, (9, 4), dtype=np.uint8), np.full(30, 0.4, dtype=dtype)
    masks[:, -1] &= 0b111111
    np.testing.assert_allclose(
        cupy.asnumpy(theirs.centred(cupy.asarray(masks), cupy.asarray(center), 0.5)),
        ours.centred(masks, center, 0.5),
        rtol=1e-6,
    )
    packed, wide = cupy.asarray(masks), center.astype(np.float64)
    np.testing.assert_array_equal(cupy.asnumpy(theirs.exact(packed, cupy.asarray(wide))), ours.exact(masks, wide))
    np.testing.assert_array_equal(cupy.asnumpy(theirs.bits(packed, 30)), ours.bits(masks, 30))
    column = np.array([0, 29, 8, 7])
    np.testing.assert_array_equal(cupy.asnumpy(theirs.keep(packed, cupy.asarray(column))), ours.keep(masks, column))
    host = arrays(dtype=dtype)
    device = {name: cupy.asarray(array) for name, array in host.items()}
    host["dots"], device["dots"] = (lib.dots(a["y"], a["table"]) for lib, a in ((ours, host), (theirs, device)))
    for library, a in ((ours, host), (theirs, device)):
        a["left"] = a["prediction"].copy()
        library.residuals(a["left"], a["y"], a["keep"] if masked else None)
        library.exchange(a["prediction"], a["y"], a["keep"] if masked else None, a["table"])
        library.proximal_step(a["theta"], a["average"], a["change"], a["gain"], a["threshold"], 0.125, 40)
    for name in ("dots", "left", "prediction", "table", "theta", "average"):
        np.testing.assert_allclose(cupy.asnumpy(device[name]), host[name], rtol=1e-5, atol=1e-6)
