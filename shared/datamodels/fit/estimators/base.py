"""Find the code of the estimators and solvers that `run.estimators` declares."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from datamodels.errors import SpecError
from datamodels.fit.contract.block import Solve
from datamodels.fit.data import examples, sums
from datamodels.fit.data.examples import Absent
from datamodels.fit.data.problem import Problem, fold_of
from datamodels.fit.data.sums import Sums
from datamodels.fit.lasso import gram
from datamodels.fit.lasso.base import Solver
from datamodels.fit.residual import folds
from datamodels.run.estimators import ESTIMATORS, GRAM, SOLVERS
from datamodels.run.runs import Run
from datamodels.run.specs import FitSpec
from datamodels.storage import ObjectStore

SINGLE = 4
"""Bytes of a float32. Grams of float64 exceed their memory at more columns than are kept in panels anyway."""


def solve_of(settings: FitSpec) -> Solve:
    """Return the function that fits blocks of targets with these settings."""
    return _named(ESTIMATORS[settings.estimator].solve)


def solver_of(settings: FitSpec) -> Solver:
    """Return the solver that `settings.solver` names; if the estimator uses none, the one for Grams, which it calls."""
    return _named(SOLVERS[settings.solver if ESTIMATORS[settings.estimator].solver else GRAM].entry)


@functools.cache
def _named(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def prior_of(run: Run, store: ObjectStore) -> Any:
    """Return what the estimator of a run knows beforehand of its weights, by the examples in the store; None for most.

    Returns Absent if it cannot be made and the fit does without it; see `examples.optional`. Otherwise raises
    SpecError, and NotReadyError as `examples.require` does.
    """
    module = ESTIMATORS[run.spec.fit.estimator].prior
    if module is None:
        return None
    given = examples.read(store, run)
    if isinstance(given, Absent):
        return given
    try:
        return importlib.import_module(module).of_run(run, given)
    except SpecError as error:
        if not examples.optional(run):
            raise
        return Absent(str(error))


def made_up_prior(settings: FitSpec, n: int, d: int) -> Any:
    """Return such a prior of n targets and d columns, to time fits; None for most estimators."""
    module = ESTIMATORS[settings.estimator].prior
    return importlib.import_module(module).made_up(n, d) if module else None


def folds_of_sums(settings: FitSpec) -> int:
    """Return the number of folds that the sums of a fit need."""
    return folds.FEWEST_FOLDS if ESTIMATORS[settings.estimator].folds else 0


def sums_of(given: Problem, settings: FitSpec) -> Sums | None:
    """Return the sums over all rows of a problem, made now, if a fit uses them; else None."""
    if not uses_sums(given, settings):
        return None
    made = Sums.empty(given.columns, given.n, folds_of_sums(settings))
    made.add(np.asarray(given.masks), np.asarray(given.outputs), given.heldout, fold=fold_of(given.pairs))
    return made


def uses_sums(given: Problem, settings: FitSpec) -> bool:
    """Return whether a fit uses sums over all rows, made beforehand: if that is faster, and they fit in memory."""
    if ESTIMATORS[settings.estimator].folds:
        return folds.uses_sums(given)
    by_gram = ESTIMATORS[settings.estimator].solver and solver_of(settings).grams
    in_panels = gram.in_panels(settings, given.columns, SINGLE)
    return bool(by_gram and (given.own_column < 0).any() and sums.fits(given.columns, given.n) and not in_panels)


def reads_rows(given: Problem, settings: FitSpec) -> bool:
    """Return whether a fit reads rows, even with such sums: targets that are training examples leave some out."""
    return not uses_sums(given, settings) or bool((given.own_column >= 0).any())
