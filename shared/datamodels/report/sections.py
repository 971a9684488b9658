"""Render the parts of the page that need no script as HTML."""

from __future__ import annotations

import html as markup
import re
from collections.abc import Iterator

import numpy as np

from datamodels import words
from datamodels.analyze.findings import Findings, FitFindings
from datamodels.analyze.patterns.leakage import Pairs
from datamodels.analyze.patterns.results import Conflicts
from datamodels.analyze.patterns.review import Fragility
from datamodels.analyze.quality.evaluate import NOT_RANDOM, Evaluation
from datamodels.analyze.quality.interval import LEVEL
from datamodels.analyze.what_if.mislabel import OWN
from datamodels.errors import InputError
from datamodels.report import charts, learning
from datamodels.run.runs import Run

CONFLICTS = 10
"""Pairs of classes that are shown."""


def lead(found: Findings) -> str:
    """Render what the run computes, and its progress."""
    run, left_out = found.run, " and are left out" if found.failed else ""
    text = (
        f"{found.committed:,} models were trained on random subsets ({run.design.summary()})"
        + (f", and one linear model was fitted to each of {run.n:,} targets" if found.fitted else "")
        + f". {words.count(found.failed, 'model')} failed{left_out}. The recorded output is the {run.meaning}."
    )
    notes = [f"Training ended early: {stop}." for stop in found.stopped[-1:]]
    if found.partial:
        fitted = f" The newest fit uses {found.fitted.record.rows:,} of them." if found.fitted else ""
        notes.append(
            f"Partial: {found.committed:,} of {run.spec.models:,} models are committed.{fitted} All figures below "
            "change as more models arrive."
        )
    if found.fitted and found.fitted.record.chosen:
        notes.append(f"Weights: {words.CHOSEN} {found.fitted.record.chosen}.")
    if found.dataset is None:
        notes.append("The data set cannot be loaded here, so examples are shown by number.")
    shown = "".join(f'<p class="note" role="note">{markup.escape(note)}</p>' for note in notes)
    return f"<p>{prose(text)}</p>{shown}"


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
        value, _, ends = evaluation.ceiling_text.partition(" ")
        known = f", {LEVEL:.0%} interval {ends.strip('()')}" if ends else ""
        yield value, f"noise ceiling: agreement of two halves of {evaluation.mean_of} models{known}"
    yield f"{found.committed:,}", f"models of {run.spec.models:,}"
    yield f"{run.n:,}", "targets"
    yield f"{run.design.columns:,}", "groups of training examples" if run.design.grouped else "training examples"
    if found.fitted:
        yield f"{found.fitted.weights:,.0f}", "weights of a target (median)"
        if found.fitted.unusual:
            yield f"{found.fitted.unusual:,}", "targets whose fit did not end as ok"


def unfitted(found: Findings) -> str:
    share = found.committed / found.run.spec.models
    return (
        f"<p>No fit is finished yet, so there are no weights to show. {found.committed:,} of "
        f"{found.run.spec.models:,} models are committed ({share:.0%}). <code>datamodels fit</code> continues from "
        "there.</p>"
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
    tenth, middle = evaluation.quantiles((0.1, 0.5))
    assert found.fitted is not None and found.fitted.verdict is not None, "an evaluation is of a fit"
    verdict = found.fitted.verdict
    limit = (
        ""  # the verdict says that outputs never vary
        if evaluation.constant == evaluation.targets
        else f"Training is random, which limits the LDS of any prediction to about {evaluation.best:.3f}: two halves "
        f"of {evaluation.mean_of} models correlate at {evaluation.ceiling_text}, the noise ceiling."
        if evaluation.ceiling < NOT_RANDOM
        else "The noise ceiling is 1: models on one subset do not differ, so noise does not limit the LDS."
    )
    return (
        f"<p><strong>{markup.escape(verdict.word.capitalize())}</strong>: {prose(verdict.text)}</p>"
        "<p>The LDS says how well datamodels predict subsets that no fit has seen. For each target, it is Spearman's "
        f"correlation between the predictions for {evaluation.subsets} unseen subsets and the mean outputs of "
        f"{evaluation.models} models trained on each; the LDS is the average over {evaluation.targets:,} targets."
        f"{_corrected(evaluation)} Half of the targets have a correlation above {middle:.2f}, and nine in ten above "
        f"{tenth:.2f}. {limit}</p>"
        '<div class="halves"><div class="panel"><h3>Targets by their correlation</h3>'
        f"{charts.histogram(evaluation.scores, evaluation.lds, 'Targets by correlation')}</div>"
        '<div class="panel" id="scatter" hidden></div></div>'
    )


def _corrected(evaluation: Evaluation) -> str:
    if evaluation.mean_of == evaluation.models:
        return ""
    return (
        f" Both are corrected (Spearman and Brown) to what {evaluation.mean_of} models on each subset would give, by "
        "how well the models of a subset agree."
    )


def curve(found: FitFindings) -> str:
    ahead = (
        "The dashed line forecasts the LDS of more models: 1/LDS² as a quadratic function of 1/models."
        if found.ahead
        else "There are too few points to forecast the LDS of more models."
    )
    return (
        f"<p>LDS of fits that use only the first models, with its {LEVEL:.0%} interval. {ahead}</p>"
        f'<div class="panel">{learning.svg(found.curve, found.ahead)}</div>'
    )


def no_threshold(found: Findings) -> str:
    """Render why no output counts as wrong, and what to do if some should."""
    try:
        found.predicted.judged()
    except InputError as error:
        return f"<p>Not measured: {prose(str(error))}.</p>"
    return ""


def prose(text: str) -> str:
    """Escape a text, and set what it has between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", markup.escape(text))


def fragility(run: Run, found: Fragility) -> str:
    """Render how many targets are predicted to be wrong without their k most helpful examples."""
    counted, unit = found.fragile, run.design.unit
    if not counted.count:
        return (
            f"<p>Of {counted.of + counted.wrong:,} targets, {counted.wrong:,} are predicted to be wrong with the whole "
            f"pool. None of the others has a support of up to {words.count(counted.limit, unit)}: a set without which "
            "it is predicted to be wrong.</p>"
        )
    low, high = counted.interval
    chart = charts.steps(
        found.columns.tolist(),
        found.share.tolist(),
        found.interval[:, 0].tolist(),
        found.interval[:, 1].tolist(),
        f"Share of targets predicted to be wrong by number of {unit}s removed",
        (f"most helpful {unit}s removed", "targets predicted to be wrong"),
    )
    part = f"{counted.count / counted.of:.0%}"
    return (
        f"<p>The support of a target is the smallest set of training {unit}s without which models are predicted to "
        f"get it wrong. Of {counted.of:,} targets that are predicted to be right, {part} have a support of up to "
        f"{words.count(counted.limit, unit)} ({LEVEL:.0%} interval {low:.0%} to {high:.0%}). The median support has "
        f"{words.count(round(found.median), unit)}, {found.median / run.design.columns:.1%} of the pool. "
        f"{counted.wrong:,} more targets are predicted to be wrong with the whole pool. "
        "<code>datamodels support RUN TARGET --verify 20</code> "
        f'trains models to check a support.</p><div class="panel">{chart}</div>'
    )


def conflicts(found: Findings, against: Conflicts) -> str:
    """Render the pairs of classes whose examples most surely harm targets of the other class."""
    sure = np.flatnonzero(against.sure)[:CONFLICTS]
    if not len(sure):
        return f"<p>Of {against.pairs} pairs of classes, none surely harms the other.</p>"
    run = found.run
    rows = "".join(
        f'<tr><th scope="row">{markup.escape(run.label_name(int(against.source[i])))}</th>'
        f"<td>{markup.escape(run.label_name(int(against.target[i])))}</td>"
        f"<td>{words.number(against.effect[i], signed=True)}</td>"
        f"<td>{words.interval(against.interval[i].tolist(), signed=True)}</td><td>{against.harmed[i]:.0%}</td></tr>"
        for i in sure.tolist()
    )
    heads = ("examples of", "harm targets of", "mean effect", f"{LEVEL:.0%}, all pairs at once", "targets harmed")
    return (
        "<p>The effect of a class on a target is the sum of the weights of all its examples. The table shows the mean "
        f"effect on the targets of another class. It is surely {found.predicted.worse} 0, so that it makes their "
        f"{markup.escape(found.predicted.name)} worse, for {int(against.sure.sum())} of "
        f"{against.pairs} pairs; the surest {len(sure)} are shown.</p>"
        '<div class="panel chart" tabindex="0"><table class="wide"><thead><tr>'
        + "".join(f'<th scope="col">{head}</th>' for head in heads)
        + f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def leaks(pairs: Pairs) -> str:
    ranked = (
        "Pairs are ranked by the example's share of all weights that help the target, which finds few copies. "
        "<code>datamodels leakage RUN</code> compares inputs"
        if pairs.close is None
        else f"Pairs are ranked by distance: {markup.escape(pairs.close.compared)}. It is divided by the "
        "distance of the target to its fifth nearest example: 1 is ordinary, 0 is equal as compared"
    )
    verdict = "" if pairs.close is None else f"<p><strong>{markup.escape(pairs.close.verdict)}</strong></p>"
    return (
        f"{verdict}<p>Pairs of a target and a training example that may be the same. {ranked}. The weight is how much "
        'the example raises the output of the target.</p><div class="panel couples" id="leaks-body"></div>'
    )


def suspects(by: str) -> str:
    ranked = (
        "by how strongly models that have not seen them disagree with their label"
        if by == OWN
        else "by how much they move targets of other labels, and how little they help targets of their own"
    )
    return (
        f"<p>Training examples whose label may be wrong, ranked {ranked}. Hard examples look the same by this measure, "
        'so look at each one.</p><div class="panel"><div id="suspects-body"></div></div>'
    )


def seconds(found: Findings) -> str:
    return f'<div class="panel">{charts.bars(found.seconds, "Seconds per stage", "s")}</div>'
