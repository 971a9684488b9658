"""What a run came to, as one HTML page that needs nothing else."""

from __future__ import annotations

import html as markup
import string
from importlib import resources

import numpy as np

from datamodels.analyze.evaluate import LEVEL, Evaluation
from datamodels.pipeline import Journey
from datamodels.report import learning, picture, summary
from datamodels.v1 import query_pb2


def html(journey: Journey) -> str:
    """The page, as HTML. `journey.influences` are the targets it shows."""
    run, template = journey.run, resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return string.Template(template).substitute(
        run=markup.escape(run.name),
        sentence=markup.escape(
            f"{journey.committed:,} models were trained on random subsets ({run.design.summary()}), and one sparse "
            f"linear model was fitted to each of {run.n:,} targets."
        ),
        cards="".join(_card(value, what) for value, what in _cards(journey)),
        quality=_quality(journey.evaluation) if journey.evaluation else "",
        curve=_curve(journey) if journey.curve else "",
        stages=_bars(journey.seconds),
        output=markup.escape(str(run.spec.trainer.options.get("output", "margin"))),
        targets="".join(_target(journey, answer) for answer in journey.influences),
        footer=markup.escape(_footer(journey)),
    )


def _cards(journey: Journey):
    evaluation = journey.evaluation
    yield f"{journey.committed:,}", "models"
    if journey.stopped:
        yield f"{journey.run.spec.models - journey.committed:,}", "models saved by the rule until"
    if journey.trained:
        yield f"{summary.rate(journey):,.0f}", "models per second"
    if evaluation:
        low, high = evaluation.interval
        yield f"{evaluation.lds:.3f}", f"LDS, {LEVEL:.0%} interval {low:.3f} to {high:.3f}"
        yield f"{evaluation.ceiling:.3f}", f"noise ceiling, between halves of {evaluation.models} models"
    yield f"{journey.run.n:,}", "targets"
    yield f"{journey.run.design.columns:,}", "training columns"


def _card(value: str, what: str) -> str:
    return f'<div class="card"><b>{markup.escape(value)}</b><span>{markup.escape(what)}</span></div>'


def _quality(evaluation: Evaluation) -> str:
    return (
        "<h2>How good are the predictions?</h2><p>For each target: Spearman's correlation between what its datamodel "
        f"predicts for {evaluation.subsets} subsets that it has never seen, and the mean of {evaluation.models} models "
        'really trained on each. The average over targets is the LDS.</p><div class="panel">'
        f"{_histogram(evaluation.per_target[~np.isnan(evaluation.per_target)], evaluation.lds)}</div>"
    )


def _curve(journey: Journey) -> str:
    return (
        "<h2>How good would they be with fewer models, or with more?</h2><p>LDS of fits of the first models "
        f"alone, with its {LEVEL:.0%} interval. The dashed line is where the points lead: "
        "1/LDS² against 1/models, to second order.</p>"
        f'<div class="panel">{learning.svg(journey.curve)}</div>'
    )


def _histogram(values: np.ndarray, mean: float) -> str:
    low = min(0.0, float(np.floor(values.min() * 10) / 10))
    counts, edges = np.histogram(values, bins=np.linspace(low, 1, round((1 - low) * 40) + 1))
    width, height, top = 1000, 200, max(1, counts.max())

    def x(value: float) -> float:
        return (value - low) / (1 - low) * width

    bars = "".join(
        f'<rect x="{x(left) + 1:.1f}" y="{height - height * count / top:.1f}" width="{x(right) - x(left) - 2:.1f}" '
        f'height="{height * count / top:.1f}" fill="#2f5fb3"><title>{count} targets, {left:.3f} to {right:.3f}</title>'
        "</rect>"
        for count, left, right in zip(counts, edges, edges[1:], strict=False)
    )
    ticks = "".join(
        f'<text x="{x(tick):.1f}" y="{height + 18}" text-anchor="middle">{tick:.1f}</text>'
        for tick in np.arange(low + 0.1, 0.95, 0.1)
    )
    line = f'<line x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="-8" y2="{height}" stroke="#b3372c" stroke-width="2"/>'
    label = f'<text x="{x(mean) - 6:.1f}" y="4" text-anchor="end">LDS {mean:.3f}</text>'
    return (
        f'<svg viewBox="0 -12 {width} {height + 36}" role="img" aria-label="Correlation by target">{bars}{line}{label}'
        f"{ticks}</svg>"
    )


def _bars(seconds: dict[str, float]) -> str:
    longest = max(seconds.values(), default=1.0) or 1.0
    rows = "".join(
        f'<text x="0" y="{24 * i + 16}">{markup.escape(stage)}</text><rect x="90" y="{24 * i + 4}" '
        f'width="{max(1.0, 800 * value / longest):.1f}" height="16" fill="#2f5fb3"/>'
        f'<text x="{98 + 800 * value / longest:.1f}" y="{24 * i + 16}">{value:.1f} s</text>'
        for i, (stage, value) in enumerate(seconds.items())
    )
    return f'<svg viewBox="0 0 1000 {24 * len(seconds)}" role="img" aria-label="Seconds per stage">{rows}</svg>'


def _target(journey: Journey, answer: query_pb2.TopInfluencesResponse) -> str:
    target, targets = answer.target, journey.dataset.targets(journey.run.spec.targets)
    own = _figure(
        picture.data_uri(journey.dataset, targets.x[target.target]),
        f"target {target.target}",
        summary.name_of(journey, target.label),
        "own",
    )
    rows = "".join(
        f'<div class="row"><em>{kind}</em>{"".join(_influence(journey, i, kind) for i in influences) or "none"}</div>'
        for kind, influences in (("helpful", answer.helpful), ("harmful", answer.harmful))
    )
    return f'<section class="target">{own}<div>{rows}</div></section>'


def _influence(journey: Journey, influence: query_pb2.Influence, kind: str) -> str:
    grouped = journey.run.design.kind == "grouped"
    image = None if grouped else picture.data_uri(journey.dataset, journey.dataset.x[influence.column])
    label = summary.name_of(journey, influence.label)
    name = f"group {influence.column}" if grouped else f"{label} (#{influence.column})".strip()
    return _figure(image, f"{influence.weight:+.3f}", name, kind)


def _figure(image: str | None, title: str, caption: str, kind: str) -> str:
    shown = f'<img src="{image}" alt="">' if image else '<div class="blank"></div>'
    caption = markup.escape(caption)
    return f'<figure class="{kind}">{shown}<b>{markup.escape(title)}</b><span>{caption}</span></figure>'


def _footer(journey: Journey) -> str:
    spec = journey.run.spec
    return (
        f"Spec {spec.hash[:12]}, alpha {spec.alpha}, m {spec.m:,}, seed {spec.seed}, trainer {spec.trainer.cls}, "
        f"solver {spec.fit.solver}, fit {journey.fit}. {journey.failed} models failed."
    )
