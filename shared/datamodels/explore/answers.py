"""Answer about one target, one column or the whole of a fit: the same live and in the file of a report."""

from __future__ import annotations

from datamodels.analyze.patterns import similar
from datamodels.analyze.what_if.counterfactual import before_interval
from datamodels.explore import models, views
from datamodels.explore.opened import Opened
from datamodels.explore.queue import Queue
from datamodels.explore.verdicts import Verdict
from datamodels.explore.views import Looker


def target(opened: Opened, look: Looker, target: int, k: int) -> models.TargetDetail:
    """Describe a target: the k columns that help it most, and the k that harm it most. Raises TargetRangeError."""
    fitted = opened.fitted
    helpful, harmful = fitted.top(target, k)
    return models.TargetDetail(
        fit=fitted.record.number,
        predicted_interval=views.pair(before_interval(fitted.run, fitted.solution, fitted.noise, target)),
        facts=opened.target_facts.row(target),
        fields=opened.target_facts.texts,
        look=look.target(target),
        helpful=views.weighted(fitted, look.column, helpful, target=target),
        harmful=views.weighted(fitted, look.column, harmful, target=target),
    )


def column(opened: Opened, look: Looker, column: int, k: int) -> models.ColumnDetail:
    """Describe a column: the k targets whose output it raises most, and the k that it lowers. Raises MaskError."""
    ways = [opened.effects(column, k, negative=negative) for negative in (False, True)]
    raises, lowers = (
        views.weighted(
            opened.fitted,
            look.target,
            list(zip(way.target.tolist(), way.weight.tolist(), strict=True)),
            column=column,
        )
        for way in ways
    )
    return models.ColumnDetail(
        fit=opened.fitted.record.number,
        facts=opened.column_facts.row(column),
        fields=opened.column_facts.texts,
        look=look.column(column),
        raises=raises,
        lowers=lowers,
    )


def alike(opened: Opened, look: Looker, kind: str, index: int, k: int, metric: str) -> models.Neighbours:
    """Find the k targets, or columns, with the most similar weights. Raises as `similar.targets` does."""
    find, show = {"targets": (similar.targets, look.target), "columns": (similar.columns, look.column)}[kind]
    found = find(opened.fitted.theta, index, k=k, metric=metric)
    rows = zip(found.index.tolist(), found.score.tolist(), strict=True)
    return models.Neighbours(
        fit=opened.fitted.record.number,
        neighbours=[models.Neighbour(index=other, score=score, look=show(other)) for other, score in rows],
    )


def queue(opened: Opened, look: Looker, found: Queue, known: dict[tuple[str, int, int], Verdict]) -> models.QueueInfo:
    """Describe what to review, with the verdicts that are known."""
    return models.QueueInfo(
        fit=opened.fitted.record.number,
        suspects=[views.suspect(opened, look, one, known) for one in found.suspects],
        ranked=found.ranked,
        left_out=found.left_out,
    )
