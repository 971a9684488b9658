"""Keep the errors of the ways to use a prior, in cross-validation, and tell which one is the best.

If all errors are 1 or more, the smallest is that of weights of 0, which order no subsets. Then the way and its strength
are those whose predictions correlate best with the outputs: scaled down, these predictions would have the smallest
error.
"""

from __future__ import annotations

import functools

import numpy as np

from datamodels.fit.data.means import Heldout

LASSO, LASSO_SHARED = "lasso", "lasso with one lambda"
"""The plain LASSO with a lambda for each target, or with one for all."""
PRIOR, RIDGE = "prior alone", "prior + ridge"
"""The prior mean, alone or with the rest fitted by ridge regression."""
INPUTS = "prior alone, without gradients"
"""The prior mean of the other features, if scores by gradients are one of them. Gradients are used only if they lower
this error by LEAST_GAIN. If not, their beta is nearly 0, so the other ways are judged only with them."""
LEAST_GAIN = 0.005
"""Fraction of the error that a prior, or gradients, must take off to be used. Less is chance: shuffled scores of the
digits take off 0.0002; real ones take off 0.2."""
WEIGHTED = "prior + lasso"
"""The prior mean, with the rest fitted by the LASSO with one lambda for all targets. With one for each, its error was
larger than the smaller of this and LASSO in all fits tried: 50 to 2,000 models on text and breast-cancer."""
WORSE = 4.0
"""A way is not tried on further folds if it is worse than the best one by so many standard errors, over targets, of the
difference."""


class Errors:
    """How well each way predicts at each of its strengths, in each fold: errors and correlations.

    A way that is clearly worse than another may be given up after a fold. All ways are tried on the first one.
    """

    def __init__(self) -> None:
        # float64[2, t] of each fold: squared errors over the variance of the outputs, and 1 less the correlation
        self._folds: dict[tuple[str, float], list[np.ndarray]] = {}

    def add(self, way: str, strength: float, found: Heldout, variance: np.ndarray) -> None:
        """Add what was found in a fold for its first t targets, whose outputs have this variance, float64[t]."""
        scores = np.stack([found.error / variance, 1 - found.correlation])
        self._folds.setdefault((way, strength), []).append(scores)
        self.__dict__.pop("_tried", None)

    @property
    def by_order(self) -> bool:
        """Whether no way predicts better than the mean, so that correlations choose."""
        return all(scores[:, 0].mean() >= 1 for scores in self._tried.values())

    def may_be_best(self, way: str) -> bool:
        """Tell whether to try a way on one more fold: unless it is clearly worse than the best one."""
        found = self._found()
        if not found:
            return True
        if way not in found or not self._complete(found, way):
            return False
        best = found[self._best(found)][1]
        worse = (found[way][1] - best)[:, int(self.by_order)].mean(axis=0)
        return bool(worse.mean() <= WORSE * worse.std() / np.sqrt(len(worse)))

    def best_tried(self, way: str) -> float | None:
        """Return the best strength of a way that was tried; None if it was not tried at all."""
        tried = self._tried
        strengths = [strength for name, strength in tried if name == way]
        by = int(self.by_order)
        return min(strengths, key=lambda strength: tried[way, strength][:, by].mean(), default=None)

    def best(self) -> dict[str, tuple[float, float]]:
        """Return (best strength, its mean error) of each way, over the same targets; the best way is the first.

        A way that was given up is compared with the best one on the folds of both: its error is that of the best one
        and the difference there.
        """
        found = {way: (strength, scores[:, 0]) for way, (strength, scores) in self._found().items()}
        way = self._best(self._found())
        best = found[way][1]
        ways = {way: found.pop(way)} | found
        return {
            way: (strength, float(best.mean() + (error - best[: len(error)]).mean()))
            for way, (strength, error) in ways.items()
        }

    def _best(self, found: dict[str, tuple[float, np.ndarray]]) -> str:
        """Return the way with the best scores, without a prior if none takes off LEAST_GAIN more.

        Of those that are equal but for rounding, it is the one tried first.
        """
        by = int(self.by_order)
        means = {way: round(float(s[:, by].mean()), 9) for way, (_, s) in found.items() if self._complete(found, way)}
        best = min(means, key=lambda way: means[way])
        plain = min((way for way in means if way in (LASSO, LASSO_SHARED)), key=lambda way: means[way], default=best)
        return plain if means[best] >= (1 - LEAST_GAIN) * means[plain] else best

    @staticmethod
    def _complete(found: dict[str, tuple[float, np.ndarray]], way: str) -> bool:
        return len(found[way][1]) == max(len(scores) for _, scores in found.values())

    @functools.cached_property
    def _tried(self) -> dict[tuple[str, float], np.ndarray]:
        """Return the scores float64[folds, 2, t] of each way and strength that was tried in all folds of the way."""
        most: dict[str, int] = {}
        for (way, _), parts in self._folds.items():
            most[way] = max(most.get(way, 0), len(parts))
        return {key: np.stack(parts) for key, parts in self._folds.items() if len(parts) == most[key[0]]}

    def _found(self) -> dict[str, tuple[float, np.ndarray]]:
        """Return (best strength, scores float64[folds, 2, t] of the targets that all ways were tried on) of each way.

        The best strength is by all targets that the way was tried on. The lambdas of the LASSO are few: the best one is
        interpolated between them, and so are its scores.
        """
        tried = self._tried
        few = min((scores.shape[2] for scores in tried.values()), default=0)
        found = {}
        for way in dict.fromkeys(way for way, _ in tried):
            near = self._around(way, tried)
            means = [tried[way, strength][:, int(self.by_order)].mean() for strength in near]
            strength, shares = _lowest(near, means)
            scores = sum(share * tried[way, each] for share, each in zip(shares, near, strict=True))
            found[way] = strength, np.asarray(scores)[:, :, :few]
        return found

    def _around(self, way: str, tried: dict[tuple[str, float], np.ndarray]) -> list[float]:
        """Return the best strength of a way, between its neighbours if it is a lambda and both were tried."""
        strengths = sorted(strength for name, strength in tried if name == way)
        best = self.best_tried(way)
        assert best is not None
        place = strengths.index(best)
        between = way in (LASSO_SHARED, WEIGHTED) and 0 < place < len(strengths) - 1
        return strengths[place - 1 : place + 2] if between else [best]


def _lowest(strengths: list[float], means: list[float]) -> tuple[float, list[float]]:
    """Return the strength at which the parabola through 1 or 3 means is lowest, and the share of each in its value.

    It is a parabola over the logarithms of the strengths; the second mean is the smallest.
    """
    if len(strengths) == 1:
        return strengths[0], [1.0]
    (a, b, c), (left, least, right) = np.log(strengths), means
    rise, fall = (right - least) * (b - a), (left - least) * (c - b)
    if rise + fall <= 0:  # all are equal
        return strengths[1], [0.0, 1.0, 0.0]
    x = b + (fall * (c - b) - rise * (b - a)) / (2 * (rise + fall))
    shares = [
        (x - b) * (x - c) / ((a - b) * (a - c)),
        (x - a) * (x - c) / ((b - a) * (b - c)),
        (x - a) * (x - b) / ((c - a) * (c - b)),
    ]
    return float(np.exp(x)), shares
