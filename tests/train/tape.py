"""A CUDA graph's stand-in on the CPU: a step is recorded operation by operation, and played again without its Python.

As there, whatever the step's Python decided is frozen: an operation is repeated on the same memory, and its result is
written to where the first one was. And as there, what the host would have to wait for, or to hand over, is refused. A
reading past PyTorch's operations, such as `.numpy()` of a tensor on the CPU, goes unseen.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from datamodels.train.images.stream import Stream

REFUSED = {
    torch.Tag.data_dependent_output: "reads a value of the device",
    torch.Tag.dynamic_output_shape: "has to know values to make its result",
    torch.Tag.nondeterministic_seeded: "draws, and would draw the same each time it is played",
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
    """The operations inside of it."""

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
        """A GPU records without doing: what was found along the way is there for no one."""
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
    """Plays a tape for every step, and counts how many were recorded."""

    def __init__(self):
        self.recorded = 0

    def capture(self, step, warm_up):
        self.recorded += 1
        warm_up()
        with Tape() as tape:
            step()
        tape.forget()
        return tape.play
