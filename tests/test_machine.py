"""What control groups allow. Each case is the files that Linux shows in such a container."""

import os
import platform
import subprocess
import sys

import pytest
import threadpoolctl

from datamodels import machine

ONE = "9:name=systemd:/x\n4:memory:{path}\n2:cpu,cpuacct:{path}\n0::/\n"
ONE_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
TWO_MOUNTS = "30 23 0:27 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate\n"
GIB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """system(groups, mounts, **files) writes /proc and /sys of a machine with 64 cores and 256 GiB."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(48)), raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 256 * GIB // 4096}.__getitem__)

    def make(groups="", mounts="", files=()):
        for name, text in (("proc/self/cgroup", groups), ("proc/self/mountinfo", mounts), *dict(files).items()):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def two(path, **files):
    return {f"sys/fs/cgroup{path}/{name.replace('_', '.')}": text for name, text in files.items()}


def test_without_limits_it_is_the_affinity_mask_and_the_machine(system, tmp_path):
    assert machine.cores(tmp_path / "nowhere") == 48 and machine.memory(tmp_path / "nowhere") == 256 * GIB
    root = system("0::/\n", TWO_MOUNTS.format(top="/"), two("", cpu_max="max 100000\n", memory_max="max\n"))
    assert machine.cores(root) == 48 and machine.memory(root) == 256 * GIB


def test_version_2_in_a_container(system):
    root = system("0::/\n", TWO_MOUNTS.format(top="/"), two("", cpu_max="250000 100000\n", memory_max=f"{4 * GIB}\n"))
    assert machine.cores(root) == 3 and machine.memory(root) == 4 * GIB


def test_the_tightest_limit_on_the_path_holds(system):
    files = (
        two("/batch", cpu_max="800000 100000", memory_max=f"{2 * GIB}")
        | two("/batch/job", cpu_max="max 100000", memory_max="max")
        | two("/batch/job/step", cpu_max="1200000 100000", memory_max=f"{8 * GIB}")
        | two("/other", cpu_max="100000 100000", memory_max=f"{GIB}")
    )
    root = system("0::/batch/job/step\n", TWO_MOUNTS.format(top="/"), files)
    assert machine.cores(root) == 8 and machine.memory(root) == 2 * GIB


@pytest.mark.parametrize("top", ["/", "/docker/abc"])
def test_version_1_with_and_without_a_namespace(system, top):
    """Without one, the container sees the machine's path, of which it mounts the lower part."""
    inner = "" if top != "/" else "/docker/abc"
    cpu, memory = (f"sys/fs/cgroup/{name}{inner}" for name in ("cpu,cpuacct", "memory"))
    files = {
        f"{cpu}/cpu.cfs_quota_us": "50000\n",
        f"{cpu}/cpu.cfs_period_us": "100000\n",
        f"{memory}/memory.limit_in_bytes": f"{3 * GIB}\n",
        f"{memory}/nested/memory.limit_in_bytes": "9223372036854771712\n",
        f"{cpu}/nested/cpu.cfs_quota_us": "-1\n",
        f"{cpu}/nested/cpu.cfs_period_us": "100000\n",
    }
    root = system(ONE.format(path="/docker/abc/nested"), ONE_MOUNTS.format(top=top), files)
    assert machine.cores(root) == 1 and machine.memory(root) == 3 * GIB


def test_a_group_outside_of_the_namespace_counts_by_what_is_mounted(system):
    root = system("0::/../../x\n", TWO_MOUNTS.format(top="/"), two("", cpu_max="200000 100000", memory_max=str(GIB)))
    assert machine.cores(root) == 2 and machine.memory(root) == GIB


def test_free_memory_is_what_the_machine_and_every_group_have_left(system, tmp_path):
    assert machine.free_memory(tmp_path / "nowhere") == 256 * GIB
    files = (
        two("/batch", memory_max=f"{4 * GIB}", memory_current=f"{3 * GIB}", memory_stat=f"inactive_file {2 * GIB}\n")
        | two("/batch/job", memory_max="max", memory_current=f"{GIB}")
        | {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {5 * GIB // 1024} kB\n"}
    )
    root = system("0::/batch/job\n", TWO_MOUNTS.format(top="/"), files)
    assert machine.free_memory(root) == 3 * GIB
    files["proc/meminfo"] = f"MemAvailable: {2 * GIB // 1024} kB\n"
    assert machine.free_memory(system("0::/batch/job\n", TWO_MOUNTS.format(top="/"), files)) == 2 * GIB
    files |= two("/batch", memory_current=f"{7 * GIB}")
    assert machine.free_memory(system("0::/batch/job\n", TWO_MOUNTS.format(top="/"), files)) == 0


def test_free_memory_in_version_1(system):
    memory = "sys/fs/cgroup/memory"
    files = {
        f"{memory}/memory.limit_in_bytes": f"{3 * GIB}\n",
        f"{memory}/memory.usage_in_bytes": f"{2 * GIB}\n",
        f"{memory}/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB // 2}\n",
    }
    assert machine.free_memory(system(ONE.format(path="/"), ONE_MOUNTS.format(top="/"), files)) == 3 * GIB // 2


def test_matrix_products_take_no_more_threads_than_they_may(monkeypatch):
    """The libraries are found once, and again after a module was imported, which may have loaded another."""
    machine._libraries.cache_clear()
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        for found, module in ((1, None), (1, "new"), (2, None)):
            with machine.limit_products(1):
                assert set(threads_of_products()) == {1}
            assert set(threads_of_products()) == {2}
            assert machine._libraries.cache_info().misses == found
            if module:
                monkeypatch.setitem(sys.modules, module, machine)


def threads_of_products():
    return [one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]


FAULTS = """
import resource
from datamodels import machine
machine.keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    before = faults()
    messages = [bytearray(b"x") * 20_000_000 for _ in range(3)]
    del messages
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these parameters")
def test_freed_memory_is_used_again_without_asking_the_system():
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 1000, "pages of 4 KiB: without it, 60 MB take 10,000 or more"


def test_this_machine_has_some():
    assert 1 <= machine.cores() <= os.cpu_count() and 2**26 < machine.memory() < 2**50
    assert 0 <= machine.free_memory() <= machine.memory()
