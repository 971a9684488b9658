"""A stand-in for CUDA graphs on the CPU: it captures the operations of a step and replays them without its Python.

As with a CUDA graph, all that the step's Python code decided is frozen: a replay repeats each operation on the same
memory, and writes its result to the memory of the first result. Operations that synchronise with the host, or copy from
it, are refused. What bypasses PyTorch's operations, such as `.numpy()` of a tensor on the CPU, is not noticed.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from datamodels.train.images.stream import Stream

REFUSED = {
    torch.Tag.data_dependent_output: "reads a value of the device",
    torch.Tag.dynamic_output_shape: "needs values to make its result",
    torch.Tag.nondeterministic_seeded: "draws, and would draw the same in each replay",
}
FROM_HOST = {torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default}
INDEXING = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default}


class RefusedError(Exception):
    pass


class Unsynchronised(TorchDispatchMode):
    """Refuses operations that make the host wait for a device, or that a CUDA graph cannot hold."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in INDEXING:
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            why = ["has to count a mask"] if masks else []
        else:
            why = [reason for tag, reason in REFUSED.items() if tag in func.tags]
        if func in FROM_HOST:
            why.append("copies from the host")
        if why:
            raise RefusedError(f"{func} {' and '.join(why)}")
        return self.done(func, args, kwargs or {})

    def done(self, func, args, kwargs):
        return func(*args, **kwargs)


class Tape(Unsynchronised):
    """Records the operations inside of its context."""

    def __init__(self):
        super().__init__()
        self.operations = []
        self.results = []

    def done(self, func, args, kwargs):
        made = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, made))
        given = {place(tensor) for tensor in tensors((args, kwargs))}
        self.results += [tensor for tensor in tensors(made) if place(tensor) not in given]
        return made

    @torch.no_grad()
    def forget(self):
        """Overwrite all results. A GPU does not run what it captures, so nothing may rely on them."""
        for tensor in self.results:
            tensor.fill_(float("nan") if tensor.is_floating_point() else 0)

    @torch.no_grad()
    def play(self):
        for func, args, kwargs, made in self.operations:
            for old, new in zip(tensors(made), tensors(func(*args, **kwargs)), strict=True):
                if place(old) != place(new):
                    old.copy_(new)


def place(tensor):
    return tensor.untyped_storage().data_ptr()


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class TapeStream(Stream):
    """Replays a tape for every step, and counts the tapes that were recorded."""

    def __init__(self):
        self.recorded = 0

    def capture(self, step, warm_up):
        self.recorded += 1
        warm_up()
        with Tape() as tape:
            step()
        tape.forget()
        return tape.play
