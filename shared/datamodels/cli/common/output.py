"""Format values as text and JSON."""

from __future__ import annotations

import math
from typing import Any

from datamodels import words
from datamodels.spans import Span


def finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by None."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case list() | tuple():
            return [finite(v) for v in value]
        case dict():
            return {name: finite(v) for name, v in value.items()}
    return value


def field_of(span: Span | None) -> dict[str, Any]:
    """Return a target's span as a field of a row; no field if there is none."""
    return {} if span is None else {"span": span._asdict()}


def span(interval: tuple[float, float], digits: int = 3) -> str:
    """Format an interval as "0.123 to 0.456"."""
    low, high = interval
    return f"{low:.{digits}f} to {high:.{digits}f}"


def basis_line(found: dict[str, Any]) -> str:
    """Format a `service.basis` for people."""
    partial = ", which are not all models of the run" if "partial" in found else ""
    return f"run {found['run']}, fit {found['fit']} of {words.count(found['models'], 'model')}{partial}"
