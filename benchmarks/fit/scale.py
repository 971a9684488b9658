"""Measure fits at the size of CIFAR-10 on this machine: seconds, and memory beside the plan. Prints a Markdown table.

    python benchmarks/fit/scale.py [--quick] [--folder FOLDER] [--threads 2] [--case NAME ...]

Masks have half of the columns, a twentieth of the columns matters to each target, with heavy-tailed weights, and R^2 is
0.3 to 0.6. Each case has a process of its own. It draws the masks, makes the outputs, whose time does not count, and
fits all targets with 20 lambdas, from files, as a run does. Memory is the most that the process holds without files,
above what it held before. The folder keeps what is measured: stopped, the script continues with the next case. It needs
room for masks, outputs and Gram: 24 GB for 10,000 targets.

--quick fits 1/25 of the columns and models, by the same algorithms.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from plan import Watched

from datamodels.fit import memory, solve
from datamodels.fit.data.problem import NO_COLUMN, OK, Problem, is_heldout
from datamodels.fit.kernels import membership
from datamodels.fit.lasso import gram
from datamodels.plan import fit as plan
from datamodels.run import designs, precision
from datamodels.run.designs import Design
from datamodels.run.specs import FitSpec

MATTER = 0.05
LAMBDAS = 20
PIECE = 4096
"""Models whose masks, or outputs, are made at a time."""
QUICK = 25
QUICK_TARGETS = 200


@dataclasses.dataclass(frozen=True)
class Case:
    """A fit of n targets of m models on d columns; `own` tells whether the targets are training examples."""

    d: int
    m: int
    n: int
    solver: str = "gram"
    own: bool = False
    goal: str = ""

    def quick(self) -> Case:
        return dataclasses.replace(self, d=self.d // QUICK, m=self.m // QUICK, n=min(self.n, QUICK_TARGETS))


CASES = {
    "small": Case(20_000, 120_000, 64, goal="40 s"),
    "some": Case(50_000, 300_000, 200, goal="10 min, with masks"),
    "training": Case(50_000, 300_000, 64, own=True, goal="20 CPU s for a target"),
    "middle": Case(30_000, 180_000, 200, goal="a tenth of `stream`"),
    "all": Case(50_000, 300_000, 10_000, goal="60 min"),
    "streamed": Case(30_000, 180_000, 200, solver="stream"),
}


def made(case: Case, folder: Path, threads: int) -> tuple[Problem, float]:
    """Return a problem, whose masks and outputs are in files of the folder, and the seconds that the masks took."""
    rng, design = np.random.default_rng(0), Design("uniform", 0, 0.5, case.d)
    masks = np.lib.format.open_memmap(folder / "masks.npy", "w+", np.uint8, (case.m, design.mask_bytes))
    started = time.monotonic()
    for first in range(0, case.m, PIECE):
        masks[first : first + PIECE] = designs.subsets(design, first, min(first + PIECE, case.m))
    drawn = time.monotonic() - started
    count = max(1, round(MATTER * case.d))
    columns = np.array([rng.choice(case.d, count, replace=False) for _ in range(case.n)]).astype(np.int32)
    weights = rng.standard_t(2.5, size=(case.n, count))
    share = rng.uniform(0.3, 0.6, size=(case.n, 1))
    weights *= 2 * np.sqrt(share / (weights**2).sum(axis=1, keepdims=True))  # a column of bits has a variance of 1/4
    indptr, flat = np.arange(case.n + 1) * count, weights.astype(np.float32).ravel()
    outputs = np.lib.format.open_memmap(folder / "outputs.npy", "w+", precision.DTYPE, (case.m, case.n))
    groups = np.array_split(np.arange(case.n), threads)
    for first in range(0, case.m, PIECE):
        piece = masks[first : first + PIECE]
        words = membership.words_of(piece, case.d)

        def signals(targets: np.ndarray, words: np.ndarray = words, rows: int = len(piece)) -> np.ndarray:
            return membership.sums(indptr, columns.ravel(), flat, targets, words, rows)

        with ThreadPoolExecutor(threads) as pool:
            signal = np.concatenate(list(pool.map(signals, groups)), axis=1)
        noise = rng.standard_normal(signal.shape, dtype=np.float32) * np.sqrt(1 - share).T
        outputs[first : first + PIECE] = signal - weights.sum(axis=1) / 2 + noise
    own = np.arange(case.n) if case.own else np.full(case.n, NO_COLUMN)
    held = is_heldout(np.arange(case.m), 0.1)
    return Problem(masks, outputs, case.d, design.inclusion, own.astype(np.int32), held), drawn


def measure(case: Case, threads: int, folder: Path) -> dict[str, Any]:
    """Fit a case, and return what it takes."""
    settings = FitSpec(estimator="lasso", solver=case.solver, lambdas=LAMBDAS)
    solve.fit(made_small(case), settings, 0, threads=threads)  # compiles
    given, drawn = made(case, folder, threads)
    size = memory.Size.of(given)
    with Watched() as watched:
        started, before = time.monotonic(), cpu_seconds()
        found = solve.fit(given, settings, 0, threads=threads, checkpoint=folder / "fit")
        seconds, cpu = time.monotonic() - started, cpu_seconds() - before
    planned = plan.plan(size, settings, threads=threads)
    return {
        "masks_seconds": drawn,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "planned_cpu_seconds": planned.cpu_seconds,
        "bytes": watched.peak,
        "planned_bytes": planned.memory.peak,
        "not_fitted": sum(status != OK for status in found.status),
        "gap": float(found.gap.max()),
        "weights": float(np.diff(found.indptr).mean()),
        "r2": float(found.heldout_r2.mean()),
        "load": os.getloadavg()[1],
    }


def made_small(case: Case) -> Problem:
    with tempfile.TemporaryDirectory() as folder:
        return made(dataclasses.replace(case, d=320, m=1920, n=4), Path(folder), 1)[0]


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def table(cases: dict[str, Case], found: dict[str, dict[str, Any]]) -> str:
    """Return the table of the cases that are measured."""
    lines = [
        "| d, m, targets | masks | fit | CPU s | of which planned | for each target | memory, GB | planned | weights | "
        "largest gap | load | goal |",
        "|---" * 12 + "|",
    ]
    for name, case in cases.items():
        if name not in found:
            continue
        f, solver = found[name], "" if case.solver == "gram" else f", `{case.solver}`"
        what = f"{case.d:,}, {case.m:,}, {case.n:,}{' training' if case.own else ''}{solver}"
        left = f", {f['not_fitted']} not fitted" if f["not_fitted"] else ""
        lines.append(
            f"| {what} | {f['masks_seconds']:,.0f} s | {f['seconds']:,.0f} s | {f['cpu_seconds']:,.0f} | "
            f"{f['planned_cpu_seconds'] / f['cpu_seconds']:.2f} | {f['cpu_seconds'] / case.n:.2f} | "
            f"{f['bytes'] / 1e9:.2f} | {f['planned_bytes'] / 1e9:.2f} | {f['weights']:,.0f} | {f['gap']:.1e}{left} | "
            f"{f['load']:.0f} | {case.goal} |"
        )
    if {"middle", "streamed"} <= found.keys():
        ratio = found["streamed"]["cpu_seconds"] / found["middle"]["cpu_seconds"]
        lines.append(f"\n`stream` takes {ratio:.1f} times the CPU seconds of `gram`.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"fit 1/{QUICK} of the columns and models")
    parser.add_argument("--folder", type=Path, default=Path(".datamodels/scale"), help="what is measured, and room")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", action="append", choices=CASES, help="may be given again and again; default: all")
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = {name: case.quick() if options.quick else case for name, case in CASES.items()}
    if options.one:
        if options.quick:
            gram.PANELS_FROM = 0
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            print(json.dumps(measure(cases[options.one], options.threads, Path(folder))))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    kept = options.folder / ("quick.json" if options.quick else "found.json")
    found = json.loads(kept.read_text()) if kept.exists() else {}
    for name in options.case or cases:
        if name not in found:
            print(f"{name}: {cases[name]}", file=sys.stderr, flush=True)
            command = [
                sys.executable,
                __file__,
                "--one",
                name,
                "--folder",
                options.folder,
                "--threads",
                options.threads,
            ]
            command += ["--quick"] * options.quick
            done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
            kept.write_text(json.dumps(found, indent=1))
    print(table(cases, found))


if __name__ == "__main__":
    main()
