"""Extrapolate a learning curve: estimate the LDS of other numbers of models from fits of some numbers.

The form. A fitted datamodel is the best linear one plus noise of estimation, whose variance falls as 1/m. So the
squared correlation of its predictions with the truth is LDS(inf)^2 / (1 + b/m), and 1/LDS^2 is a straight line in 1/m.
(The accuracy of genomic prediction has the same form: Daetwyler et al. 2008, PLoS ONE 3, e3395.) This is the limit of
many models. While the LASSO is still finding its columns, LDS climbs faster, and the next term of the expansion counts:

    1 / LDS(m)^2  =  a + b/m + c/m^2        a >= 1,  b, c >= 0

This curve is fitted to the points of the last three doublings, by least squares weighted by their intervals. A mean of
rank correlations is not exactly of this form. So the straight line is fitted as well, to the last two doublings: with
few models the line promises too much and the curve too little, and the interval includes both. The interval also
covers the choice of unseen subsets: they are resampled for all points at once, and both forms are fitted to each
resample. It does not cover which models were trained, which matters less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.quality.interval import TAILS, Estimate
from datamodels.storage import ObjectStore, decode, keys, records

FORMS = ((3, 3), (2, 2))
"""(terms, doublings that they are fitted to): of the curve, then of the line."""
SMALLEST = 1e-3
"""LDS below which a point says nothing about the trend."""
AHEAD, STEPS = 4, 17
"""How many times the models of the last point a forecast reaches, and in how many steps."""


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """Quality of a fit of `models` models; the other fields are those of `Evaluation`."""

    models: int
    lds: float
    interval: tuple[float, float]
    deviations: np.ndarray

    @classmethod
    def of(cls, models: int, evaluation: Evaluation) -> Self:
        return cls(models, evaluation.lds, evaluation.interval, evaluation.deviations)

    def document(self) -> dict[str, Any]:
        """Return the point as JSON values."""
        return dataclasses.asdict(self) | {"interval": list(self.interval), "deviations": self.deviations.tolist()}


def from_document(document: list[dict[str, Any]]) -> list[Point]:
    """Read back the documents of points."""
    return [
        decode.build(Point, point | {"deviations": np.array(point["deviations"], dtype=np.float64)})
        for point in document
    ]


def recorded(store: ObjectStore, run: str, fit: int) -> list[Point] | None:
    """Read the learning curve up to a fit; None if it is not recorded. Raises CorruptObjectError."""
    return records.find(store, keys.curve(run, fit), "a learning curve", from_document)


class Trend:
    """Estimates for other numbers of models, from the points of a learning curve.

    Needs four points in the last three doublings and three in the last two. Its intervals include the
    uncertainty about the form of the curve.
    """

    def __init__(self, points: Sequence[Point]):
        self._fitted = [_coefficients(_latest(points, doublings), terms) for terms, doublings in FORMS]

    def at(self, models: float) -> Estimate:
        """Estimate the LDS of this many models."""
        return self._estimate(lambda coefficients: _lds(coefficients, models))

    def gain(self, models: float) -> Estimate:
        """Estimate by how much twice as many models would raise LDS."""
        return self._estimate(lambda coefficients: _lds(coefficients, 2 * models) - _lds(coefficients, models))

    def models_for(self, lds: float) -> Estimate:
        """Estimate how many models an LDS takes; infinitely many if no number is enough."""
        return self._estimate(lambda coefficients: _models(coefficients, lds))

    def _estimate(self, what: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        found = [what(coefficients) for coefficients in self._fitted]
        # Values may be infinite, so quantiles are not interpolated.
        tails = [np.quantile(values[1:], TAILS, method="inverted_cdf") for values in found]
        values = [found[0][0], *np.ravel(tails)]
        return Estimate(float(found[0][0]), float(min(values)), float(max(values)))


def trend(points: Sequence[Point]) -> Trend | None:
    """Fit the trend of points; None if they are too few."""
    usable = [point for point in points if point.lds > SMALLEST]
    enough = all(len(_latest(usable, doublings)) > terms for terms, doublings in FORMS)
    return Trend(usable) if usable and enough else None


def ahead(points: Sequence[Point]) -> list[tuple[float, Estimate]]:
    """Estimate LDS of more models than the last point has: of STEPS numbers up to AHEAD times as many, log-spaced.

    The middle one is of sqrt(AHEAD) times as many. Returns (models, LDS), or nothing if the points are too few.
    """
    known, last = trend(points), points[-1].models
    return [] if known is None else [(m, known.at(m)) for m in np.geomspace(last, AHEAD * last, STEPS).tolist()]


def _latest(points: Sequence[Point], doublings: int) -> list[Point]:
    most = max((point.models for point in points), default=0)
    return [point for point in points if point.models * 2.0**doublings >= most * 0.99]


def _coefficients(points: Sequence[Point], terms: int) -> np.ndarray:
    """Return float64[1 + resamples, 3]: a, b, c of 1/LDS^2, for the points and then for each resample."""
    from scipy import optimize  # importing it takes most of a second

    models, lds = (np.array([getattr(point, name) for point in points], dtype=float) for name in ("models", "lds"))
    deviations = np.stack([point.deviations for point in points], axis=1)
    error = 2 / lds**3 * np.maximum(deviations.std(axis=0), 1e-9)  # of 1/LDS^2
    powers = np.stack([(models.max() / models) ** i for i in range(terms)], axis=1) / error[:, None]
    values = np.maximum(np.concatenate([lds[None], lds + deviations]), SMALLEST)
    found = np.zeros((len(values), 3))
    for i, y in enumerate((1 / values**2 - 1) / error):
        found[i, :terms] = optimize.nnls(powers, y)[0]
    return found * [1, models.max(), models.max() ** 2] + [1, 0, 0]


def _lds(coefficients: np.ndarray, models: float) -> np.ndarray:
    a, b, c = coefficients.T
    return 1 / np.sqrt(a + b / models + c / models**2)


def _models(coefficients: np.ndarray, lds: float) -> np.ndarray:
    a, b, c = coefficients.T
    room = 1 / lds**2 - a
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (b + np.sqrt(b**2 + 4 * c * np.maximum(room, 0))) / (2 * room)  # 1 / the root of c x^2 + b x = room
    return np.where(room > 0, found, np.inf)
