"""Draw the learning curve as SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datamodels.analyze.quality.interval import Estimate
from datamodels.analyze.quality.trend import AHEAD, Point
from datamodels.report import charts
from datamodels.report.charts import LEFT, WIDTH

HEIGHT, RIGHT = 220, 20

Ahead = Sequence[tuple[float, Estimate]]
"""LDS of more models, as `quality.curve.ahead` returns it."""


def svg(points: Sequence[Point], ahead: Ahead) -> str:
    """Draw LDS by number of models, on a scale of doublings: points with their intervals, then the forecast."""
    last = points[-1].models
    scale = _Scale(points, last * AHEAD if ahead else last)
    come = _to_come(ahead, scale) if ahead else ""
    measured = "".join(_point(point, scale) for point in points)
    axes = _axes(points, scale, bool(ahead))
    names = charts.axes(WIDTH / 2, HEIGHT + 40, "models, on a logarithmic scale", -10, HEIGHT / 2, "LDS")
    body = axes + come + measured + names
    return charts.svg("LDS by number of models", HEIGHT + 46, body, top=14, left=charts.BESIDE)


class _Scale:
    def __init__(self, points: Sequence[Point], most: int):
        self._low, self._high = np.log2([points[0].models / 1.2, most * 1.15])
        self.bottom = float(np.floor(min(point.interval[0] for point in points) * 10) / 10)

    def x(self, models: float) -> float:
        share = (np.log2(models) - self._low) / (self._high - self._low)
        return float(LEFT + share * (WIDTH - LEFT - RIGHT))

    def y(self, lds: float) -> float:
        return float(HEIGHT * (1 - (lds - self.bottom) / (1 - self.bottom)))


def _axes(points: Sequence[Point], scale: _Scale, ahead: bool) -> str:
    lines = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{scale.y(lds):.1f}" y2="{scale.y(lds):.1f}" class="grid"/>'
        f'<text x="{LEFT - 8}" y="{scale.y(lds) + 4:.1f}" text-anchor="end">{lds:.1f}</text>'
        for lds in np.arange(round(10 * scale.bottom), 11) / 10
    )
    last = points[-1].models
    models = [point.models for point in points] + [times * last for times in (2, AHEAD) if ahead]
    ticks = "".join(
        f'<text x="{scale.x(count):.1f}" y="{HEIGHT + 20}" text-anchor="middle">{count:,}</text>' for count in models
    )
    return lines + ticks


def _point(point: Point, scale: _Scale) -> str:
    x, (low, high) = scale.x(point.models), point.interval
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{scale.y(low):.1f}" y2="{scale.y(high):.1f}" class="line"/>'
        f'<circle cx="{x:.1f}" cy="{scale.y(point.lds):.1f}" r="4" class="mark">'
        f"<title>{point.models:,} models: LDS {point.lds:.3f}, {low:.3f} to {high:.3f}</title></circle>"
        f'<text x="{x:.1f}" y="{scale.y(high) - 8:.1f}" text-anchor="middle">{point.lds:.3f}</text>'
    )


def _to_come(ahead: Ahead, scale: _Scale) -> str:
    found = [(scale.x(models), estimate) for models, estimate in ahead]
    upper = [f"{x:.1f},{scale.y(estimate.high):.1f}" for x, estimate in found]
    lower = [f"{x:.1f},{scale.y(estimate.low):.1f}" for x, estimate in found]
    middle = " ".join(f"{x:.1f},{scale.y(estimate.value):.1f}" for x, estimate in found)
    labels = "".join(
        f'<text x="{x:.1f}" y="{scale.y(estimate.high) - 10:.1f}" text-anchor="middle">{estimate.value:.3f}</text>'
        for x, estimate in (found[len(found) // 2], found[-1])
    )
    return (
        f'<polygon points="{" ".join(upper + lower[::-1])}" class="band"/>'
        f'<polyline points="{middle}" class="line" stroke-dasharray="6 5"/>{labels}'
    )
