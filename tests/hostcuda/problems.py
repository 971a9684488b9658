"""Problems for the fit on the host device."""

import numpy as np

from datamodels.fit.data.problem import NO_COLUMN, Problem, is_heldout


def made_problem(d: int, m: int, n: int, own: int = 0) -> Problem:
    """Make a problem of m random masks with a sparse truth. The first `own` targets are the columns 0, 1, ..."""
    rng = np.random.default_rng(0)
    x = (rng.random((m, d)) < 0.5).astype(np.float32)
    truth = rng.standard_t(2.5, (d, n)) * (rng.random((d, n)) < 0.1)
    y = x @ truth
    y = y / y.std(axis=0) + rng.normal(size=y.shape)
    return Problem(
        masks=np.packbits(x.astype(bool), axis=1, bitorder="little"),
        outputs=y.astype(np.float16),
        columns=d,
        center=np.full(d, 0.5, dtype=np.float32),
        own_column=np.where(np.arange(n) < own, np.arange(n) % d, NO_COLUMN).astype(np.int32),
        heldout=is_heldout(np.arange(m), 0.1),
    )
