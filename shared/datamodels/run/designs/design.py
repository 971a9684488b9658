"""Describe a design: how the subsets of a run are drawn. `designs.drawing` draws them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from datamodels.errors import InputError
from datamodels.run.designs import hadamard
from datamodels.run.designs.masks import Masks


@dataclasses.dataclass(frozen=True)
class Kind:
    """Properties of a kind of designs.

    text     description for people
    groups   whether it needs the group of each example; the others take none
    labels   whether class labels serve as groups if the data set gives none
    strata   whether each group of examples contributes its share to every subset
    grouped  whether columns are groups of examples
    paired   whether subset 2i + 1 is the complement of subset 2i, which is drawn as in a `uniform` design; this needs
             an even number of unpinned columns
    matrix   whether subsets are rows of Hadamard matrices, up to `Design.unseen_from`
    stored   whether the masks are in the store, because they follow from no seed
    draw     draw(design, index, mask) sets the members of a subset in bool[columns], where those that are pinned in are
             set, and returns True. If it returns False, the subset is drawn as in a `uniform` design. None for kinds
             that draw a share of each stratum
    """

    text: str
    groups: bool = False
    labels: bool = False
    strata: bool = False
    grouped: bool = False
    paired: bool = False
    matrix: bool = False
    stored: bool = False
    draw: Callable[[Design, int, np.ndarray], bool] | None = None

    @property
    def halves(self) -> bool:
        """Whether alpha must be 0.5. Subsets of another size are drawn as in a `uniform` design."""
        return self.paired or self.matrix


def _draw_half(design: Design, index: int, mask: np.ndarray) -> bool:
    """Draw a subset of a `hadamard` design; see `Kind.draw`."""
    if design.unseen_from is not None and index >= design.unseen_from:
        return False
    ((columns, _),) = design.strata
    mask[columns] = hadamard.half(design.seed, len(columns), index)
    return True


KINDS = {
    "uniform": Kind("all subsets of the same size are equally likely"),
    "complement": Kind("every second subset is the complement of the one before", paired=True),
    "stratified": Kind("each group of examples contributes its share `alpha`", groups=True, labels=True, strata=True),
    "grouped": Kind("a group of examples is in a subset, or out of it, as a whole", groups=True, grouped=True),
    "hadamard": Kind(
        "any two examples are together in half of the subsets with either, so fewer models will do",
        matrix=True,
        draw=_draw_half,
    ),
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
    unseen_from the first subset that nothing is fitted on, for kinds of which it is drawn otherwise; None for others.
                Subsets from it on are drawn as in a `uniform` design: a row of the matrix that the fit has not seen is
                orthogonal to those that it has, so predictions would seem worse than they are

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
    unseen_from: int | None = None

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
        if self.unseen_from is not None and not (KINDS[self.kind].matrix and self.unseen_from >= 0):
            yield f"design.unseen_from = {self.unseen_from}: must be at least 0, and only a hadamard design takes it"
            return
        if KINDS[self.kind].stored != (self.masks is not None):
            yield (
                f"design.kind = {self.kind!r}: the store has the subsets of an imported run, and its spec has not, so "
                "no models can be trained from the spec, and `datamodels fit RUN` fits what was imported"
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
        kind, free = KINDS[self.kind], self.columns - len(pins)
        if kind.stored:
            return
        given = f"design.kind = {self.kind!r} with alpha = {self.alpha} and {free} unpinned columns"
        if kind.paired and (self.alpha != 0.5 or free % 2):
            yield f"{given}: needs alpha = 0.5 and an even number of them (pin one out)"
        elif kind.matrix and (self.alpha != 0.5 or free < hadamard.LEAST):
            yield f"{given}: needs alpha = 0.5 and at least {hadamard.LEAST} of them"
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
    def unit(self) -> str:
        """What a column is, for people."""
        return "group" if self.grouped else "example"

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
        """Columns in each subset, pinned ones included; about so many if `varies`."""
        return self._drawn + len(self.pinned_in)

    @property
    def varies(self) -> bool:
        """Whether subsets have different sizes."""
        return self.masks is not None or KINDS[self.kind].matrix

    @property
    def _drawn(self) -> int:
        return round(self.alpha * (self.columns - len(self.pinned_in) - len(self.pinned_out)))

    @functools.cached_property
    def strata(self) -> list[tuple[np.ndarray, int]]:
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
        for columns, drawn in self.strata:
            if len(columns):
                probability[columns] = 0.5 if KINDS[self.kind].matrix else drawn / len(columns)
        probability[list(self.pinned_in)] = 1
        return probability

    @functools.cached_property
    def stratum(self) -> np.ndarray:
        """int32[d]: columns of the same number share a fixed total in every subset; -1 for pinned ones."""
        stratum = np.full(self.columns, -1, dtype=np.int32)
        for number, (columns, _) in enumerate(self.strata):
            stratum[columns] = number
        return stratum

    def summary(self) -> str:
        """Describe the design in one sentence for people."""
        unit = "groups" if self.grouped else "examples"
        pins = [f"{len(p):,} pinned {w}" for p, w in ((self.pinned_in, "in"), (self.pinned_out, "out")) if p]
        size = f"about {self.size:,}" if self.varies else f"{self.size:,}"
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
        kind = "uniform" if KINDS[self.kind].halves else self.kind
        return dataclasses.replace(self, kind=kind, alpha=alpha, unseen_from=None)


def unseen_from(kind: str, m: int) -> int | None:
    """Return `Design.unseen_from` of a run that fits on its first m subsets."""
    return m if KINDS[kind].matrix else None


def _quotas(sizes: list[int], total: int) -> list[int]:
    """Split `total` in proportion to sizes, by largest remainder, so that the sum is exact."""
    shares = np.array(sizes) * (total / max(1, sum(sizes)))
    quotas = np.floor(shares).astype(int)
    for i in np.argsort(quotas - shares, kind="stable")[: total - quotas.sum()]:
        quotas[i] += 1
    return quotas.tolist()
