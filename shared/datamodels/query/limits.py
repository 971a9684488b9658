"""Limit the sizes of the query service's answers. This module imports nothing, so that clients load it quickly."""

from __future__ import annotations

MAX_ANSWER_BYTES = 3_500_000
"""Largest size of the vectors in one unary answer, in bytes; clients accept 4 MiB by default."""
MAX_TOP = 1000
"""Most columns or targets that a request may ask for by their rank."""
