"""Compile kernels with NVIDIA's compiler, which needs no GPU: python -m tests.hostcuda.nvrtc FOLDER.

The kernels are those that the last tests in the folder launched, each for every architecture in ARCHITECTURES. What has
been compiled before is not compiled again.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from tests.hostcuda import build

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
"""A100, H100 and B200."""


class Compiler:
    def __init__(self, site: Path):
        libraries = site / build.CUDA / "lib"
        ctypes.CDLL(str(libraries / "libnvrtc-builtins.so.13.0"))  # NVRTC finds it among the loaded ones
        self._nvrtc = ctypes.CDLL(str(libraries / "libnvrtc.so.13"))
        headers = site / "cupy/_core/include"
        folders = [headers / "cupy/_cccl" / name for name in ("cub", "thrust", "libcudacxx")]
        folders += [headers, site / build.CUDA / "include"]
        # Parsed headers are kept in files, which halves the time.
        kept = ["--pch", f"--pch-dir={site}"]
        self._options = [*(f"-I{folder}" for folder in folders), "--std=c++17", "-ftz=true", *kept]

    def errors(self, source: str, architecture: str) -> str:
        """Return what the compiler says against a source; nothing if it compiles it."""
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        self._nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
        options = [option.encode() for option in (*self._options, f"-arch={architecture}")]
        failed = self._nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        self._nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        self._nvrtc.nvrtcGetProgramLog(program, log)
        self._nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
        return log.value.decode() or f"error {failed}" if failed else ""


def check(folder: Path) -> list[str]:
    """Return the errors of all kernels that the last tests launched."""
    compiler, errors = Compiler(folder / "site"), []
    done = folder / "nvrtc"
    done.mkdir(exist_ok=True)
    launched = (folder / build.LAUNCHED).read_text().split()
    for name in launched:
        source = (folder / "kernels" / f"{name}.cu").read_text()
        for architecture in ARCHITECTURES:
            mark = done / f"{name}-{architecture}"
            found = "" if mark.exists() else compiler.errors(source, architecture)
            if found:
                errors.append(f"{architecture}: {found}\n{source}")
            else:
                mark.touch()
    print(f"NVRTC compiled {len(launched)} kernels for {', '.join(ARCHITECTURES)}: {len(errors)} errors")
    return errors


if __name__ == "__main__":
    sys.exit("\n".join(check(Path(sys.argv[1]).resolve())) or 0)
