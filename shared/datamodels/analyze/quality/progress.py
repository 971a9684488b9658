"""Define how an analysis reports its progress."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[float], None]
"""A function that is called with the fraction of the work that is done. An exception in it stops the work."""
