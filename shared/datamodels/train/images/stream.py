"""Where the steps of a training are done: in turn on the host, or in a stream of a GPU that plays what it recorded."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Sequence

import torch

WARM_UP_STEPS = 3
"""Steps before the one that is captured: cuDNN chooses its algorithms, and the allocator finds its sizes."""
MINIBATCHES_AHEAD = 2
"""Minibatches that the host may have ready for a GPU: it fills one while the other is copied. Each is pinned memory."""


class Stream:
    """Whatever is asked for is done at once, as on a CPU. What a GPU does otherwise, `CudaStream` says."""

    def context(self) -> contextlib.AbstractContextManager:
        """What is asked for inside of it is done on this lane, in order."""
        return contextlib.nullcontext()

    def wait_for_current(self) -> None:
        """What comes next on this lane waits for all that was asked for outside of lanes."""

    def make_current_wait(self) -> None:
        """What is asked for outside of lanes from now on waits for all on this one."""

    def upload(self, to: Sequence[torch.Tensor], data: Sequence[torch.Tensor]) -> None:
        """Copies each of `data`, in the host's memory, which may be overwritten as soon as this returns."""
        for there, here in zip(to, data, strict=True):
            there.copy_(here)

    def capture(self, step: Callable[[], None], warm_up: Callable[[], None]) -> Callable[[], None] | None:
        """A function that does what `step` does, each time it is called; None where nothing is recorded.

        It is the kernels of one `step` and nothing of its Python: whatever differs between two steps must be read from
        tensors that stay where they are. `warm_up` is a step whose result does not matter.
        """
        return None


class CudaStream(Stream):
    """A stream of its own; with `capture`, a step is recorded as a CUDA graph, else done kernel by kernel."""

    def __init__(self, device: torch.device, *, capture: bool = True):
        self._device, self._capture = device, capture
        self._stream = torch.cuda.Stream(device)
        self._uploads: collections.deque[torch.cuda.Event] = collections.deque()

    def context(self) -> contextlib.AbstractContextManager:
        return torch.cuda.stream(self._stream)

    def wait_for_current(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def make_current_wait(self) -> None:
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def upload(self, to: Sequence[torch.Tensor], data: Sequence[torch.Tensor]) -> None:
        # From pinned memory a copy waits for the stream alone; from other memory the host would wait for it, too.
        if len(self._uploads) == MINIBATCHES_AHEAD:
            self._uploads.popleft().synchronize()
        for there, here in zip(to, data, strict=True):
            there.copy_(here.pin_memory(), non_blocking=True)
        self._uploads.append(self._stream.record_event())

    def capture(self, step: Callable[[], None], warm_up: Callable[[], None]) -> Callable[[], None] | None:
        if not self._capture:
            return None
        for _ in range(WARM_UP_STEPS):
            warm_up()
        graph = torch.cuda.CUDAGraph()
        # The thread that commits is left to do as it likes.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            step()
        return graph.replay
