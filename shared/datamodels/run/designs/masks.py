"""Read and write masks that were imported with outputs. They follow from no seed, so the store has them, in blocks."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from datamodels.errors import CorruptObjectError, InputError, ObjectNotFoundError
from datamodels.storage import ObjectStore, decode, keys

BLOCK_BYTES = 16 * 2**20
"""Most bytes of a block."""


@dataclasses.dataclass(frozen=True)
class Block:
    """The masks of the subsets first <= index < last: an object of the store."""

    first: int
    last: int
    sha256: str


@dataclasses.dataclass(frozen=True, eq=False)
class Masks:
    """Masks of a run, uint8[rows, ceil(d / 8)], packed as by `designs.pack`.

    inclusion  float32[d]; the share of the models to fit that have each column
    blocks     ascending, without gaps
    fetch      returns the bytes of a block; None if the run was not read from a store
    """

    inclusion: np.ndarray
    blocks: tuple[Block, ...]
    fetch: Callable[[Block], bytes] | None = None
    _kept: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    @property
    def rows(self) -> int:
        return self.blocks[-1].last

    @property
    def width(self) -> int:
        """Bytes of a mask."""
        return (len(self.inclusion) + 7) // 8

    def read(self, first: int, last: int) -> np.ndarray:
        """Return uint8[last - first, ceil(d / 8)]. Raises InputError for subsets that were not imported."""
        if last > self.rows:
            raise InputError(
                f"subset {last - 1}: the run was imported with {self.rows} subsets and has no others; what needs more "
                "models needs a run that trains them"
            )
        parts = []
        for block in self.blocks:
            if block.first < last and block.last > first:
                rows = self._rows(block)
                parts.append(rows[max(first - block.first, 0) : last - block.first])
        return np.concatenate(parts)

    def _rows(self, block: Block) -> np.ndarray:
        """Return the masks of a block. The last one that was read is kept."""
        with self._lock:
            if block.first not in self._kept:
                if self.fetch is None:
                    raise InputError("the masks of an imported run are in its store; read the run from there")
                self._kept.clear()
                found = np.frombuffer(self.fetch(block), dtype=np.uint8)
                self._kept[block.first] = found.reshape(block.last - block.first, self.width)
            return self._kept[block.first]

    def document(self) -> dict[str, Any]:
        """Return the masks as JSON values, without the masks themselves."""
        inclusion = decode.packed(self.inclusion, "<f4")
        return {"inclusion": inclusion, "blocks": [dataclasses.asdict(block) for block in self.blocks]}

    @classmethod
    def from_document(cls, document: dict[str, Any] | None, run: str, store: ObjectStore | None) -> Self | None:
        """Read back what `document` returned, with the blocks that a store has of a run; None for None."""
        if document is None:
            return None
        inclusion = decode.unpacked_array(document["inclusion"], "<f4")
        blocks = tuple(Block(**block) for block in document["blocks"])

        def fetch(block: Block) -> bytes:
            assert store is not None
            key = keys.masks(run, block.first, block.last)
            try:
                return store.get(key, sha256=block.sha256)
            except ObjectNotFoundError:
                raise CorruptObjectError(f"{store.url}/{key}: is gone; restore it from a copy") from None

        return cls(inclusion, blocks, None if store is None else fetch)
