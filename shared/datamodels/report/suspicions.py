"""Make the JSON values for pairs that may have leaked and labels that may be wrong, with displays of the examples."""

from __future__ import annotations

from typing import Any

from datamodels.analyze.findings import Findings
from datamodels.report.example import Examples, rounded


def leaks(found: Findings) -> dict[str, Any] | None:
    """Return {by, pairs: target, example, score, weight, same}; None if nothing is suspected.

    `same` says what is equal in a pair; it is empty if nothing is, or if inputs were not compared.
    """
    if found.fitted is None or found.fitted.leaks is None:
        return None
    pairs, examples = found.fitted.leaks, Examples(found.run, found.looks)
    columns = [getattr(pairs, name).tolist() for name in ("target", "example", "score", "weight")]
    same = [""] * len(pairs.target) if pairs.close is None else pairs.close.said
    rows = zip(*columns, same, strict=True)
    return {
        "by": pairs.by,
        "pairs": [
            {
                "id": target,
                "target": examples.target(target),
                "example": examples.column(example),
                "score": rounded([score])[0],
                "weight": rounded([weight])[0],
                "same": equal,
            }
            for target, example, score, weight, equal in rows
        ],
    }


def suspects(found: Findings) -> dict[str, Any] | None:
    """Return {by, suspects: example, score, suggested}; None if nothing is suspected. `suggested` is a label's name."""
    if found.fitted is None or found.fitted.suspects is None:
        return None
    worst, examples = found.fitted.suspects, Examples(found.run, found.looks)
    rows = zip(worst.example.tolist(), rounded(worst.score), found.fitted.suggested, strict=True)
    return {
        "by": worst.by,
        "suspects": [
            {
                "example": examples.column(example),
                "score": score,
                "suggested": None if label is None else found.run.label_name(label),
            }
            for example, score, label in rows
        ],
    }
