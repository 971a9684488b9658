"""Choose the types of numbers that a network computes with."""

from __future__ import annotations

import contextlib
import dataclasses

import torch

from datamodels.errors import SpecError

FP16_LOSS_SCALE = 1024.0
"""Factor of the loss, so that small gradients stay in the range of fp16. It is fixed, because an adaptive factor would
have to read from the device in each step.

No factor helps the fast recipe on grey images. Some of their whitened channels have no variance to normalise by, so
gradients overflow, and models are reported as failed. With bf16 and float32 they do not.
"""


@dataclasses.dataclass(frozen=True)
class Precision:
    """The types of one precision.

    dtype          of weights and sums
    compute_dtype  of convolutions and matrix products
    """

    dtype: torch.dtype
    compute_dtype: torch.dtype

    @property
    def loss_scale(self) -> float:
        return FP16_LOSS_SCALE if self.compute_dtype == torch.float16 else 1.0

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager:
        if self.compute_dtype == self.dtype:
            return contextlib.nullcontext()
        # Without the cache of cast weights, because each replay of a captured step must cast them again.
        return torch.autocast(device.type, dtype=self.compute_dtype, cache_enabled=False)


BY_NAME = {
    "float64": Precision(torch.float64, torch.float64),
    "float32": Precision(torch.float32, torch.float32),
    "bf16": Precision(torch.float32, torch.bfloat16),
    "fp16": Precision(torch.float32, torch.float16),
}


def choose(name: str, device: torch.device) -> Precision:
    """Return the precision of that name in `trainer.options.precision`. Raises SpecError for other names.

    `auto` is float32 on a CPU, bf16 on GPUs that have it, and fp16 on older GPUs.
    """
    if name == "auto":
        if device.type != "cuda":
            name = "float32"
        else:
            name = "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if name not in BY_NAME:
        raise SpecError(f"trainer.options.precision = {name!r}: must be auto, {', '.join(BY_NAME)}")
    return BY_NAME[name]
