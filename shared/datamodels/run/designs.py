"""Draw subsets: which training examples model `index` is trained on, as a pure function of the design and the index.

A Philox generator keyed by (seed, i) draws subset i. So any subset can be drawn again anywhere, in any order, and none
is stored. Only the raw 64-bit stream of the generator is used: NumPy guarantees that it stays the same in all versions,
but not that `Generator.choice` does.

A subset has exactly `size` members, as in Ilyas et al. (2022, section 2); members are not drawn independently.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from datamodels.errors import InputError, MaskError
from datamodels.run.masks import Masks


@dataclasses.dataclass(frozen=True)
class Kind:
    """Properties of a kind of designs.

    text     description for people
    groups   whether it needs the group of each example; the others take none
    labels   whether class labels serve as groups if the data set gives none
    strata   whether each group of examples contributes its share to every subset
    grouped  whether columns are groups of examples
    paired   the kind that subset 2i is drawn by if subset 2i + 1 is its complement; otherwise empty. A paired design
             needs alpha = 0.5 and an even number of unpinned columns
    stored   whether the masks are in the store, because they follow from no seed
    """

    text: str
    groups: bool = False
    labels: bool = False
    strata: bool = False
    grouped: bool = False
    paired: str = ""
    stored: bool = False


KINDS = {
    "uniform": Kind("all subsets of the same size are equally likely"),
    "complement": Kind("every second subset is the complement of the one before", paired="uniform"),
    "stratified": Kind("each group of examples contributes its share `alpha`", groups=True, labels=True, strata=True),
    "grouped": Kind("a group of examples is in a subset, or out of it, as a whole", groups=True, grouped=True),
    "imported": Kind("subsets that `datamodels import` read from files; not for specs of your own", stored=True),
}
"""The kinds of designs by name. A new one also needs a number in `Design.Kind` of types.proto."""


@dataclasses.dataclass(frozen=True, eq=False)
class Design:
    """A design of subsets.

    A subset is a set of columns. Columns are the training examples, or, in a grouped design, groups of examples
    (users, sources, clusters).

    kind        a name in KINDS
    seed        seed of the generators, 0 <= seed < 2**64
    alpha       fraction of the unpinned columns in each subset, in (0, 1)
    examples    number of training examples in the pool
    groups      int32[examples], 0-based group of each example; None for kinds that take none
    pinned_in   columns in every subset
    pinned_out  columns in no subset
    masks       the masks, for kinds that store them; None otherwise

    Raises InputError naming each fault.
    """

    kind: str
    seed: int
    alpha: float
    examples: int
    groups: np.ndarray | None = None
    pinned_in: tuple[int, ...] = ()
    pinned_out: tuple[int, ...] = ()
    masks: Masks | None = None

    def __post_init__(self) -> None:
        if self.groups is not None:
            object.__setattr__(self, "groups", np.ascontiguousarray(self.groups, dtype=np.int32))
        faults = list(self._faults())
        if faults:
            raise InputError("; ".join(faults))

    def _faults(self):
        if self.kind not in KINDS:
            yield f"design.kind = {self.kind!r}: must be one of {', '.join(KINDS)}"
            return
        scalar_faults = list(self._scalar_faults())
        if scalar_faults:  # the checks below need these values
            yield from scalar_faults
            return
        group_fault = self._group_fault()
        if group_fault:
            yield group_fault
            return
        if KINDS[self.kind].stored != (self.masks is not None):
            yield (
                f"design.kind = {self.kind!r}: the store has the subsets of an imported run, and its spec has not, so "
                "no models can be trained from the spec"
            )
            return
        yield from self._pin_faults()

    def _scalar_faults(self):
        if not 0 <= self.seed < 2**64:
            yield f"seed = {self.seed}: must be 0 to 2**64 - 1"
        if not 0 < self.alpha < 1:
            yield f"alpha = {self.alpha}: must be between 0 and 1, both exclusive"
        if self.examples < 1:
            yield f"examples = {self.examples}: must be at least 1"

    def _group_fault(self) -> str | None:
        if not KINDS[self.kind].groups:
            return None if self.groups is None else f"design.groups: a {self.kind} design takes none"
        if self.groups is None:
            return f"design.groups: a {self.kind} design needs the group of each example"
        if self.groups.shape != (self.examples,):
            return f"design.groups has shape {self.groups.shape}: must be ({self.examples},), one for each example"
        present = np.unique(self.groups)
        if present[0] != 0 or present[-1] != len(present) - 1:
            return f"design.groups: must be numbered 0 to {len(present) - 1} without holes"
        return None

    def _pin_faults(self):
        pins = self.pinned_in + self.pinned_out
        outside = sorted({p for p in pins if not 0 <= p < self.columns})
        if outside:
            yield f"design pins column {outside[0]}: must be 0 to {self.columns - 1}"
            return
        if len(set(pins)) != len(pins):
            yield "design pins a column twice: pin each at most once, in or out"
            return
        free = self.columns - len(pins)
        if KINDS[self.kind].stored:
            return
        if KINDS[self.kind].paired and (self.alpha != 0.5 or free % 2):
            yield (
                f"design.kind = {self.kind!r} with alpha = {self.alpha} and {free} unpinned columns: "
                "needs alpha = 0.5 and an even number of them (pin one out)"
            )
        elif not 0 < self._drawn < free:
            yield (
                f"alpha = {self.alpha} of {free} unpinned columns draws {self._drawn}: "
                f"must draw at least 1 and leave out at least 1"
            )

    @property
    def column_of_each(self) -> np.ndarray | None:
        """int32[examples]: the column of each training example; None if each example is a column of its own."""
        return self.groups if KINDS[self.kind].grouped else None

    @property
    def grouped(self) -> bool:
        """Whether columns are groups of examples."""
        return self.column_of_each is not None

    @property
    def columns(self) -> int:
        """d: the length of a mask."""
        groups = self.column_of_each
        return self.examples if groups is None else int(groups.max()) + 1

    @property
    def mask_bytes(self) -> int:
        """Bytes of one packed mask."""
        return (self.columns + 7) // 8

    @property
    def size(self) -> int:
        """Columns in each subset, pinned ones included."""
        return self._drawn + len(self.pinned_in)

    @property
    def _drawn(self) -> int:
        return round(self.alpha * (self.columns - len(self.pinned_in) - len(self.pinned_out)))

    @functools.cached_property
    def _strata(self) -> list[tuple[np.ndarray, int]]:
        """Pairs (unpinned columns of a stratum, number of them in each subset)."""
        free = np.ones(self.columns, dtype=bool)
        free[list(self.pinned_in + self.pinned_out)] = False
        if self.groups is None or not KINDS[self.kind].strata:
            return [(np.flatnonzero(free), self._drawn)]
        by_group = np.argsort(self.groups, kind="stable")
        members = np.split(by_group, np.cumsum(np.bincount(self.groups))[:-1])
        members = [columns[free[columns]] for columns in members]
        return list(zip(members, _quotas([len(c) for c in members], self._drawn), strict=True))

    @functools.cached_property
    def inclusion(self) -> np.ndarray:
        """float32[d]: the probability that a subset contains each column."""
        if self.masks is not None:
            return self.masks.inclusion
        probability = np.zeros(self.columns, dtype=np.float32)
        for columns, drawn in self._strata:
            if len(columns):
                probability[columns] = drawn / len(columns)
        probability[list(self.pinned_in)] = 1
        return probability

    @functools.cached_property
    def stratum(self) -> np.ndarray:
        """int32[d]: columns of the same number share a fixed total in every subset; -1 for pinned ones."""
        stratum = np.full(self.columns, -1, dtype=np.int32)
        for number, (columns, _) in enumerate(self._strata):
            stratum[columns] = number
        return stratum

    def summary(self) -> str:
        """Describe the design in one sentence for people."""
        unit = "groups" if self.grouped else "examples"
        pins = [f"{len(p):,} pinned {w}" for p, w in ((self.pinned_in, "in"), (self.pinned_out, "out")) if p]
        size = f"about {self.size:,}" if self.masks is not None else f"{self.size:,}"
        return f"{self.kind}: {size} of {self.columns:,} {unit} in each subset" + "".join(f", {p}" for p in pins)

    def members(self, columns: np.ndarray) -> np.ndarray:
        """Return int32: the training examples in a subset of columns, ascending."""
        groups = self.column_of_each
        if groups is None:
            return np.asarray(columns, dtype=np.int32)
        chosen = np.zeros(self.columns, dtype=bool)
        chosen[columns] = True
        return np.flatnonzero(chosen[groups]).astype(np.int32)

    def column_of(self, example: int) -> int:
        """Return the column that a training example belongs to."""
        groups = self.column_of_each
        return example if groups is None else int(groups[example])

    def at(self, alpha: float) -> Design:
        """Return the same design with subsets of another size. Raises InputError if there are none of this size."""
        if self.masks is not None:
            raise InputError("the run was imported: no other subsets can be drawn, and no model trained on them")
        return dataclasses.replace(self, kind=KINDS[self.kind].paired or self.kind, alpha=alpha)


def _quotas(sizes: list[int], total: int) -> list[int]:
    """Split `total` in proportion to sizes, by largest remainder, so that the sum is exact."""
    shares = np.array(sizes) * (total / max(1, sum(sizes)))
    quotas = np.floor(shares).astype(int)
    for i in np.argsort(quotas - shares, kind="stable")[: total - quotas.sum()]:
        quotas[i] += 1
    return quotas.tolist()


def subset(design: Design, index: int) -> np.ndarray:
    """Return int32[size]: the columns of subset `index` >= 0, ascending."""
    if index < 0:
        raise InputError(f"subset index {index}: must be at least 0")
    mask = np.zeros(design.columns, dtype=bool)
    _draw(design, index, mask)
    return np.flatnonzero(mask).astype(np.int32)


def subsets(design: Design, first: int, last: int) -> np.ndarray:
    """Return uint8[last - first, mask_bytes]: packed masks of the subsets first <= index < last; see `pack`."""
    if not 0 <= first < last:
        raise InputError(f"subsets {first} to {last}: first must be at least 0 and less than last")
    if design.masks is not None:
        return design.masks.read(first, last)
    masks = np.zeros((last - first, design.columns), dtype=bool)
    for row, index in enumerate(range(first, last)):
        _draw(design, index, masks[row])
    return pack(masks)


def _draw(design: Design, index: int, mask: np.ndarray) -> None:
    """Set the members of subset `index` in a mask that is False everywhere."""
    if design.masks is not None:
        mask[:] = unpack(design.masks.read(index, index + 1), design.columns)[0]
        return
    flip = bool(KINDS[design.kind].paired) and index % 2 == 1
    bits = np.random.Philox(key=np.array([design.seed, index - flip], dtype=np.uint64))
    for columns, drawn in design._strata:
        if not len(columns):
            continue
        # The smallest keys are drawn. Low bits hold the position, so that no two keys are equal.
        low = np.uint64(2 ** len(columns).bit_length() - 1)
        keys = (bits.random_raw(len(columns)) & ~low) | np.arange(len(columns), dtype=np.uint64)
        order = np.argpartition(keys, drawn) if drawn < len(columns) else np.arange(len(columns))
        mask[columns[order[drawn:] if flip else order[:drawn]]] = True
    mask[list(design.pinned_in)] = True


def pack(masks: np.ndarray) -> np.ndarray:
    """Pack bool[..., d] to uint8[..., ceil(d / 8)]. Column c is bit c % 8 of byte c // 8, least significant first."""
    return np.packbits(masks, axis=-1, bitorder="little")


def unpack(packed: np.ndarray, columns: int) -> np.ndarray:
    """Unpack masks to bool[..., d].

    Raises MaskError if the length is not that of d columns, or if a bit beyond them is set.
    """
    expected = (columns + 7) // 8
    if packed.dtype != np.uint8 or packed.shape[-1] != expected:
        raise MaskError(
            f"mask of {packed.shape[-1]} {packed.dtype} values: {columns} columns take {expected} bytes of uint8"
        )
    spare = expected * 8 - columns
    if spare and (packed[..., -1] >> (8 - spare)).any():
        raise MaskError(f"mask has a bit set beyond its {columns} columns")
    return np.unpackbits(packed, axis=-1, count=columns, bitorder="little").view(bool)


def mask_of(columns: np.ndarray, count: int) -> np.ndarray:
    """Return the packed mask of some columns, uint8[ceil(count / 8)]. Raises MaskError for one outside 0..count-1."""
    columns = np.asarray(columns)
    if columns.ndim != 1 or (columns.size and columns.dtype.kind not in "iu"):
        raise MaskError(f"columns of shape {columns.shape} and type {columns.dtype}: must be a list of integers")
    outside = columns[(columns < 0) | (columns >= count)]
    if outside.size:
        raise MaskError(f"column {outside[0]}: must be 0 to {count - 1}")
    mask = np.zeros(count, dtype=bool)
    mask[columns.astype(np.int64)] = True
    return pack(mask)
