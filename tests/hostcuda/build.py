"""Build the host device from packages of PyPI. README.md says why each is needed."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("device.cpp", "kernel.h", "requirements.txt", "build.py")
COMPILE = ("g++", "-std=c++17", "-fPIC", "-shared", "-w")
KERNEL_FLAGS = ("-O1", "-fpermissive")
MODULE = "cupy_backends/cuda/api/runtime"
CUDA = "nvidia/cu13"
LIBRARIES = ("libhostcuda.so", "libcuda.so")
LAUNCHED = "launched"
"""File that names the kernels of the last tests."""
SECONDS = 600
"""Most seconds of one command."""


class Impossible(Exception):
    """The host device cannot be built on this machine."""


def fingerprint() -> str:
    """Return a digest of what the build depends on."""
    found = hashlib.sha256(platform.python_version().encode())
    for name in SOURCES:
        found.update((HERE / name).read_bytes())
    return found.hexdigest()


def build(folder: Path) -> None:
    """Build everything into a folder, unless it is there already. Raises Impossible."""
    done = folder / "done"
    if done.exists() and done.read_text() == fingerprint():
        return
    if platform.machine() != "x86_64" or sys.platform != "linux":
        raise Impossible("CuPy's packages used here are those for Linux on x86-64")
    if not shutil.which("g++"):
        raise Impossible("g++ is not installed")
    shutil.rmtree(folder, ignore_errors=True)
    site, tools, source = folder / "site", folder / "tools", folder / "source"
    source.mkdir(parents=True)
    pip = (sys.executable, "-m", "pip")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps")
    run(*pip, "install", *quiet, "--target", site, "-r", HERE / "requirements.txt")
    run(*pip, "install", *quiet, "--target", tools, "Cython>=3.2,<3.3", "setuptools>=77")
    # pip runs the package's set-up to learn its name. READTHEDOCS is how CuPy lets it pass without CUDA.
    version = re.search(r"cupy-cuda13x==(\S+)", (HERE / "requirements.txt").read_text())[1]
    run(
        *(
            *pip,
            "download",
            *quiet,
            "--no-binary",
            "cupy",
            "--no-build-isolation",
            "--dest",
            source,
            f"cupy=={version}",
        ),
        env={"READTHEDOCS": "True", "CUPY_INSTALL_NO_CUDA": "1", "PYTHONPATH": str(tools)},
    )
    (archive,) = source.glob("cupy-*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(source, filter="data")
    module(source / f"cupy-{version}", tools, site)
    device(folder, site)
    run(
        *COMPILE, *KERNEL_FLAGS, *includes(folder), "-x", "c++-header", HERE / "kernel.h", "-o", folder / "kernel.h.gch"
    )
    shutil.copy(HERE / "kernel.h", folder)
    shutil.rmtree(source)
    shutil.rmtree(tools)
    done.write_text(fingerprint())


def module(source: Path, tools: Path, site: Path) -> None:
    """Build the one module of CuPy that contains NVIDIA's runtime, so that it takes the runtime from the process."""
    cython = (
        "from Cython.Build import cythonize; from setuptools import Extension;"
        f"cythonize([Extension({MODULE.replace('/', '.')!r}, [{MODULE + '.pyx'!r}], language='c++')], language_level=3,"
        " compiler_directives={'embedsignature': True, 'c_api_binop_methods': True, 'binding': False,"
        " 'warn.deprecated.IF': False}, compile_time_env=dict(CUPY_USE_CUDA_PYTHON=False, CUPY_CUFFT_STATIC=False,"
        " CUPY_CYTHON_VERSION='3.2', CUPY_CUDA_VERSION=13000, CUPY_HIP_VERSION=0), quiet=True)"
    )
    run(sys.executable, "-c", cython, cwd=source, env={"PYTHONPATH": str(tools)})
    (built,) = (site / MODULE).parent.glob("runtime.*.so")
    (source / "cuda_profiler_api.h").write_text('extern "C" cudaError_t cudaProfilerStart(), cudaProfilerStop();')
    headers = (f"-I{source}", f"-I{site / CUDA / 'include'}", f"-I{sysconfig.get_path('include')}")
    run(*COMPILE, "-O1", *headers, source / f"{MODULE}.cpp", "-o", built)


def device(folder: Path, site: Path) -> None:
    """Build the device. Calls that CuPy could make and the device does not have end the process with their name."""
    modules = [*site.glob(f"{MODULE}.*.so"), *site.glob("cupy_backends/cuda/libs/cublas.*.so")]
    has = set(re.findall(r"\b(cu\w+)\(", (HERE / "device.cpp").read_text()))
    lines = [
        f'extern "C" int {name}() {{ fprintf(stderr, "hostcuda: {name} is not there\\n"); abort(); }}'
        for name in sorted({name for path in modules for name in undefined(path)} - has)
    ]
    missing = folder / "missing.cpp"
    missing.write_text("\n".join(["#include <cstdio>", "#include <cstdlib>", *lines]) + "\n")
    # Under these names, CuPy finds the libraries among those that are loaded. The second is the first by another name.
    flags = ("-O3", "-march=native", f"-I{site / CUDA / 'include'}", "-Wl,-soname,libcublas.so.13", "-ldl")
    run(*COMPILE, HERE / "device.cpp", missing, *flags, "-o", folder / LIBRARIES[0])
    linked = ("-Wl,--no-as-needed,-soname,libcuda.so.1", folder / LIBRARIES[0])
    run(*COMPILE, "-x", "c++", os.devnull, "-x", "none", *linked, "-o", folder / LIBRARIES[1])


def undefined(path: Path) -> set[str]:
    """Return the names of CUDA and cuBLAS that a library expects from others."""
    found = subprocess.run(["nm", "-D", "--undefined-only", path], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"\b(cu(?:blas|da)?[A-Z]\w+)", found))


def kernel(folder: Path, source: str) -> Path:
    """Return a shared object with the kernels of a source, compiled for the host once."""
    path = folder / "kernels" / (hashlib.sha256(source.encode()).hexdigest()[:24] + ".so")
    if path.exists():
        return path
    path.parent.mkdir(exist_ok=True)
    names = re.findall(r'extern "C" __global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)', source)
    body = re.sub(r"#include <cupy/(complex|carray|atomics)\.cuh>", "", source)
    barriers = "true" if "__sync" in body else "false"
    launches = [
        f'extern "C" void {name}__launch(void **p, const unsigned *grid, const unsigned *block) '
        f"{{ hostcuda::launch([](void **p) {{ hostcuda::call(&{name}, p); }}, p, grid, block, {barriers}); }}"
        for name in names
    ]
    text = path.with_suffix(".cpp")
    text.write_text("\n".join(['#include "kernel.h"', body, *launches]))
    path.with_suffix(".cu").write_text(source)
    fresh = path.with_suffix(f".{os.getpid()}")
    run(*COMPILE, *KERNEL_FLAGS, *includes(folder), text, "-o", fresh)
    fresh.rename(path)
    return path


def includes(folder: Path) -> list[str]:
    return [f"-I{folder}", f"-I{folder / 'site/cupy/_core/include'}"]


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a command. Raises Impossible with the end of what it printed."""
    words = [str(word) for word in command]
    whole = os.environ | (env or {})
    try:
        done = subprocess.run(words, env=whole, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Impossible(f"{' '.join(words[:4])} took more than {SECONDS} s") from None
    if done.returncode:
        raise Impossible(f"{' '.join(words)[:200]}: {(done.stderr or done.stdout).strip()[-2000:]}")
