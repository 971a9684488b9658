"""Define `Solve`, the interface by which every estimator and every solver of the LASSO fits one block of targets."""

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
    """Progress of a block, reported before each epoch.

    stage     `path` while lambda is chosen, then `refit`
    fraction  fraction of the block's work that is done
    position  mean position of the targets on their grids of lambda
    arrays    returns the arrays from which an interrupted block resumes; empty if it has to start again
    """

    stage: str
    fraction: float
    position: float
    arrays: Callable[[], Arrays] = dict

    @classmethod
    def on_path(cls, fraction: float, position: float, arrays: Callable[[], Arrays] = dict) -> BlockProgress:
        """Report the choice of lambda, of which this fraction is done."""
        return cls("path", PATH_SHARE * fraction, position, arrays)

    @classmethod
    def in_refit(cls, fraction: float, position: float, arrays: Callable[[], Arrays] = dict) -> BlockProgress:
        """Report the last fit, of which this fraction is done."""
        return cls("refit", PATH_SHARE + (1 - PATH_SHARE) * fraction, position, arrays)


Tick = Callable[[BlockProgress], None]
"""Receives the progress of a block. An error that it raises ends the block."""


def of_part(tick: Tick, first: int, last: int, start: int, stop: int, *, keep: bool) -> Tick:
    """Return a tick for the targets start <= j < stop of a block. It reports the progress of the whole block to `tick`.

    keep  whether to report the arrays to resume from
    """

    def report(progress: BlockProgress) -> None:
        fraction = (start - first + progress.fraction * (stop - start)) / (last - first)
        tick(dataclasses.replace(progress, fraction=fraction, arrays=progress.arrays if keep else dict))

    return report


class Solve(Protocol):
    """Fits the targets first <= j < last of `rows.problem`.

    seed    seed of all that is random
    tick    called before each epoch
    resume  arrays of the last progress that an interrupted call reported; None to start from the beginning

    Returns a Solution of these targets. A target that cannot be fitted has a status that says why; the
    others are fitted all the same. Raises what `tick` raises, and SpecError if the estimator does not take the problem.
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
