"""Count the subsets whose models fail, and stop a run that is hopeless.

A few failed models are normal: they are recorded and left out. If the first models all fail, or too many to be chance,
the trainer is at fault, and to go on only costs time.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

from datamodels.errors import ConfigError, SettingsError
from datamodels.run.runs import Run
from datamodels.settings import TrainerSettings

SETTING = f"{TrainerSettings.prefix}_TOLERATED_FAILURES"
CHANCE = 1e-6
"""Training stops if so many failures are less likely than this at the tolerated rate."""


class Failures:
    """Counts the subsets that one process trains models on, and those that failed.

    Models of one subset fail together if the subset is to blame, so the first model of each subset counts.

    tolerated  fraction of the subsets that may fail, 0 to 1; with 1, training never stops

    Raises SettingsError for another fraction.
    """

    def __init__(self, run: Run, tolerated: float = TrainerSettings.tolerated_failures):
        if not 0 <= tolerated <= 1:
            raise SettingsError(f"{SETTING}={tolerated}: must be 0 to 1")
        self._run, self._tolerated = run, tolerated
        self._tried = self._failed = 0
        self._last = -1

    def too_many(self, models: Sequence[int], failed: Container[int]) -> bool:
        """Return whether too many would have failed, if these models were counted, too."""
        return unlikely(*self._with(models, failed), self._tolerated)

    def add(self, models: Sequence[int], failed: dict[int, str]) -> None:
        """Count models in ascending order, and the reasons of the failed ones. Raises ConfigError if it is too many."""
        tried, lost = self._with(models, failed)
        if unlikely(tried, lost, self._tolerated):
            reason = next(iter(failed.values()))
            raise ConfigError(
                f"{self._run.spec.trainer.cls}: models on {lost} of the {tried} subsets so far failed, too many to be "
                f"chance; {reason}. Correct the trainer; or set {SETTING} to the "
                f"fraction that may fail, now {self._tolerated:g}"
            )
        self._tried, self._failed, self._last = tried, lost, self._run.spec.subset_index(models[-1])

    def _with(self, models: Sequence[int], failed: Container[int]) -> tuple[int, int]:
        """Return the numbers of subsets tried and failed, these models included."""
        tried, lost, last = self._tried, self._failed, self._last
        for model in models:
            subset = self._run.spec.subset_index(model)
            if subset != last:
                tried, lost, last = tried + 1, lost + (model in failed), subset
        return tried, lost


def unlikely(tried: int, failed: int, rate: float) -> bool:
    """Return whether at least `failed` of `tried` fail with a probability of at most CHANCE, if each does at `rate`.

    By the bound of Chernoff (1952): the probability is at most exp(-tried * D), with D the relative entropy of the
    fraction that failed and the rate. If all fail, it is exactly that.
    """
    share = failed / tried if tried else 0.0
    if share <= rate:
        return False
    if rate == 0:
        return True
    entropy = share * math.log(share / rate)
    if share < 1:
        entropy += (1 - share) * math.log((1 - share) / (1 - rate))
    return tried * entropy >= -math.log(CHANCE) - 1e-9
