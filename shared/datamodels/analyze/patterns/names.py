"""Names that a request chooses by. This module imports nothing, so that the command line can list them at once."""

from __future__ import annotations

METRICS = ("cosine", "rbf")
"""Similarities of weight vectors; see `patterns.similar`. The first is the default."""
GROUPS = ("classes", "clusters")
"""Kinds of groups to look for conflicts between; see `patterns.conflicts`. The first is the default."""
BY_INPUTS = "inputs"
BY_WEIGHTS = "weights"
"""What suspected leaks are found by; see `patterns.leakage`."""
