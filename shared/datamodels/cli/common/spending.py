"""Format times and costs of training."""

from __future__ import annotations

import argparse

from datamodels import words
from datamodels.plan.cost import Estimate


def money(estimate: Estimate, options: argparse.Namespace) -> str:
    """Format device-hours, and their cost if a price is given."""
    hours = f"{estimate.hours:,.4g} device-hours" if estimate.hours < 1000 else f"{estimate.hours:,.0f} device-hours"
    if options.price is None:
        return hours
    spot = f" less {options.spot_discount:.0%}" if options.spot_discount else ""
    price = estimate.cost(options.price, options.spot_discount)
    said = f"{price:,.2f}" if price >= 0.1 else words.number(price)
    return f"{hours}, {said} at {options.price:g} per hour{spot}"


def duration(seconds: float) -> str:
    """Format a time with a unit that gives about three digits."""
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    if seconds >= 0.1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.2g} ms"
