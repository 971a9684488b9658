"""Spell numbers and examples, so that messages, output and the report all spell them alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

from datamodels.screen import plain

SMALLEST, LARGEST = 1e-4, 1e7
"""Numbers from the first up to the second are written without an exponent."""
LEFT_OUT = (
    "fits leave failed models out, and a resumed run does not train them again; to have them, correct the trainer "
    "and give the spec another name"
)
"""What becomes of models that failed with both their seeds, and what to do. See docs/guides/trainer.md for why."""
CHOSEN = "chosen by cross-validation:"
"""Before `FitRecord.chosen`."""


def count(number: int, noun: str) -> str:
    """Spell a number of things: "1 epoch", "2,000 epochs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(count: int) -> str:
    """Spell a number of bytes: "12 bytes", "3.4 MB", "1,200 GB"."""
    for unit, of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= of:
            return f"{count / of:,.{0 if count >= 100 * of else 1}f} {unit}"
    return f"{count} bytes"


def number(value: float, *, signed: bool = False) -> str:
    """Write an output, a weight or an effect with at least three significant digits: "2.860", "0.0123", "1.20e-07".

    The scale of outputs is the trainer's, so a fixed number of decimals could hide all digits. NaN is "unknown".

    signed  write a plus before numbers above 0
    """
    size, sign = abs(value), "+" if signed and value else ""
    if math.isnan(value):
        return "unknown"
    if math.isinf(value) or not value:
        return f"{value:{sign}g}"
    if not SMALLEST <= size < LARGEST:
        return f"{value:{sign}.2e}"
    power = math.floor(math.log10(size))
    return f"{value:{sign},.{2 - power if size < 1 else min(3, 5 - min(power, 5))}f}"


def weight(value: float, measured: float | None) -> str:
    """Write a weight, and how much of it is a prior: "+0.120 (prior +0.150)".

    measured  the other part; None if there is no prior, or if its part is unknown
    """
    written = number(value, signed=True)
    return written if measured is None else f"{written} (prior {number(value - measured, signed=True)})"


def fixed(value: float, decimals: int) -> str:
    """Write a number for pages: with a minus sign, U+2212, and with none before what is 0 in so many decimals."""
    return f"{value:z.{decimals}f}".replace("-", "\u2212")


def interval(ends: tuple[float, float] | list[float], *, signed: bool = False) -> str:
    """Write an interval of numbers: "0.123 to 0.456"."""
    low, high = ends
    return f"{number(low, signed=signed)} to {number(high, signed=signed)}"


def example(index: int, label: object = None) -> str:
    """Name a training example, or another column: "#397 (9)". A label of None or below 0 is not shown."""
    return f"#{index}{_shown(label)}"


def target(index: int, label: object = None) -> str:
    """Name a target: "target 17 (0)". A label of None or below 0 is not shown."""
    return f"target {index}{_shown(label)}"


def label(number: int | None, names: Sequence[str]) -> str:
    """Name a class: its name, or its number if it has none. Empty for None and for a number below 0."""
    if number is None or number < 0:
        return ""
    return plain(names[number]) if number < len(names) else str(number)


def _shown(label: object) -> str:
    return "" if label in (None, "") or (isinstance(label, int) and label < 0) else f" ({label})"
