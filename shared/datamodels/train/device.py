"""The memory of the device that models train on, where PyTorch has one in use. Imports no PyTorch by itself."""

from __future__ import annotations

import sys
from typing import Any


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: the machine's, or a device's by PyTorch or CuPy."""
    return any(kind.__name__ in ("MemoryError", "OutOfMemoryError") for kind in type(error).__mro__)


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
