"""Make what the file of a report holds: the answers of the explorer, for a sample of the targets of a run.

`services/explorer/web/src/sample.ts` reads it. To keep it small, examples are in it once each, by number, and weights
are lists of numbers.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from datamodels.analyze.findings import SUSPECTED, Findings, FitFindings
from datamodels.analyze.patterns.results import Components
from datamodels.analyze.target import HARMFUL, HELPFUL
from datamodels.baselines.compare import Document
from datamodels.explore import answers, findings, models, queue, views
from datamodels.explore.facts import Facts
from datamodels.explore.findings import Explained
from datamodels.explore.opened import Opened
from datamodels.explore.views import Looker
from datamodels.fit.job.fits import FitRecord

BUDGET = 3_500_000
"""Bytes of all targets with the pictures that they need; those that do not fit are left out."""
MOST = 1000
"""Most targets, however small."""
TEXT = 400
"""Letters of a text that are shown, unless a span of it is the target."""
COLOURS = ("label_name", "predicted", "heldout_r2", "lds", "strongest", "nonzeros")
"""Fields that the map of targets is coloured by."""


def make(
    found: Findings,
    *,
    compared: list[Document] | None = None,
    explained: Explained | None = None,
    budget: int = BUDGET,
) -> dict[str, Any]:
    """Return the sample as JSON values: targets that LIME explains, and of the others as many as fit, at random.

    compared   results of other methods on the same run
    explained  explanations of some targets by LIME
    """
    examples = _Examples(found)
    sample: dict[str, Any] = {
        "run": _json(_run(found)),
        "progress": _json(_progress(found)),
        "targets": {},
        "tables": {"targets": {"fields": {}, "rows": []}, "columns": {"fields": {}, "rows": []}},
        "analyses": {},
        "values": {},
        "queue": {"suspects": [], "ranked": {}, "left_out": {}},
    }
    if found.fitted is not None:
        opened = Opened.of(found)
        sample["targets"] = _targets(found, found.fitted, opened, examples, explained or {}, budget)
        sample["queue"] = _queue(found, found.fitted, opened, examples)
        sample |= _groups(found, found.fitted, opened, examples)
        sample["tables"] = {
            "targets": _table(opened.target_facts, sorted(map(int, sample["targets"])), examples, "targets"),
            "columns": _table(opened.column_facts, sorted(examples.named["examples"]), examples, "examples"),
        }
    among = list(map(int, sample["targets"]))
    known = findings.of(found, compared=compared, explained=explained, among=among)
    return sample | {"findings": _json(known), "looks": examples.named}


class _Examples:
    """The looks of the examples that the sample names, each once. named: by role and number, as JSON values."""

    def __init__(self, found: Findings):
        self.look = Looker(found.run, found.looks, _embedded)
        self.named: dict[str, dict[int, dict[str, Any]]] = {"targets": {}, "examples": {}}

    def new(self, role: str, indices: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Return the looks of those of some examples that the sample does not name yet."""
        show = self.look.target if role == "targets" else self.look.column
        return {index: _small(show(index)) for index in indices if index not in self.named[role]}

    def name(self, role: str, indices: Iterable[int]) -> None:
        """Have some examples in the sample."""
        self.named[role] |= self.new(role, indices)


def _embedded(role: str, index: int, png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _small(look: models.LookInfo) -> dict[str, Any]:
    """Return a look without what it does not have, and without what its place in the sample says."""
    found = {
        k: v for k, v in look.model_dump(mode="json").items() if v not in (None, "") and k not in ("role", "index")
    }
    if look.text is not None and look.span is None and len(look.text) > TEXT:
        found["text"] = f"{look.text[:TEXT].rstrip()} …"
    if look.row is not None:
        found["row"] = _rounded(look.row)
    return found


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    """Round numbers to four digits; None if they are not finite."""
    return views.plain(views.rounded(np.array(values, dtype=np.float64)))


def _json(message: models.Model) -> dict[str, Any]:
    return message.model_dump(mode="json")


def _run(found: Findings) -> models.RunDetail:
    fits = [] if found.fitted is None else [_fit(found, found.fitted.record)]
    pictures = found.looks is not None and found.looks.pool(0).picture is not None
    return models.RunDetail(
        **views.run_fields(
            found.run,
            found.snapshot,
            found.stopped,
            fits=len(fits),
            quality=fits[-1].quality if fits else None,
            looks=found.looks is not None,
        ),
        pictures=pictures,
        spec={},  # the findings have it as YAML
        label_names=list(found.run.label_names),
        fit_list=fits,
        features=views.features(found.looks),
    )


def _fit(found: Findings, record: FitRecord) -> models.FitInfo:
    return views.fit(found.run, record, found.evaluation)


def _progress(found: Findings) -> models.ProgressInfo:
    fit, evaluation = found.fitted, found.evaluation
    return models.ProgressInfo(
        models=found.run.spec.models,
        committed=found.committed,
        failed=found.failed,
        stopped=list(map(str, found.stopped)),
        fits=0 if fit is None else 1,
        fitted=0 if fit is None else fit.record.rows,
        lds=None if evaluation is None else (evaluation.lds, *evaluation.interval),
        curve=[],
        training=views.training(found.snapshot.pace, found.committed, found.run.spec.models, bool(found.stopped)),
        rate=None,
        remaining=None,
        ended=fit is not None and not found.partial,
    )


def _targets(
    found: Findings, fit: FitFindings, opened: Opened, examples: _Examples, explained: Explained, budget: int
) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    used = 0
    drawn = np.random.default_rng(0).permutation(found.run.n)[:MOST].tolist()
    for target in dict.fromkeys([*explained, *drawn]):
        one = _target(found, fit, opened, examples.look, explained, target)
        columns = [column for column, *_ in (*one["helpful"], *one["harmful"])]
        new = {
            "examples": examples.new("examples", columns),
            "targets": examples.new("targets", [target, *(other for other, _ in one["similar"])]),
        }
        used += len(json.dumps([one, new]))
        if used > budget and chosen:
            break
        chosen[str(target)] = one
        for role, looks in new.items():
            examples.named[role] |= looks
    return chosen


def _target(
    found: Findings, fit: FitFindings, opened: Opened, look: Looker, explained: Explained, target: int
) -> dict[str, Any]:
    detail = answers.target(opened, look, target, HELPFUL)
    said = fit.targets[target]
    alike = [] if said.similar is None else zip(said.similar.index.tolist(), said.similar.score.tolist(), strict=True)
    more = findings.of_target(fit.record.number, said, explained.get(target), found.dataset)
    return {
        "helpful": list(map(_weight, detail.helpful)),
        "harmful": list(map(_weight, detail.harmful[:HARMFUL])),
        "interval": _rounded(detail.predicted_interval),
        "similar": [[other, *_rounded([score])] for other, score in alike],
        "findings": _json(more),
    }


def _weight(one: models.Weighted) -> list[Any]:
    return [one.index, *_rounded([one.weight, one.measured, *one.interval])]


def _table(facts: Facts, indices: list[int], examples: _Examples, role: str) -> dict[str, Any]:
    rows = []
    for row in map(facts.row, indices):
        row["title"] = examples.named[role][next(iter(row.values()))].get("title", "")
        rows.append([_rounded([value])[0] if isinstance(value, float) else value for value in row.values()])
    return {"fields": facts.texts, "rows": rows}


def _queue(found: Findings, fit: FitFindings, opened: Opened, examples: _Examples) -> dict[str, Any]:
    made = answers.queue(opened, examples.look, queue.of_findings(found, fit, SUSPECTED), {})
    for one in made.suspects:
        examples.name("targets" if one.look.role == "target" else "examples", [one.index])
        if one.other_look is not None:
            examples.name("examples", [one.other])
    looks: Any = {"look", "other_look", "verdict"}
    return made.model_dump(mode="json", exclude={"suspects": {"__all__": looks}})


def _groups(found: Findings, fit: FitFindings, opened: Opened, examples: _Examples) -> dict[str, Any]:
    """Return clusters, components and the map of the targets, and what the map is coloured by."""
    if fit.groups is None:
        return {}
    clusters, components = fit.groups.clusters, fit.groups.components
    labels = np.zeros(0, dtype=np.int32) if found.run.target_labels is None else found.run.target_labels
    shown = {
        "clusters": dataclasses.replace(clusters, eigenvalues=np.zeros(0), labels=labels),
        "components": dataclasses.replace(components, scores=np.zeros((0, 0))),
    }
    results = {name: views.plain(result) for name, result in shown.items()}
    if components.scores.shape[1] > 1:
        results["map"] = views.plain(views.drawn(components))
    ends = np.concatenate([components.high.ravel(), components.low.ravel()])
    examples.name("targets", _indices(clusters.central, ends))
    examples.name("examples", _indices(_features(components)))
    rows = opened.target_facts.rows
    return {
        "analyses": {
            name: {"fit": fit.record.number, "models": fit.record.rows, "partial": found.partial, "result": result}
            for name, result in results.items()
        },
        "values": {
            name: [_rounded([value])[0] if isinstance(value, float) else value for value in rows[name].to_pylist()]
            for name in COLOURS
        },
    }


def _features(components: Components) -> np.ndarray:
    return np.concatenate([components.high_feature.ravel(), components.low_feature.ravel()])


def _indices(*arrays: np.ndarray) -> list[int]:
    found = np.unique(np.concatenate([array.ravel() for array in arrays]))
    return found[found >= 0].tolist()
