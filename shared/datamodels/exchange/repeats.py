"""Find models that are imported more than once, whatever files and formats they come in.

A model is known by a hash of its mask and of its outputs, as they are stored: files of float32 and of float64, of bits
and of bytes, then give the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from datamodels import words
from datamodels.errors import InputError
from datamodels.run import precision


class Repeats:
    """Collects hashes of models, 28 bytes of each, and says which are there twice.

    names  of the sources, for people
    """

    def __init__(self, names: Sequence[str]):
        self._names = names
        self._masks: list[np.ndarray] = []
        self._models: list[np.ndarray] = []
        self._sources: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._read = [0] * len(names)
        self._unseen: list[np.ndarray] = []

    def add(self, source: int, packed: np.ndarray, outputs: np.ndarray) -> None:
        """Take models of a source: packed masks uint8[b, bytes] and outputs [b, n]. Ignores models that failed."""
        good = ~np.isnan(outputs).all(axis=1)
        kept = precision.stored(outputs[good], precision.DTYPE) + np.float32(0)  # -0 becomes 0, which has other bits
        self._masks.append(_hashes(packed[good]))
        self._models.append(_hashes(packed[good], kept))
        self._sources.append(np.full(len(kept), source, dtype=np.int32))
        self._rows.append(np.flatnonzero(good) + self._read[source])
        self._read[source] += len(good)

    def add_unseen(self, packed: np.ndarray) -> None:
        """Take packed masks of unseen subsets, uint8[b, bytes]."""
        self._unseen.append(_hashes(packed))

    def notes(self) -> Iterator[str]:
        """Say what is there twice. Raises InputError for a source whose models are all in other sources, too."""
        models, sources = np.concatenate(self._models), np.concatenate(self._sources)
        _, first, which = np.unique(models, return_index=True, return_inverse=True)
        again = np.flatnonzero(first[which] != np.arange(len(models)))
        if len(again):
            self._require_others(models, sources)
            yield (
                f"{len(again):,} of {len(models):,} models have the same mask and outputs as one before them, first "
                f"{self._place(again[0])}, as {self._place(first[which[again[0]]])}: each counts again; if it is the "
                "same model, leave it out"
            )
        unseen = np.concatenate([np.zeros(0, dtype=np.uint64), *self._unseen])
        seen = int(np.isin(unseen, np.concatenate(self._masks)).sum())
        if seen:
            yield (
                f"{seen:,} of {len(unseen):,} unseen subsets are those of models to fit, too, so fits see them and the "
                "LDS is too high; leave them out of either"
            )

    def _require_others(self, models: np.ndarray, sources: np.ndarray) -> None:
        for source, name in enumerate(self._names):
            mine, others = models[sources == source], models[sources != source]
            if len(mine) and np.isin(mine, others).all():
                other = self._names[sources[sources != source][np.flatnonzero(others == mine[0])[0]]]
                held = f"all of its {words.count(len(mine), 'model')} are in {other}, too, with equal masks and outputs"
                raise InputError(
                    f"{name}: {'is given twice' if other == name else held}, so each of its models would count twice; "
                    "give it once"
                )

    def _place(self, model: int) -> str:
        """Return where a model is, by its number among all that are kept."""
        source = int(np.concatenate(self._sources)[model])
        return f"row {np.concatenate(self._rows)[model]} of {self._names[source]}"


def _hashes(*rows: np.ndarray) -> np.ndarray:
    """Return uint64[b]: a hash of each row of some arrays, [b, ...]."""
    each = zip(*(np.ascontiguousarray(array) for array in rows), strict=True)
    found = [hashlib.blake2b(b"".join(row.tobytes() for row in parts), digest_size=8).digest() for parts in each]
    return np.frombuffer(b"".join(found), dtype=np.uint64)
