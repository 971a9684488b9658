"""Find out what this process may use of its machine, cores and memory, and limit the threads of matrix products.

A container, a job of a batch system or `taskset` may allow less than the machine has. Limits of control groups are
nested: the tightest one on the path from the process's own group to the top holds.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

ROOT = Path("/")
KEPT_MEMORY = 64 * 2**20
"""Freed bytes that `keep_freed_memory` keeps in each heap of glibc. Blocks of up to a half of it come from heaps."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""


def cores(root: Path = ROOT) -> int:
    """Return how many cores this process may use, at least 1.

    It is the least of the machine's cores, those of the affinity mask, and the quotas of control groups, rounded up.

    root  folder with proc and sys; tests give another
    """
    allowed = [float(os.cpu_count() or 1)]
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        allowed.append(len(os.sched_getaffinity(0)))
    for group in _groups(root, "cpu"):
        quota, period = _numbers(group / "cpu.max", 2) or (
            *(_numbers(group / "cpu.cfs_quota_us", 1) or (0.0,)),
            *(_numbers(group / "cpu.cfs_period_us", 1) or (0.0,)),
        )
        if quota > 0 and period > 0:
            allowed.append(quota / period)
    return max(1, math.ceil(min(allowed)))


def limit_products(threads: int) -> AbstractContextManager[Any]:
    """Have matrix products of NumPy and SciPy computed by at most so many threads, until the context ends."""
    return _libraries(len(sys.modules)).limit(limits=threads, user_api="blas")


@functools.lru_cache(maxsize=1)
def _libraries(modules: int) -> Any:
    """Return the libraries that are loaded once so many modules are imported, of which each may have loaded one.

    To look for them takes milliseconds, as long as a small fit.
    """
    import threadpoolctl  # the query client needs this module, and installs without it

    return threadpoolctl.ThreadpoolController()


def keep_freed_memory() -> None:
    """Let a process whose messages take megabytes keep the memory of the last ones for the next ones, 64 MiB at most.

    Otherwise glibc gives it back, and the system clears each page before the process gets it again. With another C
    library nothing happens.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, KEPT_MEMORY)
        mallopt(_MMAP_THRESHOLD, KEPT_MEMORY // 2)


def memory(root: Path = ROOT) -> int:
    """Return the bytes that this process may use: the machine's, or the least that its control groups allow.

    root  folder with proc and sys; tests give another
    """
    allowed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            for limit in _numbers(group / name, 1):
                allowed = min(allowed, int(limit))
    return allowed


def free_memory(root: Path = ROOT) -> int:
    """Return the bytes that this process may still take, without those that only cache files.

    It is the least of what the machine has available, and what each control group has left.

    root  folder with proc and sys; tests give another
    """
    free = memory(root)
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = min(free, int(line.split()[1]) * 1024)
    for group in _groups(root, "memory"):
        cached = dict(line.split() for line in _lines(group / "memory.stat") if "inactive_file" in line)
        for limit_name, used_name, cached_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _numbers(group / limit_name, 1), _numbers(group / used_name, 1)
            if limit and used:
                free = min(free, int(limit[0] - used[0]) + int(cached.get(cached_name, 0)))
    return max(free, 0)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the process's control group and of all above it, for version 1 and version 2 of cgroups."""
    own = _own_groups(root)
    for mount, top, controllers in _mounts(root):
        name = "" if controllers is None else controller
        if name not in own or (controllers is not None and controller not in controllers):
            continue
        # Without a namespace, a container sees the path from the top of the machine, and mounts only the lower part.
        path = own[name].removeprefix(top.rstrip("/")).strip("/")
        parts = [] if ".." in path.split("/") else [part for part in path.split("/") if part]
        folder = root / mount.lstrip("/")
        for depth in range(len(parts), -1, -1):
            yield folder.joinpath(*parts[:depth])


def _own_groups(root: Path) -> dict[str, str]:
    """Return the path of the process's group by controller; that of version 2 is under the empty name."""
    found: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        found |= dict.fromkeys(controllers.split(","), path)
    return found


def _mounts(root: Path) -> Iterator[tuple[str, str, list[str] | None]]:
    """Yield (mount point, its top in the hierarchy, controllers) of each mounted hierarchy; None for version 2."""
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, filesystem = line.partition(" - ")
        top, point = mount.split()[3:5]
        kind, _, options = filesystem.split()[:3]
        if kind in ("cgroup", "cgroup2"):
            yield point, top, options.split(",") if kind == "cgroup" else None


def _lines(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text().splitlines()
    return []


def _numbers(path: Path, count: int) -> tuple[float, ...]:
    """Return the numbers in a file; none if it is not there, or says "max", which is no limit."""
    with contextlib.suppress(OSError, ValueError):
        return tuple(float(word) for word in path.read_text().split()[:count])
    return ()
