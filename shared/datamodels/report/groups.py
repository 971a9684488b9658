"""Make the JSON values for groups of similar targets: a map by principal components, clusters, ends of components."""

from __future__ import annotations

from typing import Any

import numpy as np

from datamodels.analyze.findings import ENDS, Findings
from datamodels.report.example import Examples, label_name, rounded

POINTS = 2000
"""Most points of the map; a random sample of more targets."""


def data(found: Findings) -> dict[str, Any] | None:
    """Return {map, clusters, components} of the targets; None if they are not grouped."""
    if found.fitted is None or found.fitted.groups is None:
        return None
    grouped, axes, commonest = (getattr(found.fitted.groups, name) for name in ("clusters", "components", "commonest"))
    examples = Examples(found.run, found.looks)
    shown = np.sort(np.random.default_rng(0).permutation(found.run.n)[:POINTS])
    scores = axes.scores[shown]

    def targets(chosen: np.ndarray) -> list[dict[str, Any]]:
        return [examples.target(target) | {"id": target} for target in chosen.tolist() if target >= 0][:ENDS]

    def most(cluster: int, size: int) -> str:
        """Return the label that most of a cluster have, and how many have it; empty without labels."""
        if commonest is None:
            return ""
        label, count = commonest[cluster]
        return f"{count} of {size} are {label_name(found.run, label)}"

    return {
        "map": {
            "id": shown.tolist(),
            "x": rounded(scores[:, 0]),
            "y": rounded(scores[:, -1]),
            "cluster": grouped.cluster[shown].tolist(),
            "label": [examples.target(target)["label"] for target in shown.tolist()],
        },
        "clusters": [
            {"size": int(size), "most": most(c, int(size)), "central": targets(central)}
            for c, (size, central) in enumerate(zip(grouped.sizes, grouped.central, strict=True))
        ],
        "components": [
            {
                "share": rounded([axes.share[i], *axes.interval[i]]),
                "high": targets(axes.high[i]),
                "low": targets(axes.low[i]),
            }
            for i in range(len(axes.share))
        ],
    }
