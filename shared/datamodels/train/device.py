"""What models train on: threads, and the memory of a device that PyTorch has in use. Imports no PyTorch by itself."""

from __future__ import annotations

import sys
from typing import Any

import threadpoolctl

from datamodels.errors import SettingsError
from datamodels.settings import TrainerSettings

KINDS = ("MemoryError", "OutOfMemoryError")
WORDS = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""Of errors that PyTorch gives no kind of their own, where a library of CUDA ran out and not its own allocator."""


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that memory ran out: the machine's, or a device's by PyTorch or CuPy.

    So does one that came of such an error: a CUDA graph whose recording ran out of memory ends with another.
    """
    while error is not None:
        if any(kind.__name__ in KINDS for kind in type(error).__mro__) or any(word in str(error) for word in WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def limit_threads(threads: int) -> threadpoolctl.threadpool_limits:
    """Limits the threads of the numerical libraries that are loaded by now. Raises SettingsError for less than one."""
    if threads < 1:
        raise SettingsError(f"{TrainerSettings.prefix}_THREADS={threads}: must be at least 1")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    return threadpoolctl.threadpool_limits(threads)


def free() -> None:
    """Gives back what the device's allocator keeps for later."""
    cuda = _cuda()
    if cuda is not None:
        cuda.empty_cache()


def peak_bytes() -> int:
    """The most memory that this process has held on its device so far; 0 where it uses none."""
    cuda = _cuda()
    return 0 if cuda is None else int(cuda.max_memory_reserved())


def _cuda() -> Any:
    """torch.cuda, where this process has begun to use it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
