"""Measure `datamodels export`: seconds, size and peak memory of each format, for a run of many targets and examples.

    python benchmarks/exchange/export.py [--m 250,1000] [--targets 60000] [--examples 50000] [--quick]

Makes runs with random outputs and weights; nothing is trained. Each export is a process of its own. If memory does not
grow with m, the export streams. Prints Markdown; docs/benchmarks/export.md keeps it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from datamodels.fit.data.problem import OK, Solution
from datamodels.fit.job import fits
from datamodels.run import runs, specs
from datamodels.run.runs import Run
from datamodels.storage.local import LocalStore
from datamodels.testing import committed

WEIGHTS, BLOCK = 100, 500
"""Weights of a target, and targets of a block of the fit."""
CHILD = """
import sys
from datamodels.cli.main import main
code = main(sys.argv[1:])
print(*[line for line in open("/proc/self/status") if line.startswith("VmHWM")])
sys.exit(code)
"""
"""Runs a command and prints the peak of its own memory in kB; `resource` would count that of its parent, too."""
FORMATS = ("npz", "npy", "parquet", "csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", default="250,1000", help="numbers of models")
    parser.add_argument("--targets", type=int, default=60_000)
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--quick", action="store_true", help="small runs")
    options = parser.parse_args()
    if options.quick:
        options.m, options.targets, options.examples = "100,200", 600, 500
    print("| models | outputs, MB | format | seconds | MB written | peak memory, MB |\n|---|---|---|---|---|---|")
    for m in map(int, options.m.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            run = make(Path(folder), m, options.targets, options.examples)
            for kind in options.formats.split(","):
                seconds, written, peak = export(Path(folder), run, kind)
                size = m * options.targets * 4 / 1e6
                print(f"| {m:,} | {size:,.0f} | {kind} | {seconds:.0f} | {written:,.0f} | {peak:,.0f} |", flush=True)


def make(home: Path, m: int, targets: int, examples: int) -> Run:
    """Make a run with m models of random outputs, 10 unseen subsets of 2 models, and a fit of random weights."""
    options = {"examples": examples, "targets": targets}
    document = {
        "name": "large",
        "dataset": {"load": "datamodels.exchange.absent:load", "options": options},
        "trainer": {"class": "datamodels.exchange.absent:Elsewhere"},
        "m": m,
        "chunk": 100,
        "sub_chunk": 100,
        "evaluate": {"subsets": 10, "models": 2},
    }
    spec = specs.parse(document)
    run = runs.resolve(spec, runs.load_dataset(spec))
    store, rng = LocalStore(home / "store"), np.random.default_rng(0)
    runs.create(store, run)
    committed.commit(store, run, outputs=lambda run, models: rng.normal(size=(len(models), run.n)).astype(np.float32))
    spans = [(first, min(first + BLOCK, targets)) for first in range(0, targets, BLOCK)]
    for first, last in spans:
        fits.write(store, run.name, "d0", first, solution(rng, last - first, examples))
    record = fits.FitRecord(
        run=run.name,
        number=0,
        digest="d0",
        manifest_version=0,
        spec_hash=spec.hash,
        solver="gram",
        settings=spec.fit.model_dump(mode="json"),
        rows=m,
        columns=examples,
        targets=targets,
        blocks=(),
        seconds=1.0,
    )
    fits.commit(store, record, spans)
    return run


def solution(rng: np.random.Generator, n: int, d: int) -> Solution:
    """Return random weights of n targets."""
    each = min(WEIGHTS, d)
    columns = np.sort(np.argsort(rng.random((n, d)), axis=1)[:, :each], axis=1) if d < 10 * each else None
    if columns is None:  # distinct, and drawn without sorting all columns
        columns = np.sort(rng.integers(0, d // each, (n, each)) + np.arange(each) * (d // each), axis=1)
    return Solution(
        d=d,
        status=[OK] * n,
        lambda_=np.full(n, 0.1),
        gap=np.full(n, 1e-4),
        heldout_r2=rng.random(n),
        intercept=rng.normal(size=n),
        indptr=np.arange(n + 1) * each,
        columns=columns.reshape(-1).astype(np.int32),
        weights=rng.normal(size=n * each).astype(np.float32),
    )


def export(home: Path, run: Run, kind: str) -> tuple[float, float, float]:
    """Return seconds, MB written and MB of peak memory of one export."""
    out = home / f"out{'.npz' if kind == 'npz' else ''}"
    command = ["export", run.name, "--format", kind, "--output", str(out), "--home", str(home)]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", CHILD, *command], capture_output=True, text=True, check=True)
    seconds, peak = time.perf_counter() - started, int(done.stdout.split()[-2])
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    written = sum(path.stat().st_size for path in files) / 1e6
    shutil.rmtree(out) if out.is_dir() else out.unlink()
    return seconds, written, peak / 1e3


if __name__ == "__main__":
    main()
