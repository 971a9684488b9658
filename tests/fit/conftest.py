import numpy as np
import pytest

from datamodels.fit.data.problem import NO_COLUMN, Problem, is_heldout
from datamodels.fit.pairs import pairs
from datamodels.run import designs, specs
from datamodels.run.designs import Design
from datamodels.run.runs import Run


@pytest.fixture(scope="module", autouse=True)
def small_models_of_inputs(request):
    """Features of pairs come from small models of the inputs: full ones take half a second for each fit."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name != "pairs" and request.path.name not in ("test_device.py", "test_memory.py"):
            with_small_models(patch)
        yield


def with_small_models(patch):
    for name in ("COMPONENTS", "LANDMARKS", "SUBSETS"):
        patch.setattr(pairs, name, 2)


@pytest.fixture
def make_run():
    """A run without a data set: d examples, own examples of the targets, m models."""

    def make(d: int, own: list[int], m: int, fit: dict | None = None, **design) -> Run:
        document = {
            "name": "made",
            "dataset": {"load": "nowhere:load"},
            "trainer": {"class": "nowhere:Trainer"},
            "m": m,
            "evaluate": {"subsets": 3, "models": 3},
            "chunk": 10,
            "sub_chunk": 5,
            "fit": fit or {},
        }
        return Run(
            specs.parse(document),
            Design(**{"kind": "uniform", "seed": 0, "alpha": 0.5, "examples": d} | design),
            np.array(own, dtype=np.int32),
        )

    return make


@pytest.fixture
def made_problem():
    """A problem of m random masks with half the columns in each, sparse heavy-tailed truth and noise.

    Returns (Problem, masks bool[m, d]). Pinned columns never vary. `scale` is that of the outputs, `noise` is
    relative to the signal.
    """

    def make(
        d: int,
        m: int,
        n: int,
        *,
        own=None,
        noise=1.0,
        scale=1.0,
        shift=0.0,
        seed=0,
        holdout=0.1,
        pinned_in=(),
        pinned_out=(),
    ) -> tuple[Problem, np.ndarray]:
        rng = np.random.default_rng(seed)
        design = Design("uniform", seed, 0.5, d, pinned_in=tuple(pinned_in), pinned_out=tuple(pinned_out))
        masks = designs.subsets(design, 0, m)
        x = designs.unpack(masks, d)
        truth = rng.standard_t(2.5, size=(d, n)) * (rng.random((d, n)) < 0.2)
        y = x @ truth
        y = y / np.maximum(y.std(axis=0), 1e-9) + noise * rng.normal(size=(m, n))
        made = Problem(
            masks=masks,
            outputs=(scale * y + shift).astype(np.float32),
            columns=d,
            center=design.inclusion,
            own_column=np.full(n, NO_COLUMN, dtype=np.int32) if own is None else np.array(own, dtype=np.int32),
            heldout=is_heldout(np.arange(m), holdout),
        )
        return made, x

    return make


@pytest.fixture
def cupy():
    """CuPy with a device, or the reason why not."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"no CUDA device: {error}")
    if not devices:
        pytest.skip("no CUDA device")
    return cupy
