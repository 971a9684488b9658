"""Draw charts that need no script: SVG of fixed size, in the colours of the page's style sheet."""

from __future__ import annotations

import html as markup
from collections.abc import Sequence

import numpy as np

WIDTH, HEIGHT, LEFT = 720, 200, 40
BESIDE = 24
"""Room for the title of the axis at the left of a chart's numbers."""
TICKS = 13
"""Most numbers below a histogram; if there are more, every second one is left out."""

Names = tuple[str, str]
"""Titles of the axes below a chart and beside it."""


def svg(label: str, height: float, body: str, top: float = 12, width: float = WIDTH, left: float = 0) -> str:
    """Wrap a chart of `width` x `height` units, with `top` more above and `left` more at its left.

    label  says in words what the chart shows
    """
    return (
        f'<div class="chart" tabindex="0"><svg viewBox="{-left} {-top} {left + width} {height + top}" role="img" '
        f'aria-label="{markup.escape(label)}">{body}</svg></div>'
    )


def axes(x: float, below: float, across: str, beside: float, y: float, up: str) -> str:
    """Write the titles of both axes: `across` around (x, below), and `up`, turned by 90 degrees, around (beside, y)."""
    return (
        f'<text x="{x:.0f}" y="{below:.0f}" text-anchor="middle">{markup.escape(across)}</text>'
        f'<text x="{beside:.0f}" y="{y:.0f}" text-anchor="middle" transform="rotate(-90 {beside:.0f} {y:.0f})">'
        f"{markup.escape(up)}</text>"
    )


def histogram(values: np.ndarray, mean: float, label: str) -> str:
    """Draw counts of values in bins of 1/40, with their mean. Corrected correlations above 1 count as 1."""
    low = min(0.5, float(np.floor(values.min() * 10) / 10))
    counts, edges = np.histogram(np.minimum(values, 1), bins=np.linspace(low, 1, round((1 - low) * 40) + 1))
    most, width, height = max(1, counts.max()), 480, 270

    def x(value: float) -> float:
        return (value - low) / (1 - low) * width

    marks = "".join(
        f'<rect class="mark" x="{x(left) + 1:.1f}" y="{height - height * count / most:.1f}" '
        f'width="{x(right) - x(left) - 2:.1f}" height="{height * count / most:.1f}">'
        f"<title>{count} targets, {left:.3f} to {right:.3f}</title></rect>"
        for count, left, right in zip(counts, edges, edges[1:], strict=False)
    )
    tenths = np.arange(round(10 * low) + 1, 10)  # whole numbers, or 0 might be "-0.0"
    tenths = tenths if len(tenths) <= TICKS else tenths[tenths % 2 == 0]
    ticks = "".join(
        f'<text x="{x(tick):.1f}" y="{height + 18}" text-anchor="middle">{tick:.1f}</text>' for tick in tenths / 10
    )
    line = f'<line class="rule" x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="-20" y2="{height}"/>'
    note = f'<text x="{x(mean) - 6:.1f}" y="-8" text-anchor="end">LDS {mean:.3f}</text>'
    counted = "".join(
        f'<line class="grid" x1="0" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{count:,}</text>'
        for count in range(0, most + 1, _round_step(most / 4))
        for y in (height * (1 - count / most),)
    )
    names = axes(width / 2, height + 38, "correlation of predicted and true outputs", -LEFT - 8, height / 2, "targets")
    body = counted + marks + line + note + ticks + names
    return svg(label, height + 44, body, top=24, width=width, left=LEFT + 20)  # the note is above all bars


def bars(values: dict[str, float], label: str, unit: str) -> str:
    """Draw a bar for each value."""
    longest = max(values.values(), default=1.0) or 1.0
    length = WIDTH - 180
    rows = "".join(
        f'<text x="0" y="{24 * i + 16}">{markup.escape(name)}</text><rect class="mark" x="80" y="{24 * i + 4}" '
        f'width="{max(1.0, length * value / longest):.1f}" height="16"/>'
        f'<text x="{88 + length * value / longest:.1f}" y="{24 * i + 16}">{value:.1f} {unit}</text>'
        for i, (name, value) in enumerate(values.items())
    )
    return svg(label, 24 * len(values), rows, top=0)


def steps(
    k: Sequence[int], share: Sequence[float], low: Sequence[float], high: Sequence[float], label: str, names: Names
) -> str:
    """Draw a share, 0 to 1, that grows with k, with its interval; `names` are of the axes of k and of the share."""
    most = max(1, k[-1])

    def point(x: float, y: float) -> str:
        return f"{LEFT + x / most * (WIDTH - LEFT - 20):.1f},{HEIGHT * (1 - y):.1f}"

    def stairs(values: Sequence[float]) -> list[str]:
        found = []
        for i, value in enumerate(values):
            if i:
                found.append(point(k[i], values[i - 1]))
            found.append(point(k[i], value))
        return found

    lines = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 20}" y1="{HEIGHT * (1 - tick):.1f}" '
        f'y2="{HEIGHT * (1 - tick):.1f}"/><text x="{LEFT - 6}" y="{HEIGHT * (1 - tick) + 4:.1f}" '
        f'text-anchor="end">{tick:.0%}</text>'
        for tick in (0, 0.25, 0.5, 0.75, 1)
    )
    ticks = "".join(
        f'<text x="{point(tick, 0).split(",")[0]}" y="{HEIGHT + 18}" text-anchor="middle">{tick:,}</text>'
        for tick in range(0, most + 1, _round_step(most / 6))
    )
    name = axes(WIDTH / 2, HEIGHT + 38, names[0], -10, HEIGHT / 2, names[1])
    band = f'<polygon class="band" points="{" ".join(stairs(high) + stairs(low)[::-1])}"/>'
    line = f'<polyline class="line" points="{" ".join(stairs(share))}"/>'
    return svg(label, HEIGHT + 44, lines + band + line + ticks + name, left=BESIDE)


def _round_step(least: float) -> int:
    """Return the smallest 1, 2 or 5 times a power of ten that is no less, and at least 1."""
    power = 10 ** max(0, int(np.floor(np.log10(max(least, 1)))))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= least)
