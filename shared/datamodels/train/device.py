"""Manage threads, and the memory of the device that PyTorch uses. This module does not import PyTorch."""

from __future__ import annotations

import sys
from typing import Any

import threadpoolctl

from datamodels.errors import SettingsError, SpecError
from datamodels.settings import TrainerSettings

KINDS = ("MemoryError", "OutOfMemoryError")
WORDS = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""Messages of PyTorch errors if memory ran out in a library of CUDA; these errors have no class of their own."""


def out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error says that memory ran out: the machine's, or a device's in PyTorch or CuPy.

    Its causes count, too: if a CUDA graph runs out of memory while it is captured, another error follows.
    """
    while error is not None:
        if any(kind.__name__ in KINDS for kind in type(error).__mro__) or any(word in str(error) for word in WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def failed(error: BaseException) -> bool:
    """Return whether an error says that CUDA failed; after it, every call in this process fails.

    Call it after `out_of_memory`: memory that runs out is no failure.
    """
    return "CUDA error: " in str(error) or any(kind.__name__ == "CUDARuntimeError" for kind in type(error).__mro__)


def choose(name: str) -> Any:
    """Return the torch.device of that name in `trainer.options.device`: auto, cpu or cuda. Raises SpecError."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise SpecError(f"trainer.options.device = {name!r}: must be auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise SpecError("trainer.options.device = 'cuda': PyTorch finds no GPU here; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def limit_threads(threads: int) -> threadpoolctl.threadpool_limits:
    """Limit the threads of the numerical libraries that are loaded. Raises SettingsError if `threads` is below 1."""
    if threads < 1:
        raise SettingsError(f"{TrainerSettings.prefix}_THREADS={threads}: must be at least 1")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    return threadpoolctl.threadpool_limits(threads)


def free() -> None:
    """Free the memory that the device's allocator has cached."""
    cuda = _cuda()
    if cuda is not None:
        cuda.empty_cache()


def peak_bytes() -> int:
    """Return the most memory that this process has held on its device so far; 0 if it uses none."""
    cuda = _cuda()
    return 0 if cuda is None else int(cuda.max_memory_reserved())


def _cuda() -> Any:
    """Return torch.cuda if this process uses it, else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
