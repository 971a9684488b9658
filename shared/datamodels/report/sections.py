"""The parts of the page that need no script, as HTML."""

from __future__ import annotations

import html as markup
from collections.abc import Iterator

import numpy as np

from datamodels.analyze import interval, leakage, mislabel, support
from datamodels.analyze.conflicts import Conflicts
from datamodels.analyze.interval import LEVEL
from datamodels.fit import problem
from datamodels.report import charts, learning
from datamodels.report.example import label_name
from datamodels.report.findings import Findings

CONFLICTS = 10
"""Pairs of classes that are shown."""
TARGETS_OF_SUPPORTS = 2000
"""So many are searched for supports, of more: a random sample."""


def lead(found: Findings) -> str:
    """What the run is, and how far it is."""
    run = found.run
    text = (
        f"{found.committed:,} models were trained on random subsets ({run.design.summary()})"
        + (f", and one sparse linear model was fitted to each of {run.n:,} targets" if found.fitted else "")
        + f". {found.failed} models failed."
    )
    notes = [f"Training ended early: {stop}." for stop in found.stopped[-1:]]
    if found.partial:
        fitted = f" The newest fit has seen {found.fitted.record.rows:,}." if found.fitted else ""
        notes.append(
            f"Partial: {found.committed:,} of {run.spec.models:,} models are committed.{fitted} Everything below is of "
            "what there is, and will change."
        )
    if found.examples.dataset is None:
        notes.append("The data set cannot be loaded here, so examples are shown by number.")
    shown = "".join(f'<p class="note" role="note">{markup.escape(note)}</p>' for note in notes)
    return f"<p>{markup.escape(text)}</p>{shown}"


def cards(found: Findings) -> str:
    return "".join(
        f'<div class="card"><b>{markup.escape(value)}</b><span>{markup.escape(what)}</span></div>'
        for value, what in _cards(found)
    )


def _cards(found: Findings) -> Iterator[tuple[str, str]]:
    run, evaluation = found.run, found.evaluation
    if evaluation:
        low, high = evaluation.interval
        yield f"{evaluation.lds:.3f}", f"LDS, {LEVEL:.0%} interval {low:.3f} to {high:.3f}"
        yield f"{evaluation.ceiling:.3f}", f"noise ceiling, between halves of {evaluation.models} models"
    yield f"{found.committed:,}", f"models of {run.spec.models:,}"
    yield f"{run.n:,}", "targets"
    yield f"{run.design.columns:,}", "training columns"
    if found.fitted:
        solution = found.fitted.solution
        weights = np.median(np.diff(solution.indptr)) if solution.n else 0
        yield f"{weights:,.0f}", "weights of a target, the median"
        unusual = sum(status != problem.OK for status in solution.status)
        if unusual:
            yield f"{unusual:,}", "targets whose fit ended otherwise than ok"


def unfitted(found: Findings) -> str:
    share = found.committed / found.run.spec.models
    return (
        f"<p>No fit is finished yet: there are no weights to show. {found.committed:,} of {found.run.spec.models:,} "
        f"models are committed ({share:.0%}). <code>datamodels fit</code> goes on from there.</p>"
    )


def quality(found: Findings) -> str:
    evaluation = found.evaluation
    if evaluation is None:
        why = (
            "evaluate.subsets is 0 in the spec"
            if not found.run.spec.evaluate.subsets
            else "fewer than 3 of the unseen subsets have two trained models"
        )
        return f"<p>Not measured: {why}.</p>"
    scores = evaluation.per_target[~np.isnan(evaluation.per_target)]
    tenth, middle = np.quantile(scores, [0.1, 0.5])
    return (
        "<p>For each target: Spearman's correlation between what its datamodel predicts for "
        f"{evaluation.subsets} subsets that it has never seen, and the mean of {evaluation.models} models really "
        f"trained on each. The average over {evaluation.targets:,} targets is the LDS. Half of the targets are above "
        f"{middle:.2f}, nine in ten above {tenth:.2f}. Training is noisy: two halves of those models agree at "
        f"{evaluation.ceiling:.3f}.</p>"
        '<div class="halves"><div class="panel"><h3>Targets by their correlation</h3>'
        f"{charts.histogram(scores, evaluation.lds, 'Targets by correlation')}</div>"
        '<div class="panel" id="scatter" hidden></div></div>'
    )


def curve(found: Findings) -> str:
    return (
        f"<p>LDS of fits of the first models alone, with its {LEVEL:.0%} interval. The dashed line is where the points "
        "lead: 1/LDS² against 1/models, to second order.</p>"
        f'<div class="panel">{learning.svg(found.curve)}</div>'
    )


def brittleness(found: Findings) -> str:
    """How many targets are predicted to be wrong without their k most helpful examples."""
    run, solution = found.run, found.fitted.solution
    targets = np.random.default_rng(0).permutation(run.n)[:TARGETS_OF_SUPPORTS].tolist()
    supports = [support.support(run, solution, target) for target in targets]
    counted = [one for one in supports if one.status != support.NO_WEIGHTS]
    right = [one for one in counted if one.status != support.WRONG]
    sizes = np.sort([len(one.columns) for one in right if one.status == support.FOUND])
    wrong = len(counted) - len(right)
    if not len(sizes):
        return (
            f"<p>Of {len(counted):,} targets, {wrong:,} are predicted to be wrong already. For none of the others is "
            f"there a set of up to {support.default_limit(run):,} columns without which they would be.</p>"
        )
    k = [0, *np.unique(sizes).tolist()]
    flipped = np.searchsorted(sizes, k, side="right")
    intervals = [interval.share(count, len(right)) for count in flipped.tolist()]
    low, high = interval.share(len(sizes), len(right))
    chart = charts.steps(
        k,
        flipped / len(right),
        [pair[0] for pair in intervals],
        [pair[1] for pair in intervals],
        "Share of targets predicted to be wrong by number of columns taken out",
        "most helpful columns taken out",
    )
    return (
        "<p>The support of a target is the smallest set of training examples without which its datamodel predicts that "
        f"models get it wrong. Of {len(right):,} targets predicted to be right, {len(sizes) / len(right):.0%} have one "
        f"of up to {support.default_limit(run):,} columns ({LEVEL:.0%} interval {low:.0%} to {high:.0%}); its median "
        f"is {np.median(sizes):,.0f} columns, {np.median(sizes) / run.design.columns:.1%} of the pool. {wrong:,} more "
        "are predicted to be wrong with the whole pool. <code>datamodels support RUN TARGET --verify 20</code> checks "
        f'one by training.</p><div class="panel">{chart}</div>'
    )


def conflicts(found: Findings, against: Conflicts) -> str:
    """The surest pairs of classes in which the examples of one lower the margins of the other."""
    sure = np.flatnonzero(against.sure)[:CONFLICTS]
    if not len(sure):
        return f"<p>Of {against.pairs} pairs of classes, none surely harms the other.</p>"
    data = found.examples.dataset
    rows = "".join(
        f'<tr><th scope="row">{markup.escape(label_name(data, int(against.source[i])))}</th>'
        f"<td>{markup.escape(label_name(data, int(against.target[i])))}</td><td>{against.effect[i]:+.3f}</td>"
        f"<td>{against.interval[i, 0]:+.3f} to {against.interval[i, 1]:+.3f}</td><td>{against.harmed[i]:.0%}</td></tr>"
        for i in sure.tolist()
    )
    heads = ("examples of", "harm targets of", "mean effect", f"{LEVEL:.0%}, all pairs at once", "targets harmed")
    return (
        "<p>The mean over targets of one class of the sum of weights of all examples of another. "
        f"{int(against.sure.sum())} of {against.pairs} pairs are surely below 0; the surest {len(sure)} are shown.</p>"
        '<div class="panel chart" tabindex="0"><table class="wide"><thead><tr>'
        + "".join(f'<th scope="col">{head}</th>' for head in heads)
        + f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def leaks(by: str) -> str:
    ranked = (
        "Ranked by the distance of their inputs over that of the target to its fifth nearest example: 0 is a copy, 1 "
        "is nothing special"
        if by == leakage.BY_INPUTS
        else "Ranked by the example's share of all that helps the target, which finds few copies: compare inputs with "
        "<code>datamodels leakage RUN</code>"
    )
    return (
        f"<p>Pairs of a target and a training example to look at. {ranked}. The weight is what the example is worth to "
        'the target.</p><div class="panel couples" id="leaks-body"></div>'
    )


def suspects(by: str) -> str:
    ranked = (
        "by how far models that have not seen them are from their label"
        if by == mislabel.OWN
        else "by how they move targets of other labels, and how little they help their own"
    )
    return (
        f"<p>Training examples to look at, ranked by their weights: {ranked}. There may be nothing wrong with any of "
        'them: hard examples look alike.</p><div class="panel"><div id="suspects-body"></div></div>'
    )


def seconds(found: Findings) -> str:
    return f'<div class="panel">{charts.bars(found.seconds, "Seconds per stage", "s")}</div>'
