"""CuPy on the host device: `activate` before CuPy is imported, then count what it does.

As a pytest plugin (-p tests.hostcuda.device), it activates the device in the folder of the variable HOSTCUDA. Tests
take it as the fixture `device`.
"""

from __future__ import annotations

import ctypes
import os
import sys
import types
from pathlib import Path

from tests.hostcuda import build

COUNTS = (
    *("launches", "products", "flops", "syncs", "uploads", "uploaded", "downloads", "downloaded", "copies"),
    *("allocations", "live", "peak"),
)
"""What the device counts: `uploaded` and `downloaded` are bytes to and from it, `live` and `peak` bytes of its memory,
`copies` those within it, `products` those of matrices, whose operations are `flops`."""
_made: list[Device] = []


def active() -> Device | None:
    """Return the device, or None before `activate`."""
    return _made[0] if _made else None


class Device:
    """The host device, with CuPy on top of it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.kernels: set[str] = set()
        self._library, _ = (ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL) for name in build.LIBRARIES)

    def counts(self) -> dict[str, int]:
        """Return what was counted since `reset`."""
        found = (ctypes.c_longlong * len(COUNTS))()
        self._library.hostcuda_counts(found)
        return dict(zip(COUNTS, found, strict=True))

    def launches_of(self, kernel: str) -> int:
        """Return the number of launches of a kernel since `reset`."""
        self._library.hostcuda_launches.restype = ctypes.c_longlong
        return self._library.hostcuda_launches(kernel.encode())

    def reset(self) -> None:
        self._library.hostcuda_reset()

    def set(self, memory: int = 80 << 30, poison: bool = True) -> None:
        """Set the bytes of the card, and whether memory is full of NaN before it is written."""
        self._library.hostcuda_set(ctypes.c_size_t(memory), int(poison))


def activate(folder: Path) -> Device:
    """Let `import cupy` find CuPy in the folder of `build`, on the host device."""
    if _made:
        return _made[0]
    device = Device(folder)
    site = folder / "site"
    sys.path.insert(0, str(site))
    os.environ["CUPY_ACCELERATORS"] = ""  # CUB comes compiled for GPUs
    sys.modules["cuda"], sys.modules["cuda.pathfinder"] = _pathfinder(device._library, site)
    import cupy
    from cupy.cuda import compiler, function

    def compiled(source: str, *arguments, **options):
        path = build.kernel(folder, source)
        device.kernels.add(path.stem)
        module = function.Module()
        module.load(f"{path}\0".encode())
        return module

    compiler._compile_module_with_cache = compiled
    device.set()
    cupy.cuda.set_allocator(_allocate)
    _made.append(device)
    return device


def _allocate(size: int):
    """Allocate without a pool: each array is fresh memory, which is free after it. Errors are those of a pool."""
    from cupy.cuda import memory, runtime

    try:
        return memory.MemoryPointer(memory.Memory(size), 0)
    except runtime.CUDARuntimeError:
        raise memory.OutOfMemoryError(size, _made[0].counts()["live"]) from None


def _pathfinder(library: ctypes.CDLL, site: Path) -> tuple[types.ModuleType, types.ModuleType]:
    """Return `cuda` and `cuda.pathfinder`, by which CuPy looks for NVIDIA's libraries."""
    package, module = types.ModuleType("cuda"), types.ModuleType("cuda.pathfinder")

    class DynamicLibNotFoundError(RuntimeError):
        pass

    def load_nvidia_dynamic_lib(name: str) -> types.SimpleNamespace:
        if name not in ("cublas", "cudart", "nvrtc"):
            raise DynamicLibNotFoundError(f"the host device has no {name}")
        if name != "nvrtc":
            return types.SimpleNamespace(_handle_uint=library._handle, abs_path=library._name)
        folder = site / build.CUDA / "lib"
        *_, found = (ctypes.CDLL(str(folder / part)) for part in ("libnvrtc-builtins.so.13.0", "libnvrtc.so.13"))
        return types.SimpleNamespace(_handle_uint=found._handle, abs_path=found._name)

    module.load_nvidia_dynamic_lib = load_nvidia_dynamic_lib
    module.find_nvidia_header_directory = lambda name: str(site / build.CUDA / "include")
    module.find_nvidia_binary_utility = lambda name: None
    module.DynamicLibNotFoundError = DynamicLibNotFoundError
    package.pathfinder = module
    return package, module


def pytest_configure(config) -> None:
    activate(Path(os.environ["HOSTCUDA"]).resolve())


def pytest_sessionfinish(session) -> None:
    (device,) = _made
    (device.folder / build.LAUNCHED).write_text("\n".join(sorted(device.kernels)))
