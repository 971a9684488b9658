"""Find training examples whose label is probably wrong, by their weights.

`OWN` scores examples that are also targets (`targets: train` or `both`), by models that have not seen them. The
predicted output of an example without itself is bad if such models disagree with its label.

`HARM` scores examples by their effect on other targets. An example with a wrong label moves the outputs of targets of
other labels, up or down, and helps targets of its own label little:

    score_c  =  sum over targets j of another label |theta_jc|  -  sum over targets j of the same label s theta_jc

Here s is 1 if higher outputs are better, and -1 if lower ones are. This form was chosen among eight on one planting of
wrong labels. `benchmarks/analyses/planted.py` reports results on others.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.errors import InputError, NotReadyError
from datamodels.fit.data.problem import Solution
from datamodels.outputs import DECLARE
from datamodels.run.dataset import NOT_IN_POOL
from datamodels.run.runs import Run

OWN = "own"
HARM = "harm"


@dataclasses.dataclass(frozen=True, eq=False)
class Suspects:
    """Examples, most suspect first.

    by       OWN or HARM
    example  int32[k]
    score    float64[k]; larger is more suspect. For OWN, how much worse the predicted output is than the threshold of
             the output: if the score is above 0, models that have not seen the example get it wrong. For an output
             without a threshold, how much worse it is than 0
    """

    by: str
    example: np.ndarray
    score: np.ndarray


def suspects(run: Run, solution: Solution, k: int, *, by: str = "") -> Suspects:
    """Return the k most suspect examples. The default of `by` is OWN if training examples are targets, else HARM.

    Raises InputError for k < 1, if there are no labels, if columns are groups of examples, if neither direction of the
    output is better, and for OWN if no training example is a target with weights; NotReadyError if no target has
    weights.
    """
    if k < 1:
        raise InputError(f"k = {k}: must be at least 1")
    require_labels(run)
    if not run.predicted.directed:
        raise InputError(
            f"run {run.name}: its output {run.output.name!r} is neither better high nor low, so it tells no wrong "
            f"labels; if it is, {DECLARE}, with higher_is_better"
        )
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
    """Return float64[d]: how much worse the output predicted for each example by models without it is than the
    threshold, or than 0 if there is none; -inf if the example has no prediction."""
    fitted = np.flatnonzero((run.own != NOT_IN_POOL) & solution.modelled)
    if not len(fitted):
        raise InputError(f"run {run.name}: no training example is a target with weights; say targets: train or both")
    score = np.full(run.design.columns, -np.inf)
    # The weight of a target on itself is 0, so this is the mean over subsets without it.
    predicted = solution.intercept[fitted] + solution.theta[fitted] @ run.design.inclusion
    score[run.own[fitted]] = run.predicted.sign * ((run.predicted.threshold or 0.0) - predicted)
    return score


def harm(run: Run, solution: Solution) -> np.ndarray:
    """Return float64[d]: score_c of the module's docstring. Raises NotReadyError if no target has weights."""
    theta = solution.theta.tocoo()
    if not theta.nnz:
        raise NotReadyError(f"run {run.name}: no target has weights; more models are needed")
    labels, target_labels = require_labels(run)
    same = target_labels[theta.row] == labels[theta.col]
    effect = np.where(same, -run.predicted.sign * theta.data, np.abs(theta.data)).astype(np.float64)
    return np.bincount(theta.col, effect, minlength=run.design.columns)
