"""Measure the time and memory of clusters and components of many targets, on made-up sparse weights with groups.

    python benchmarks/analyses/clusters.py [--targets 60000] [--columns 50000] [--weights 100] [--groups 20]

Each target has four fifths of its weights on columns of its group, some of which are more popular than others, and one
fifth on any columns. Prints CPU seconds, seconds, and the peak memory of the process, including the weights.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from datamodels.analyze.patterns.clusters import clusters
from datamodels.analyze.patterns.components import components


def planted(n: int, d: int, nonzeros: int, groups: int) -> tuple[sparse.csr_array, np.ndarray]:
    """Make (weights float32 CSR [n, d], groups int[n])."""
    rng = np.random.default_rng(0)
    group, own = rng.integers(groups, size=n), d // groups
    inside = group[:, None] * own + (own * rng.random((n, nonzeros - nonzeros // 5)) ** 2).astype(np.int64)
    column = np.concatenate([inside, rng.integers(d, size=(n, nonzeros // 5))], axis=1)
    weight = rng.exponential(size=column.shape).astype(np.float32)
    row = np.arange(n).repeat(nonzeros)
    return sparse.csr_array((weight.ravel(), (row, column.ravel())), shape=(n, d)), group


def timed(name: str, ask: Callable[[], Any]) -> Any:
    started, cpu = time.perf_counter(), time.process_time()
    found = ask()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{name:<12}{time.process_time() - cpu:>8.1f} CPU s{time.perf_counter() - started:>8.1f} s"
        f"{peak:>8.2f} GiB at most so far",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=60_000)
    parser.add_argument("--columns", type=int, default=50_000)
    parser.add_argument("--weights", type=int, default=100, help="of each target")
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="a tenth of each")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    n, d = options.targets // scale, options.columns // scale
    theta, group = timed("weights", lambda: planted(n, d, options.weights, options.groups))
    print(f"{n:,} targets x {d:,} columns, {theta.nnz:,} weights, {options.groups} groups")
    timed("components", lambda: components(theta, k=10))
    for name, k in (("clusters", options.groups), ("by the gap", 0)):
        found = timed(name, lambda k=k: clusters(theta, k=k))
        table = np.zeros((len(found.sizes), options.groups), dtype=np.int64)
        np.add.at(table, (found.cluster[found.cluster >= 0], group[found.cluster >= 0]), 1)
        print(f"{'':12}{len(found.sizes)} clusters, purity {table.max(axis=1).sum() / n:.3f}")


if __name__ == "__main__":
    main()
