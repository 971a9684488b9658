"""Say in words and numbers what a run has found: what its page of findings shows, live and in a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from datamodels import words
from datamodels.analyze.findings import Findings, FitFindings
from datamodels.analyze.patterns.results import Conflicts
from datamodels.analyze.patterns.review import Fragility
from datamodels.analyze.quality import agreement
from datamodels.analyze.quality.evaluate import NOT_RANDOM, Evaluation
from datamodels.analyze.quality.interval import LEVEL, Estimate
from datamodels.analyze.quality.unseen import Predictions
from datamodels.analyze.target import Removal, Target, UnseenOutputs
from datamodels.analyze.what_if.support import FOUND, WRONG
from datamodels.baselines import lime
from datamodels.baselines.compare import Document
from datamodels.baselines.lime import Explanation
from datamodels.errors import InputError
from datamodels.explore import models
from datamodels.explore.views import number, pair, plain, rounded
from datamodels.outputs import Output
from datamodels.run import documents, spellings
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run

Explained = Mapping[int, Explanation]
"""Explanations by LIME, by target."""

CONFLICTS = 10
"""Pairs of classes that are shown."""
BINS = 40
"""Bins of a histogram of correlations, for each unit."""
PARTS = 10
"""Parts of a target that is no picture, listed by LIME."""
STEPS = 50
"""Points of the curve that shows helpful examples removed."""


def of(
    found: Findings,
    *,
    compared: list[Document] | None = None,
    explained: Explained | None = None,
    among: Sequence[int] | None = None,
) -> models.FindingsInfo:
    """Return what a run has found.

    compared   results of other methods on the same run
    explained  explanations of some targets by LIME
    among      targets of which one is named to begin with; None for all
    """
    fit = found.fitted
    return models.FindingsInfo(
        fit=None if fit is None else fit.record.number,
        text=list(_lead(found)),
        figures=list(_figures(found)),
        quality=None if fit is None else quality(found, fit),
        curve=None if fit is None or not fit.curve else curve(fit),
        fragility=None if fit is None else fragile(found, fit),
        conflicts=None if fit is None or fit.conflicts is None else conflicts(found, fit.conflicts),
        baselines=compared,
        first=None
        if fit is None
        else first(found.run, fit, explained or {}, range(found.run.n) if among is None else among),
        explained=sorted(explained or ()),
        seconds=dict(_seconds(found)),
        spec=documents.dump(spellings.today_document(found.run.spec.document())),
    )


def first(run: Run, fit: FitFindings, explained: Explained, among: Sequence[int]) -> int | None:
    """Return the target to begin with; None if all are predicted badly or wrong.

    Prefer a target that LIME explains; otherwise take the best-predicted target that models get right, because
    conclusions from poor predictions mean little.
    """
    if explained:
        return min(explained)
    solution, evaluation, output = fit.solution, fit.evaluation, run.output
    scores = solution.heldout_r2 if evaluation is None else evaluation.per_target
    known = np.array([j for j in among if np.isfinite(scores[j]) and len(solution.row(j)[0])], dtype=np.int64)
    for target in known[np.argsort(-scores[known], kind="stable")].tolist():
        if output.threshold is None or fit.predictions is None:
            return target
        outputs = fit.predictions.outputs[:, :, target]
        outputs = outputs[~np.isnan(outputs)].astype(np.float64)
        if not len(outputs) or output.wrong(outputs).mean() <= 0.5:
            return target
    return None


def _lead(found: Findings) -> Iterator[str]:
    """Say what the run computes, and how far it is."""
    run, fit, left_out = found.run, found.fitted, " and are left out" if found.failed else ""
    yield (
        f"{found.committed:,} models were trained on random subsets ({run.design.summary()})"
        + (f", and one linear model was fitted to each of {run.n:,} targets" if fit else "")
        + f". {words.count(found.failed, 'model')} failed{left_out}. The recorded output is the {run.meaning}."
    )
    if found.stopped:
        yield f"Training ended early: {found.stopped[-1]}."
    if found.partial:
        fitted = f" The newest fit uses {fit.record.rows:,} of them." if fit else ""
        yield (
            f"Partial: {found.committed:,} of {run.spec.models:,} models are committed.{fitted} All figures below "
            "change as more models arrive."
        )
    if fit and fit.record.chosen:
        yield f"Weights: {words.CHOSEN} {fit.record.chosen}."
    if found.looks is None:
        yield "Neither the store nor a data set shows the examples, so they are shown by number."
    if fit is None:
        share = found.committed / run.spec.models
        yield (
            f"No fit is finished yet, so there are no weights to show. {found.committed:,} of {run.spec.models:,} "
            f"models are committed ({share:.0%}). `datamodels fit` continues from there."
        )


def _figures(found: Findings) -> Iterator[tuple[str, str]]:
    run, evaluation = found.run, found.evaluation
    if evaluation:
        low, high = evaluation.interval
        ends = f"{words.fixed(low, 3)} to {words.fixed(high, 3)}"
        yield words.fixed(evaluation.lds, 3), f"LDS, {LEVEL:.0%} interval {ends}"
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


def _seconds(found: Findings) -> Iterator[tuple[str, float]]:
    if found.snapshot.pace is not None:
        yield "training, all trainers together", found.snapshot.pace * found.committed
    if found.fitted:
        yield "the newest fit", found.fitted.record.seconds


def quality(found: Findings, fit: FitFindings) -> models.QualityInfo:
    """Return the verdict on a fit, and what it rests on; or why its quality is not known."""
    evaluation, verdict = fit.evaluation, fit.verdict
    if evaluation is None or verdict is None:
        why = (
            "evaluate.subsets is 0 in the spec"
            if not found.run.spec.evaluate.subsets
            else "fewer than 3 of the unseen subsets have two trained models"
        )
        return models.QualityInfo(text=[f"Not measured: {why}."], word="", lds=None, scores=None, points=None)
    return models.QualityInfo(
        text=[verdict.text, _about(evaluation)],
        word=verdict.word,
        lds=number(evaluation.lds),
        scores=_histogram(evaluation.scores),
        points=_points(fit.predicted, fit.predictions),
    )


def _about(evaluation: Evaluation) -> str:
    """Say what an LDS is, and how far that of targets and of noise is from it."""
    tenth, middle = evaluation.quantiles((0.1, 0.5))
    limit = (
        ""  # the verdict says that outputs never vary
        if evaluation.constant == evaluation.targets
        else f" Training is random, which limits the LDS of any prediction to about {evaluation.best:.3f}: two halves "
        f"of {evaluation.mean_of} models correlate at {evaluation.ceiling_text}, the noise ceiling."
        if evaluation.ceiling < NOT_RANDOM
        else " The noise ceiling is 1: models on one subset do not differ, so noise does not limit the LDS."
    )
    corrected = (
        ""
        if evaluation.mean_of == evaluation.models
        else f" Both are corrected (Spearman and Brown) to what {evaluation.mean_of} models on each subset would give, "
        "by how well the models of a subset agree."
    )
    return (
        "The LDS says how well datamodels predict subsets that no fit has seen. For each target, it is Spearman's "
        f"correlation between the predictions for {evaluation.subsets} unseen subsets and the mean outputs of "
        f"{evaluation.models} models trained on each; the LDS is the average over {evaluation.targets:,} targets."
        f"{corrected} Half of the targets have a correlation above {words.fixed(middle, 2)}, and nine in ten above "
        f"{words.fixed(tenth, 2)}.{limit}"
    )


def _histogram(scores: np.ndarray) -> models.Histogram:
    """Count correlations in bins. Corrected ones above 1 count as 1."""
    low = min(0.5, float(np.floor(scores.min() * 10) / 10))
    counts, edges = np.histogram(np.minimum(scores, 1), bins=np.linspace(low, 1, round((1 - low) * BINS) + 1))
    return models.Histogram(edges=edges.round(6).tolist(), counts=counts.tolist())


def _points(output: Output, found: Predictions | None) -> models.PointsInfo | None:
    if found is None:
        return None
    drawn = agreement.points(found.predicted, found.outputs, counts=found.counts)
    within = output.within(drawn.predicted)
    return models.PointsInfo(
        target=drawn.target.tolist(),
        predicted=plain(rounded(within)),
        single=plain(rounded(drawn.single)),
        mean=plain(rounded(drawn.mean)),
    )


def curve(fit: FitFindings) -> models.CurveInfo:
    """Return the LDS of fewer models, and a forecast for more."""
    ahead = (
        "The dashed line forecasts the LDS of more models: 1/LDS² as a quadratic function of 1/models."
        if fit.ahead
        else "There are too few points to forecast the LDS of more models."
    )
    return models.CurveInfo(
        text=[f"LDS of fits that use only the first models, with its {LEVEL:.0%} interval. {ahead}"],
        measured=[(point.models, number(point.lds), *pair(point.interval)) for point in fit.curve],
        ahead=[(count, *span(estimate)) for count, estimate in fit.ahead],
    )


def span(found: Estimate) -> tuple[float | None, float | None, float | None]:
    value, low, high = plain(rounded(np.array([found.value, found.low, found.high])))
    return value, low, high


def fragile(found: Findings, fit: FitFindings) -> models.FragilityInfo:
    """Return how many targets are predicted to be wrong without their k most helpful columns; or why none can be."""
    if fit.fragility is not None:
        return fragility(found.run, fit.fragility)
    try:
        fit.predicted.judged()
        why = ""
    except InputError as error:
        why = f"Not measured: {error}."
    return models.FragilityInfo(text=[why], removed=[], share=[], interval=[])


def fragility(run: Run, found: Fragility) -> models.FragilityInfo:
    """Return how many targets are predicted to be wrong without their k most helpful columns."""
    counted, unit = found.fragile, run.design.unit
    if not counted.count:
        text = (
            f"Of {counted.of + counted.wrong:,} targets, {counted.wrong:,} are predicted to be wrong with the whole "
            f"pool. None of the others has a support of up to {words.count(counted.limit, unit)}: a set without which "
            "it is predicted to be wrong."
        )
        return models.FragilityInfo(text=[text], removed=[], share=[], interval=[])
    low, high = counted.interval
    text = (
        f"The support of a target is the smallest set of training {unit}s without which models are predicted to get "
        f"it wrong. Of {counted.of:,} targets that are predicted to be right, {counted.count / counted.of:.0%} have a "
        f"support of up to {words.count(counted.limit, unit)} ({LEVEL:.0%} interval {low:.0%} to {high:.0%}). The "
        f"median support has {words.count(round(found.median), unit)}, {found.median / run.design.columns:.1%} of the "
        f"pool. {counted.wrong:,} more targets are predicted to be wrong with the whole pool. "
        "`datamodels support RUN TARGET --verify 20` trains models to check a support."
    )
    return models.FragilityInfo(
        text=[text],
        removed=found.columns.tolist(),
        share=found.share.tolist(),
        interval=[pair(ends) for ends in found.interval.tolist()],
    )


def conflicts(found: Findings, against: Conflicts) -> models.ConflictsInfo:
    """Return the pairs of classes whose examples most surely harm targets of the other class."""
    sure = np.flatnonzero(against.sure)[:CONFLICTS]
    if not len(sure):
        text = f"Of {against.pairs} pairs of classes, none surely harms the other."
        return models.ConflictsInfo(text=[text], pairs=[])
    text = (
        "The effect of a class on a target is the sum of the weights of all its examples. The table shows the mean "
        f"effect on the targets of another class. It is surely {found.predicted.worse} 0, so that it makes their "
        f"{found.predicted.name} worse, for {int(against.sure.sum())} of {against.pairs} pairs; the surest "
        f"{len(sure)} are shown."
    )
    named = found.run.label_name
    pairs = [
        models.ConflictInfo(
            source=named(int(against.source[i])),
            target=named(int(against.target[i])),
            effect=against.effect[i],
            interval=pair(against.interval[i].tolist()),
            harmed=against.harmed[i],
        )
        for i in sure.tolist()
    ]
    return models.ConflictsInfo(text=[text], pairs=pairs)


def of_target(
    fit: int, found: Target, explanation: Explanation | None = None, dataset: Dataset | None = None
) -> models.TargetFindings:
    """Return what models said of a target, and what is predicted of it."""
    return models.TargetFindings(
        fit=fit,
        unseen=None if found.unseen is None else _unseen(found.unseen),
        removal=None if found.removal is None else _removal(found.removal),
        lime=None if explanation is None or dataset is None else _lime(explanation, dataset),
    )


def _unseen(found: UnseenOutputs) -> models.UnseenInfo:
    return models.UnseenInfo(
        predicted=plain(rounded(found.predicted)),
        means=plain(rounded(found.means)),
        models=found.models,
        mean=span(found.mean),
        wrong=None if found.wrong is None else span(found.wrong),
        score=None if found.score is None else span(found.score),
    )


def _removal(found: Removal) -> models.RemovalInfo:
    steps = np.unique(np.round(np.linspace(0, 1, STEPS) ** 2 * (len(found.mean) - 1)).astype(int))
    status = None if found.support is None else found.support.status
    sizes = {} if found.support is None else {WRONG: 0, FOUND: len(found.support.columns)}
    return models.RemovalInfo(
        removed=steps.tolist(),
        mean=plain(rounded(found.mean[steps])),
        error=plain(rounded(found.error[steps])),
        single=number(found.single),
        start=pair(found.start),
        support=status,
        size=sizes.get(status or ""),
        limit=found.limit,
    )


def _lime(explanation: Explanation, dataset: Dataset) -> models.LimeInfo:
    """Return the effects of the strongest parts of a target; of a picture, those of all parts, with their squares."""
    shape = dataset.image_shape
    shown = explanation.strongest if shape else explanation.strongest[:PARTS]
    spans = plain(rounded(np.column_stack([explanation.weights, explanation.interval])))
    squares: list[Any] | None = [tuple(lime.square_of(shape, part)) for part in shown] if shape else None
    return models.LimeInfo(
        parts=[(explanation.names[part], *spans[part]) for part in shown],
        squares=squares,
        aspect=shape[0] / shape[1] if shape else None,
        tokens=bool(len(dataset.token_names)),
        r2=number(explanation.r2),
        output=number(explanation.output),
        models=explanation.models,
        samples=explanation.samples,
    )
