"""How one block of targets is fitted: the call that every estimator and every solver of the LASSO answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np

from datamodels.fit.data.problem import Solution
from datamodels.fit.data.rows import Rows
from datamodels.run.specs import FitSpec

PATH_SHARE = 0.85
"""Fraction of a block's time that the choice of lambda takes; the last fit takes the rest. For progress only."""

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class BlockProgress:
    """How far a block is, told before each epoch.

    stage     `path` while lambda is chosen, then `refit`
    fraction  fraction of the block's work that is done
    position  mean position of the targets on their grids of lambda
    arrays    returns the arrays that an interrupted block resumes from; none if it has to start again
    """

    stage: str
    fraction: float
    position: float
    arrays: Callable[[], Arrays] = dict

    @classmethod
    def on_path(cls, fraction: float, position: float, arrays: Callable[[], Arrays] = dict) -> BlockProgress:
        """Progress of the choice of lambda, of which this fraction is done."""
        return cls("path", PATH_SHARE * fraction, position, arrays)

    @classmethod
    def in_refit(cls, fraction: float, position: float, arrays: Callable[[], Arrays] = dict) -> BlockProgress:
        """Progress of the last fit, of which this fraction is done."""
        return cls("refit", PATH_SHARE + (1 - PATH_SHARE) * fraction, position, arrays)


Tick = Callable[[BlockProgress], None]
"""Told how far a block is. It may raise, which ends the block."""


class Solve(Protocol):
    """Fits the targets first <= j < last of `rows.problem`.

    seed    seed of all that is random
    tick    called before each epoch
    resume  the arrays of the last progress that an interrupted call told `tick`; None to start

    Returns a Solution of these targets. What is wrong with a single target is in its status, and never ends the others.
    Raises what `tick` raises, and SpecError if the estimator does not take such a problem.
    """

    def __call__(
        self,
        rows: Rows,
        settings: FitSpec,
        first: int,
        last: int,
        *,
        seed: int,
        tick: Tick,
        resume: Arrays | None = None,
    ) -> Solution: ...
