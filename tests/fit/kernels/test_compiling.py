import numba

from datamodels.fit.kernels import compiling, coordinate_descent  # noqa: F401 - the latter listens to numba


def test_loops_that_are_compiled_are_announced_once():
    told = []
    with compiling.announced(lambda: told.append("first")):
        loop = numba.njit(lambda x: x + 1)
        assert (loop(1), loop(1.5)) == (2, 2.5) and told == ["first"]
    with compiling.announced(lambda: told.append("second")):
        assert loop(2) == 3
    assert told == ["first"], "nothing was compiled"
