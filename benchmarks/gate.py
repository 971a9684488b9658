"""Compare the speed of a few pieces with what was recorded: `make bench-gate`.

    python benchmarks/gate.py [NAME ...] [--record] [--limit 1.2]

Machines differ and are busy. So each piece is measured as the CPU time that it takes divided by that of a calibration,
a loop of the same kind of work that uses none of this project's code. Piece and calibration take turns, and the ratio
is the median over the turns. A piece fails if its ratio is more than `limit` times the one in `gate.json`, in each of
three attempts. `--record` writes the ratios there; do so in a commit of its own that says why.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import sparse

RECORDED = Path(__file__).with_name("gate.json")
TURNS = 15
ATTEMPTS = 3
LEAST = 0.02
"""Least CPU seconds of one measurement; shorter pieces are repeated."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """A piece that is measured.

    make         returns the function that does the work once
    calibration  name in CALIBRATIONS of the same kind of work
    """

    make: Callable[[], Callable[[], object]]
    calibration: str


def interpreter() -> Callable[[], object]:
    """Work of Python itself: small dictionaries and texts, since large ones may cost new memory each time."""
    return lambda: [json.loads(json.dumps({str(i): [i, i * i, {"x": str(i)}] for i in range(100)})) for _ in range(30)]


def arrays() -> Callable[[], object]:
    """Work on arrays that do not fit into the caches."""
    x = np.random.default_rng(0).normal(size=2_000_000).astype(np.float32)
    return lambda: np.sort(x[:200_000]).sum() + (x * 2 + 1).sum()


def products() -> Callable[[], object]:
    """Products of a sparse matrix."""
    a = sparse.random_array((2000, 2000), density=0.01, rng=np.random.default_rng(0), dtype=np.float32, format="csr")
    b = np.random.default_rng(1).normal(size=(2000, 50)).astype(np.float32)
    return lambda: a @ b


CALIBRATIONS = {f.__name__: f for f in (interpreter, arrays, products)}


def subsets() -> Callable[[], object]:
    """Draw 500 subsets of half of 5,000 examples."""
    from datamodels.run import designs
    from datamodels.testing import fitted

    design = fitted.make_run(d=5000).design
    return lambda: designs.subsets(design, 0, 500)


def encode() -> Callable[[], object]:
    """Check and encode a part of 100 models and 4,000 targets."""
    from datamodels.aggregate import part
    from datamodels.testing import fitted

    run = fitted.make_run(n=4000, chunk=100, sub_chunk=100)
    outputs = np.random.default_rng(0).normal(size=(100, run.n)).astype("f4")
    return lambda: part.encode(part.validate(run, range(100), np.arange(100), outputs))


def decode() -> Callable[[], object]:
    """Read such a part."""
    from datamodels.aggregate import part
    from datamodels.testing import fitted

    run, data = fitted.make_run(n=4000, chunk=100, sub_chunk=100), encode()()
    return lambda: part.decode(data, "", run=run.name, models=range(100), n=run.n)


def manifests() -> Callable[[], object]:
    """Read the manifest of a run with 200 parts, of which each was published alone."""
    from datamodels.aggregate import manifest
    from datamodels.testing import committed

    store, run = _local(), committed.make_run(m=2000, evaluate={"subsets": 0})
    committed.commit(store, run)
    return lambda: manifest.read_newest(store, run.name)


def lasso() -> Callable[[], object]:
    """Fit a LASSO with a choice of lambda: 1,000 models, 60 columns, 9 targets."""
    return _fit({"estimator": "lasso", "lambdas": 10})


def difference() -> Callable[[], object]:
    """Take differences of means of the same outputs."""
    return _fit({"estimator": "difference"})


def predict() -> Callable[[], object]:
    """Predict 500 targets on 100 subsets of 2,000 columns."""
    from datamodels.fit.data import problem

    rng = np.random.default_rng(0)
    theta = rng.normal(size=(500, 2000)) * (rng.random((500, 2000)) < 0.03)
    zeros = np.zeros(500)
    solution = problem.of_dense(
        theta.astype(np.float32), status=[problem.OK] * 500, lambda_=zeros, gap=zeros, heldout_r2=zeros, intercept=zeros
    )
    members = rng.random((100, 2000)) < 0.5
    return lambda: solution.predict(members)


def spec() -> Callable[[], object]:
    """Parse a spec, and name its run."""
    from datamodels.run import specs

    document = {"name": "gate", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 1000}
    return lambda: [specs.parse(document).run for _ in range(20)]


PIECES = {
    "subsets": Piece(subsets, "arrays"),
    "encode": Piece(encode, "arrays"),
    "decode": Piece(decode, "arrays"),
    "manifests": Piece(manifests, "interpreter"),
    "lasso": Piece(lasso, "interpreter"),
    "difference": Piece(difference, "interpreter"),
    "predict": Piece(predict, "products"),
    "spec": Piece(spec, "interpreter"),
}


def _local():
    from datamodels.storage.local import LocalStore

    return LocalStore(tempfile.mkdtemp(prefix="gate-", dir=_FOLDER.name))


_FOLDER = tempfile.TemporaryDirectory()


def _fit(settings: dict[str, object]) -> Callable[[], object]:
    from datamodels.fit.job.job import FitJob
    from datamodels.run import runs
    from datamodels.settings import FitterSettings
    from datamodels.testing import committed

    store, run = _local(), committed.make_run(m=1000, chunk=1000, sub_chunk=1000, fit=settings)
    runs.create(store, run)
    committed.commit(store, run)
    fitter = FitterSettings(scratch=tempfile.mkdtemp(dir=_FOLDER.name), device="cpu", threads=1)

    def fit() -> object:
        for key in list(store.list("fit/")):  # else it would be found finished
            store.delete(key)
        job = FitJob(store, run.name)
        return job.solve(fitter, progress=lambda *_: None, stop=threading.Event())

    return fit


def seconds(work: Callable[[], object], times: int) -> float:
    """Return the CPU seconds of this process that one call takes, of a number of calls."""
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times


def ratio(piece: Piece) -> float:
    """Return the CPU time of a piece in units of its calibration."""
    works = piece.make(), CALIBRATIONS[piece.calibration]()
    times = []
    for work in works:
        work()  # compiles, and fills caches
        times.append(max(1, round(LEAST / max(1e-6, seconds(work, 1)))))
    taken = [[seconds(work, count) for work, count in zip(works, times, strict=True)] for _ in range(TURNS)]
    return float(np.median([work / calibration for work, calibration in taken]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*PIECES, []], help=f"pieces (default: all): {', '.join(PIECES)}")
    parser.add_argument("--record", action="store_true", help=f"write the ratios to {RECORDED.name}")
    parser.add_argument("--limit", type=float, default=1.2, help="times the recorded ratio (default: 1.2)")
    options = parser.parse_args()
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    failed = []

    def good(attempts: list[float], before: float) -> bool:
        return bool(attempts) and min(attempts) <= options.limit * before

    print(f"{'piece':<12}{'ratio':>9}{'recorded':>10}{'of it':>7}  in units of")
    for name in options.names or PIECES:
        before = recorded.get(name)
        attempts = []
        while len(attempts) < ATTEMPTS and (options.record or before is None or not good(attempts, before)):
            attempts.append(ratio(PIECES[name]))
        found = float(np.median(attempts)) if options.record else min(attempts)
        share = "" if before is None else f"{found / before:.2f}"
        print(f"{name:<12}{found:>9.3f}{before or 0:>10.3f}{share:>7}  {PIECES[name].calibration}", flush=True)
        if options.record:
            recorded[name] = round(found, 4)
        elif before is None or not good(attempts, before):
            failed.append(name)
    if options.record:
        RECORDED.write_text(json.dumps(recorded, indent=2) + "\n")
    elif failed:
        print(f"slower than {options.limit} times what {RECORDED} says, or not recorded: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
