"""Routes that ask what the weights of a fit predict: supports, counterfactuals, similar ones, suspects."""

from __future__ import annotations

from typing import Literal

import numpy as np
from fastapi import APIRouter

from datamodels.analyze.patterns import leakage, similar
from datamodels.analyze.what_if import mislabel as wrong_labels
from datamodels.analyze.what_if import pool
from datamodels.analyze.what_if.counterfactual import counterfactual
from datamodels.analyze.what_if.relabel import NO_LABEL, relabelling
from datamodels.analyze.what_if.support import support
from datamodels.errors import InputError
from datamodels.explore import answers, models, views
from datamodels.explore.opened import Explorer
from datamodels.run import designs

from .lists import Count, FitNumber


def questions_router(explorer: Explorer) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/runs/{run}/targets/{target}/support")
    def get_support(run: str, target: int, mislabel: bool = False, fit: FitNumber = None) -> models.SupportInfo:
        """Find the smallest set of examples without which, or with other labels of which, the target is wrong."""
        opened = explorer.fit(run, fit)
        its_run, solution, label = opened.fitted.run, opened.fitted.solution, None
        if mislabel:
            relabelled = relabelling(its_run, solution, target)
            found, label = relabelled.support, None if relabelled.label == NO_LABEL else relabelled.label
        else:
            found = support(its_run, solution, target)
        return models.SupportInfo(
            fit=opened.fitted.record.number,
            target=target,
            status=found.status,
            columns=found.columns.tolist(),
            curve=found.curve.tolist(),
            label=label,
            label_name=its_run.label_name(label),
        )

    @router.get("/runs/{run}/{kind}/{index}/similar")
    def get_similar(
        run: str,
        kind: Literal["targets", "columns"],
        index: int,
        k: Count = 10,
        metric: str = similar.METRICS[0],
        fit: FitNumber = None,
    ) -> models.Neighbours:
        """Find the targets, or the columns, with the most similar weights."""
        opened = explorer.fit(run, fit)
        return answers.alike(opened, views.looker(opened), kind, index, k, metric)

    @router.post("/runs/{run}/predict")
    def predict(run: str, asked: models.PredictRequest, fit: FitNumber = None) -> models.Prediction:
        """Predict the mean outputs of models trained on some columns."""
        fitted = explorer.fit(run, fit).fitted
        masks = designs.mask_of(_array(asked.columns), fitted.run.design.columns)[None]
        targets = fitted.targets(None if asked.targets is None else _array(asked.targets))
        found = fitted.predict(masks, None if asked.targets is None else targets)[0]
        return models.Prediction(fit=fitted.record.number, targets=targets.tolist(), predictions=found.tolist())

    @router.post("/runs/{run}/counterfactual")
    def ask_counterfactual(
        run: str, asked: models.CounterfactualRequest, fit: FitNumber = None
    ) -> models.Counterfactual:
        """Predict outputs if examples are removed from the training set, added to it or relabelled, with intervals."""
        fitted = explorer.fit(run, fit).fitted
        its_run, targets = fitted.run, fitted.targets(_array(asked.targets))
        base = pool.whole(its_run) if asked.base is None else pool.members_of(its_run, _array(asked.base), "base")
        base = base & ~pool.members_of(its_run, _array(asked.left_out), "left_out")
        found = counterfactual(
            its_run,
            fitted.solution,
            fitted.noise,
            fitted.record.rows,
            targets=targets,
            base=base,
            remove=_array(asked.remove),
            add=_array(asked.add),
            other_label=_array(asked.relabel),
        )
        changes = [
            models.Change(
                target=target,
                before=found.before[i],
                before_interval=views.pair(found.before_interval[i]),
                change=found.change[i],
                change_interval=views.pair(found.change_interval[i]),
                after=found.after[i],
                after_interval=views.pair(found.after_interval[i]),
            )
            for i, target in enumerate(targets.tolist())
        ]
        return models.Counterfactual(fit=fitted.record.number, changes=changes)

    @router.get("/runs/{run}/leakage")
    def leaks(run: str, k: Count = 20, fit: FitNumber = None) -> models.Leaks:
        """List pairs of a target and a column that may be the same, by weights."""
        fitted = explorer.fit(run, fit).fitted
        found = leakage.by_weights(fitted.run, fitted.solution, k)
        pairs = [models.Leak(target=t, column=c, share=s, weight=w, measured=part) for t, c, s, w, part in found.rows()]
        return models.Leaks(fit=fitted.record.number, leaks=pairs)

    @router.get("/runs/{run}/mislabel")
    def mislabelled(run: str, k: Count = 20, fit: FitNumber = None) -> models.Mislabel:
        """List training examples whose label is probably wrong."""
        fitted = explorer.fit(run, fit).fitted
        found = wrong_labels.suspects(fitted.run, fitted.solution, k)
        examples, scores = found.example.tolist(), found.score.tolist()
        return models.Mislabel(fit=fitted.record.number, by=found.by, examples=examples, scores=scores)

    return router


def _array(values: list[int]) -> np.ndarray:
    if any(not -(2**31) <= value < 2**31 for value in values):
        raise InputError("a number of a column or target is beyond 32 bits")
    return np.array(values, dtype=np.int32)
