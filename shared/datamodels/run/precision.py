"""Define the type that outputs are stored in, and check what it cannot hold.

float32 has 24 binary digits: outputs keep a thousandth of their spread as long as their mean is at most 10,000 times as
large as that. Runs that version 0.2.0 or an earlier one created store float16, which has 11 digits, and
go on to do so.
"""

from __future__ import annotations

import numpy as np

DTYPES = ("float16", "float32")
"""Types that runs store outputs in."""

DTYPE = "float32"
"""The type of new runs."""

FIRST = "float16"
"""The type of runs whose record names none."""

GIVEN = (*DTYPES, "float64")
"""Types that outputs may have before they are stored."""

COARSE = 0.1
"""Largest step between two stored numbers, as a fraction of the outputs' standard deviation. With this step, rounding
adds a thousandth to their variance."""


def stored(outputs: np.ndarray, dtype: str) -> np.ndarray:
    """Return outputs in the type that they are stored in; those beyond its range become infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(outputs).astype(dtype, copy=False)


def fault(outputs: np.ndarray, dtype: str) -> str:
    """Say why some of these outputs cannot be stored, and how many; empty if all can."""
    bad = ~np.isfinite(stored(outputs, dtype))
    if not bad.any():
        return ""
    infinite = int(np.count_nonzero(~np.isfinite(outputs)))
    if infinite:
        return f"{infinite} of {outputs.size} outputs are not finite"
    return (
        f"{np.count_nonzero(bad)} of {outputs.size} outputs are beyond {dtype}, which holds up to "
        f"{float(np.finfo(dtype).max):.4g}, the largest is {np.abs(outputs).max():.4g}; rescale the outputs"
    )


def coarse(outputs: np.ndarray, dtype: str) -> np.ndarray:
    """Return bool[n]: whether the stored type resolves a target's outputs, float[r, n], too coarsely; see COARSE.

    That is so if their mean is large against their spread, or if they are so small that they are stored as zero.
    Outputs that do not vary are not coarse. Those that are not finite are ignored.
    """
    finite = np.isfinite(stored(outputs, dtype))
    values = np.where(finite, outputs, 0).astype(np.float64)
    count = np.maximum(finite.sum(axis=0), 1)
    deviation = np.sqrt(np.square(np.where(finite, values - values.sum(axis=0) / count, 0)).sum(axis=0) / count)
    return too_coarse(np.abs(values).max(axis=0, initial=0), deviation, dtype)


def too_coarse(largest: np.ndarray, deviation: np.ndarray, dtype: str) -> np.ndarray:
    """Return bool[n]: what `coarse` returns, from the largest magnitude and the standard deviation of each target."""
    return (deviation > 0) & (np.spacing(stored(largest, dtype)) > COARSE * deviation)
