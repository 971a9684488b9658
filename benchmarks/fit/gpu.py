"""Measure a machine with an NVIDIA GPU in at most nine minutes: tests, the fit at CIFAR-10's size, ResNet-9.

    python benchmarks/fit/gpu.py carry WHEELS                   # with a network: download what the other needs
    python benchmarks/fit/gpu.py [--wheels WHEELS] [--quick]    # on the machine, without one

Parts run one after the other, each in a process of its own with a limit in seconds, and print as they go. A part that
reaches its limit says how far it came, and the next one begins. The fit has made-up outputs: 50 of the columns matter
to each target, with heavy-tailed weights that explain a third of the variance. The published algorithm is SAGA, by our
solver `saga`, for some of the targets; the seconds for all follow from the fraction that is done at the limit. The part
`images` needs PyTorch, which is not carried.

With --host-device FOLDER, parts of the fit run at tiny size on the device that is the host (tests/hostcuda).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent.parent
EXTRA = "fitter-cuda13"
PARTS = {"tests": 100, "peak": 20, "fit": 150, "leave_out": 100, "published": 60, "images": 100}
"""Most seconds of each part: 530 in all, so that ten are left for the start."""
FULL, QUICK = (50_000, 300_000, 10_000, 4096), (60, 400, 24, 8)
"""Columns, models, test targets and training targets."""
MATTER = 50
PIECE = 2048


def carry(wheels: Path) -> None:
    """Download the wheels of the fit on a GPU, and print their sizes."""
    wheels.mkdir(parents=True, exist_ok=True)
    constraints = ROOT / "constraints.txt"
    command = ["download", "--quiet", "--dest", wheels, "--constraint", constraints, f"{ROOT}[{EXTRA}]", "pytest"]
    subprocess.run([sys.executable, "-m", "pip", *map(str, command)], check=True)
    sizes(wheels)


def sizes(wheels: Path) -> None:
    found = sorted(wheels.iterdir(), key=lambda path: -path.stat().st_size)
    for path in found:
        print(f"{path.stat().st_size / 1e6:>8.1f} MB  {path.name}")
    print(f"{sum(path.stat().st_size for path in found) / 1e6:>8.1f} MB  in all", flush=True)


def install(wheels: Path) -> None:
    sizes(wheels)
    command = ["install", "--quiet", "--no-index", "--find-links", wheels, f"datamodels-ml[{EXTRA}]", "pytest"]
    subprocess.run([sys.executable, "-m", "pip", *map(str, command)], check=True)


def made_problem(d: int, m: int, n: int, own: int):
    """Make a problem on the GPU. The first `own` targets are training examples."""
    import cupy

    from datamodels.fit.data.problem import NO_COLUMN, Problem, is_heldout
    from datamodels.fit.data.rows import Rows

    rng = np.random.default_rng(0)
    masks = rng.integers(0, 256, (m, -(-d // 8)), dtype=np.uint8)
    masks[:, -1] &= 255 >> (-d % 8)
    given = Problem(
        masks=masks,
        outputs=np.empty((m, n), dtype=np.float16),
        columns=d,
        center=np.full(d, 0.5, dtype=np.float32),
        own_column=np.where(np.arange(n) < own, np.arange(n) % d, NO_COLUMN).astype(np.int32),
        heldout=is_heldout(np.arange(m), 0.1),
    )
    truth, matter = cupy.zeros((d, n), dtype=np.float32), min(MATTER, d)
    weights = rng.standard_t(2.5, (matter, n)).astype(np.float32)
    weights /= np.sqrt((weights**2).sum(axis=0)) / 2  # outputs of unit variance, but for noise
    truth[cupy.asarray(rng.integers(d, size=(matter, n))), cupy.arange(n)] = cupy.asarray(weights)
    noise = cupy.asarray(rng.standard_normal((PIECE, n), dtype=np.float32) * np.sqrt(2))
    rows = Rows(given, xp=cupy, cache=0)
    for first in range(0, m, PIECE):
        span = slice(first, min(m, first + PIECE))
        order = cupy.asarray(rng.permutation(PIECE)[: span.stop - first])
        z = rows.unpacked(span)[:, :-1] @ truth + noise[order]
        given.outputs[rows.order[span]] = cupy.asnumpy(z.astype(np.float16))
    rows.close()
    return given


def fitted(name: str, solver: str, size: tuple[int, int, int, int], seconds: float, some: int = 0) -> None:
    """Fit targets until the limit, and print what it takes.

    size  columns, models, test targets and training targets; with the latter, all are training examples
    some  fit only so many
    """
    import cupy

    from datamodels.errors import StageError
    from datamodels.fit import memory, solve
    from datamodels.run.specs import FitSpec

    d, m, n, own = size
    begun = time.monotonic()
    given = made_problem(d, m, some or own or n, own)
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    spec = FitSpec(solver=solver)
    planned = memory.memory(memory.Size(m, d, given.n, own), spec, device="cuda")
    kind = "training" if own else "test"
    print(f"{name}: d = {d:,}, m = {m:,}, {given.n:,} {kind} targets, made in {time.monotonic() - begun:.1f} s")
    print(f"  planned: Grams {planned.gram / 1e9:.1f} GB, in all {planned.peak / 1e9:.1f} GB", flush=True)
    start, said, seen = time.monotonic(), [time.monotonic()], [None]
    stop = threading.Event()
    timer = threading.Timer(max(1.0, seconds - (start - begun) - 5), stop.set)
    timer.start()

    def progress(now) -> None:
        seen[0], most[0] = now, max(most[0], pool.total_bytes())
        if time.monotonic() - said[0] > 5:
            said[0] = time.monotonic()
            print(
                f"  {said[0] - start:6.1f} s: {now.fraction:6.1%}, {now.targets_done:,} done, {now.stage}", flush=True
            )

    most = [0]
    try:
        found = solve.fit(given, spec, 0, device="cuda", stop=stop, progress=progress)
        taken = time.monotonic() - start
        done = sum(status == "ok" for status in found.status)
        print(f"  {taken:.1f} s for all, {done:,} ok, worst gap {found.gap.max():.1e}, {most[0] / 1e9:.1f} GB")
    except StageError:
        taken = time.monotonic() - start
        fraction = max(seen[0].fraction if seen[0] else 0, 1e-9)
        print(f"  stopped after {taken:.1f} s at {fraction:.1%}: about {taken / fraction:,.0f} s for all")
    timer.cancel()
    if some:
        print(f"  so about {taken / max(seen[0].fraction, 1e-9) * (own or n) / some:,.0f} s for {own or n:,} targets")


def peak(size: tuple[int, int, int, int]) -> None:
    """Print the card, the speed of the products that the fit is made of, and that of unpacking masks."""
    import cupy

    from datamodels.fit.kernels import elementwise

    d = size[0]
    card = cupy.cuda.runtime.getDeviceProperties(0)
    print(f"{card['name'].decode()}, {card['totalGlobalMem'] / 1e9:.0f} GB", flush=True)
    for dtype in (np.float32, np.float64):
        a, b = cupy.ones((min(4096, d), d), dtype), cupy.ones((d, min(8192, d)), dtype)
        taken = timed(lambda a=a, b=b: a @ b)
        print(f"products in {np.dtype(dtype)}: {2 * a.size * b.shape[1] / taken / 1e12:.1f} TFLOP/s", flush=True)
    packed = cupy.zeros((4096, -(-d // 8)), dtype=np.uint8)
    center, kernels = cupy.full(d, 0.5, dtype=np.float32), elementwise.of(cupy)
    taken = timed(lambda: kernels.centred(packed, center, 0.5))
    print(f"masks unpacked: {4 * 4096 * (d + 1) / taken / 1e9:,.0f} GB/s written", flush=True)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of the second call."""
    import cupy

    call()
    cupy.cuda.Device().synchronize()
    start = time.perf_counter()
    call()
    cupy.cuda.Device().synchronize()
    return time.perf_counter() - start


def run_part(part: str, seconds: float, quick: bool) -> None:
    """Run one part in this process."""
    d, m, n, own = QUICK if quick else FULL
    if part == "peak":
        peak((d, m, n, own))
    elif part == "fit":
        fitted("fit", "gram", (d, m, n, 0), seconds)
    elif part == "leave_out":
        fitted("fit", "gram", (d, m, n, own), seconds)
    elif part == "published":
        fitted("published algorithm", "saga", (d, m, n, 0), seconds, some=min(n, 256))


def command_of(part: str, given: argparse.Namespace) -> list[str]:
    if part == "tests":
        return [sys.executable, "-m", "pytest", "-m", "gpu", "-rs", "tests/fit", "tests/train"]
    if part == "images":
        return [sys.executable, str(ROOT / "benchmarks/train/images.py"), "--quick"]
    options = ["--quick"] * given.quick
    options += ["--host-device", str(given.host_device)] if given.host_device else []
    return [sys.executable, __file__, "part", part, *options]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="carry WHEELS, or nothing")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels to install first, without a network")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--host-device", type=Path, help="a folder of tests/hostcuda; implies --quick")
    given = parser.parse_args()
    given.quick = given.quick or given.host_device is not None
    if given.words[:1] == ["carry"]:
        return carry(Path(given.words[1]))
    if given.words[:1] == ["part"]:
        if given.host_device:
            sys.path.insert(0, str(ROOT))
            from tests.hostcuda import device

            device.activate(given.host_device.resolve())
        return run_part(given.words[1], PARTS[given.words[1]], given.quick)
    begun = time.monotonic()
    if given.wheels:
        install(given.wheels)
    for part in given.parts:
        if given.host_device and part in ("tests", "images"):
            continue
        print(f"\n== {part}: at most {PARTS[part]} s, after {time.monotonic() - begun:.0f} s", flush=True)
        try:
            subprocess.run(command_of(part, given), cwd=ROOT, timeout=PARTS[part], check=True)
        except subprocess.TimeoutExpired:
            print(f"{part} reached its limit", flush=True)
        except subprocess.CalledProcessError as error:
            print(f"{part} failed with exit code {error.returncode}", flush=True)
    return None


if __name__ == "__main__":
    main()
