"""Find training examples whose label is probably wrong, by their weights.

`OWN` scores examples that are also targets (`targets: train` or `both`), by models that have not seen them. The
predicted output of an example without itself is low if such models disagree with its label.

`HARM` scores examples by their effect on other targets. An example with a wrong label moves the outputs of targets of
other labels, up or down, and helps targets of its own label little:

    score_c  =  sum over targets j of another label |theta_jc|  -  sum over targets j of the same label theta_jc

This form was chosen among eight on one planting of wrong labels. `benchmarks/analyses/planted.py` reports results on
others.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.errors import InputError, NotReadyError
from datamodels.fit.data.problem import Solution
from datamodels.run.dataset import NOT_IN_POOL
from datamodels.run.runs import Run

OWN = "own"
HARM = "harm"


@dataclasses.dataclass(frozen=True, eq=False)
class Suspects:
    """Examples, most suspect first.

    by       OWN or HARM
    example  int32[k]
    score    float64[k]; larger is more suspect. For OWN, the negative predicted output: if it is above 0, models that
             have not seen the example give it another label
    """

    by: str
    example: np.ndarray
    score: np.ndarray


def suspects(run: Run, solution: Solution, k: int, *, by: str = "") -> Suspects:
    """Return the k most suspect examples. The default of `by` is OWN if training examples are targets, else HARM.

    Raises InputError for k < 1, if there are no labels, if columns are groups of examples, and for OWN if no training
    example is a target with weights; NotReadyError if no target has weights.
    """
    if k < 1:
        raise InputError(f"k = {k}: must be at least 1")
    require_labels(run)
    by = by or (OWN if (run.own != NOT_IN_POOL).any() else HARM)
    if by not in (OWN, HARM):
        raise InputError(f"by = {by!r}: must be {OWN} or {HARM}")
    score = own(run, solution) if by == OWN else harm(run, solution)
    order = np.argsort(-score, kind="stable")[:k]
    order = order[np.isfinite(score[order])]
    return Suspects(by, order.astype(np.int32), score[order])


def require_labels(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of columns, int32[d], and of targets, int32[n].

    Raises InputError if columns have no labels of their own.
    """
    if run.labels is None or run.target_labels is None:
        raise InputError(f"run {run.name}: its examples have no class labels")
    if run.design.grouped:
        raise InputError(f"run {run.name}: its columns are groups of examples, which have no label of their own")
    return run.labels, run.target_labels


def own(run: Run, solution: Solution) -> np.ndarray:
    """Return float64[d]: the negative output predicted for each example by models without it; -inf if it has none."""
    fitted = np.flatnonzero((run.own != NOT_IN_POOL) & solution.modelled)
    if not len(fitted):
        raise InputError(f"run {run.name}: no training example is a target with weights; say targets: train or both")
    score = np.full(run.design.columns, -np.inf)
    # The weight of a target on itself is 0, so this is the mean over subsets without it.
    score[run.own[fitted]] = -(solution.intercept[fitted] + solution.theta[fitted] @ run.design.inclusion)
    return score


def harm(run: Run, solution: Solution) -> np.ndarray:
    """Return float64[d]: score_c of the module's docstring. Raises NotReadyError if no target has weights."""
    theta = solution.theta.tocoo()
    if not theta.nnz:
        raise NotReadyError(f"run {run.name}: no target has weights; more models are needed")
    labels, target_labels = require_labels(run)
    same = target_labels[theta.row] == labels[theta.col]
    effect = np.where(same, -theta.data, np.abs(theta.data)).astype(np.float64)
    return np.bincount(theta.col, effect, minlength=run.design.columns)
