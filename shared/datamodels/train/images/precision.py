"""The numbers that a network computes with."""

from __future__ import annotations

import contextlib
import dataclasses

import torch

from datamodels.errors import SpecError

FP16_LOSS_SCALE = 1024.0
"""Lifts small gradients into the range of fp16. Fixed: a scale that adapts would have to ask the device each step.

No scale helps the fast recipe on grey images, of which some whitened channels have no variance to normalise by: there
gradients overflow, and models are reported as failed. bf16 and float32 hold them.
"""


@dataclasses.dataclass(frozen=True)
class Precision:
    """Types of numbers.

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
        # Without the cache of cast weights: a recorded step must cast them anew each time it is played.
        return torch.autocast(device.type, dtype=self.compute_dtype, cache_enabled=False)


BY_NAME = {
    "float64": Precision(torch.float64, torch.float64),
    "float32": Precision(torch.float32, torch.float32),
    "bf16": Precision(torch.float32, torch.bfloat16),
    "fp16": Precision(torch.float32, torch.float16),
}


def choose(name: str, device: torch.device) -> Precision:
    """By its name in `trainer.options.precision`; auto is bf16 on GPUs that have it, fp16 on older ones."""
    if name == "auto":
        if device.type != "cuda":
            name = "float32"
        else:
            name = "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if name not in BY_NAME:
        raise SpecError(f"trainer.options.precision = {name!r}: must be auto, {', '.join(BY_NAME)}")
    return BY_NAME[name]
