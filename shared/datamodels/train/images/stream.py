"""Run the steps of a training in streams: at once on a CPU, or in a stream of a GPU that replays a captured step."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Sequence

import torch

WARM_UP_STEPS = 3
"""Steps before the captured one, in which cuDNN chooses its algorithms and the allocator caches its blocks."""
MINIBATCHES_AHEAD = 2
"""Minibatches in pinned memory that wait for a GPU: the host fills one while the other is copied."""


class Stream:
    """Runs operations at once, as a CPU does. `CudaStream` is the one for GPUs.

    captures  whether `capture` tries to capture steps
    """

    captures = False

    def context(self) -> contextlib.AbstractContextManager:
        """Return a context whose operations run on this stream, in order."""
        return contextlib.nullcontext()

    def wait_for_current(self) -> None:
        """Let later operations of this stream wait for all earlier operations of PyTorch's current stream."""

    def make_current_wait(self) -> None:
        """Let later operations of PyTorch's current stream wait for all earlier operations of this one."""

    def upload(self, to: Sequence[torch.Tensor], data: Sequence[torch.Tensor]) -> None:
        """Copy each tensor of `data`, in host memory, to one of `to`. `data` may be overwritten when this returns."""
        for there, here in zip(to, data, strict=True):
            there.copy_(here)

    def capture(self, step: Callable[[], None], warm_up: Callable[[], None]) -> Callable[[], None] | None:
        """Capture a step and return a function that replays it, or None if it cannot be captured.

        A stream that does not capture steps does nothing. A step that waits for the device cannot be captured.

        A replay runs the kernels of one `step`, but not its Python code. So all that differs between steps must be read
        from tensors that are not reallocated.

        warm_up  a step whose result does not matter
        """
        return None


class CudaStream(Stream):
    """Runs operations in a CUDA stream of its own.

    capture  capture steps as CUDA graphs; otherwise they are launched kernel by kernel
    """

    def __init__(self, device: torch.device, *, capture: bool = True):
        self._device, self.captures = device, capture
        self._stream = torch.cuda.Stream(device)
        self._uploads: collections.deque[torch.cuda.Event] = collections.deque()

    def context(self) -> contextlib.AbstractContextManager:
        return torch.cuda.stream(self._stream)

    def wait_for_current(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def make_current_wait(self) -> None:
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def upload(self, to: Sequence[torch.Tensor], data: Sequence[torch.Tensor]) -> None:
        # A copy from pinned memory waits for the stream only; from other memory, the host would wait, too.
        if len(self._uploads) == MINIBATCHES_AHEAD:
            self._uploads.popleft().synchronize()
        for there, here in zip(to, data, strict=True):
            there.copy_(here.pin_memory(), non_blocking=True)
        self._uploads.append(self._stream.record_event())

    def capture(self, step: Callable[[], None], warm_up: Callable[[], None]) -> Callable[[], None] | None:
        if not self.captures:
            return None
        for _ in range(WARM_UP_STEPS):
            warm_up()
        if _waits(warm_up):
            return None
        graph = torch.cuda.CUDAGraph()
        # thread_local: the thread that commits may go on calling CUDA.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            step()
        return graph.replay


def _waits(step: Callable[[], None]) -> bool:
    """Run a step, and return whether it waits for the device, as `item()` and branches on tensors do.

    PyTorch raises on such a wait if it is told to. A wait during a capture would raise, too, but it would leave the
    generator of random numbers unusable.
    """
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        return True
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    return False
