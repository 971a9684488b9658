"""Name the choices in requests. This module imports nothing, so that the command line can list them quickly."""

from __future__ import annotations

METRICS = ("cosine", "rbf")
"""Similarities of weight vectors; see `patterns.similar`. The first is the default."""
GROUPS = ("classes", "clusters")
"""Kinds of groups between which to find conflicts; see `patterns.conflicts`. The first is the default."""
BY_INPUTS = "inputs"
BY_WEIGHTS = "weights"
"""Ways to find suspected leaks; see `patterns.leakage`."""
