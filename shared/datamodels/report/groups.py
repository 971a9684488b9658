"""Targets that go together, for the page's script: a map by principal components, clusters, ends of components."""

from __future__ import annotations

from typing import Any

import numpy as np

from datamodels.analyze import conflicts as conflict
from datamodels.analyze.clusters import clusters
from datamodels.analyze.components import components
from datamodels.analyze.conflicts import Conflicts
from datamodels.errors import InputError
from datamodels.report.example import label_name, rounded
from datamodels.report.findings import Findings

MOST_TARGETS = 5000
"""Targets that are put into groups for a report: seconds. Of more, `datamodels clusters` and `components` tell."""
POINTS = 2000
"""Of the map; a random sample of more targets."""
AXES, ENDS = 5, 7


def data(found: Findings) -> dict[str, Any] | None:
    """{map, clusters, components} of the targets; None where they are too many, or too few have weights."""
    if found.fitted is None or found.run.n > MOST_TARGETS:
        return None
    theta, seed = found.fitted.theta, found.run.spec.seed
    try:
        grouped = clusters(theta, seed=seed)
        axes = components(theta, k=min(AXES, min(theta.shape) - 1), extremes=min(ENDS, found.run.n // 2), seed=seed)
    except InputError:
        return None
    shown = np.sort(np.random.default_rng(0).permutation(found.run.n)[:POINTS])
    scores = axes.scores[shown]
    return {
        "map": {
            "id": shown.tolist(),
            "x": rounded(scores[:, 0]),
            "y": rounded(scores[:, -1]),
            "cluster": grouped.cluster[shown].tolist(),
            "label": [found.examples.target(target)["label"] for target in shown.tolist()],
        },
        "clusters": [
            {"size": int(size), "most": _most(found, grouped.cluster == c), "central": _targets(found, central)}
            for c, (size, central) in enumerate(zip(grouped.sizes, grouped.central, strict=True))
        ],
        "components": [
            {
                "share": rounded([axes.share[i], *axes.interval[i]]),
                "high": _targets(found, axes.high[i]),
                "low": _targets(found, axes.low[i]),
            }
            for i in range(len(axes.share))
        ],
    }


def _targets(found: Findings, targets: np.ndarray) -> list[dict[str, Any]]:
    return [found.examples.target(target) | {"id": target} for target in targets.tolist() if target >= 0][:ENDS]


def _most(found: Findings, members: np.ndarray) -> str:
    """The label that most of them have, and how many have it; empty without labels."""
    if found.run.target_labels is None:
        return ""
    labels, counts = np.unique(found.run.target_labels[members], return_counts=True)
    name = label_name(found.examples.dataset, labels[counts.argmax()])
    return f"{counts.max()} of {members.sum()} are {name}"


def conflicts(found: Findings) -> Conflicts | None:
    """Classes whose examples lower the margins of others; None where there are no classes or no margins."""
    if found.fitted is None or not found.margins or found.run.n > MOST_TARGETS:
        return None
    try:
        return conflict.of_fit(found.run, found.fitted.solution, groups="classes")
    except InputError:
        return None
