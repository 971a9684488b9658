"""Arrays as other programs write them, from weights that are known."""

import dataclasses

import numpy as np
import pytest

D, N, M = 24, 3, 120


@dataclasses.dataclass
class Arrays:
    """masks bool[m, d] and outputs float64[m, n]; unseen masks [s, d] and outputs [s, r, n]; and the true weights."""

    masks: np.ndarray
    outputs: np.ndarray
    unseen_masks: np.ndarray
    unseen_outputs: np.ndarray
    theta: np.ndarray


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(N, D)) * (rng.random((N, D)) < 0.3)
    masks, unseen = rng.random((M, D)) < 0.5, rng.random((8, D)) < 0.5
    noise = 0.1 * rng.normal(size=(M + 8 * 2, N))
    outputs = masks @ theta.T + 100 + noise[:M]
    return Arrays(masks, outputs, unseen, (unseen @ theta.T + 100)[:, None] + noise[M:].reshape(8, 2, N), theta)


@pytest.fixture
def saved(tmp_path, arrays):
    """Returns the path of an array that it saves; the default of each name is that of `arrays`."""

    def save(name, values=None):
        path = tmp_path / f"{name}.npy"
        np.save(path, getattr(arrays, name) if values is None else values)
        return str(path)

    return save
