"""Define what every solver takes and returns: a Problem, and a Solution with one linear model for each target.

For each target j a solver minimises, over theta in R^d and b in R,

    1/(2 m_j) * sum_{i in rows_j} (x_i . theta + b - y_ij)^2  +  lambda_j * ||theta||_1

where x_i in {0, 1}^d is the mask of row i, y_ij the output of its model on target j, and rows_j are the rows that count
for the target: those whose mask leaves it out, or all rows if it is no training example. m_j is their number. The
intercept b is not penalised. lambda_j is chosen per target on held-out rows (Ilyas et al. 2022, section 3), and then
the model is fitted to all of rows_j.

That is the LASSO. Other estimators of the same datamodel take the same Problem and return the same Solution: `ridge`
penalises lambda_j / 2 * ||theta||^2 instead, `weighted` penalises some columns less than others, and `difference` and
`influence` penalise nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodels.errors import InputError, MaskError, TargetRangeError
from datamodels.run import designs
from datamodels.run.dataset import NOT_IN_POOL
from datamodels.run.runs import Run

if TYPE_CHECKING:
    from scipy import sparse

COMPILED_FROM = 4
"""Masks from which compiled loops predict faster than products with one mask after another."""
COMPILED_SUMS = 2**26
"""Weights to add, for all masks and targets, from which it pays to load the compiled loops."""
OK = "ok"
CONSTANT = "constant"
"""The output never varies: no weights; the intercept is its value."""
NO_ROWS = "no_rows"
"""Too few rows are left to fit, or to choose lambda on: no weights. Train more models."""
NOT_FINITE = "not_finite"
"""An output is NaN or infinite: no weights."""
NOT_CONVERGED = "not_converged"
"""The gap is above the tolerance after max_epochs; the weights are the last ones. Raise max_epochs."""
NO_SIGNAL = "no_signal"
"""No column is correlated with the output in the rows to fit, because masks or outputs do not vary there. So lambda_max
is 0. No weights; the intercept is the mean."""

STATUSES = (OK, CONSTANT, NO_ROWS, NOT_FINITE, NOT_CONVERGED, NO_SIGNAL)
UNFITTED = (NO_ROWS, NOT_FINITE)
"""Statuses of targets that have no model at all."""

NO_COLUMN = -1
"""`Problem.own_column` of a target that is no training example."""
EIGHTHS = 8
"""Parts of a weight in which `Solution.measured` counts."""
FOLDS = 5
"""Parts of the rows in cross-validation. Fits to four fifths of them are close to the fit to all of them that the
choice is for."""


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Masks and outputs of models, to fit one linear model per target.

    masks       uint8[rows, ceil(d / 8)], packed as by `designs.pack`
    outputs     float16 or float32 [rows, n]
    columns     d
    center      float32[d]; subtracted from the masks for better conditioning: it changes no solution
    own_column  int32[n]; the column that the target itself is, or NO_COLUMN
    heldout     bool[rows]; the rows that lambda is chosen on
    order       int64[rows]; the order in which solvers read the rows, so that it does not matter how they are stored;
                None for the order in which they are
    stratum     int[d]; columns of the same number >= 0 share a fixed total in every mask, those of -1 never vary; None
                to put all columns that vary into one stratum
    prior       what the estimator knows beforehand of the weights, if it needs that: a `Prior` or `Pairs`
    threshold   for the estimator `influence`, which fits the fraction of models whose output is above it
    pair        int64[rows]; rows of the same number are held out together in cross-validation; None for every two in
                their order

    Masks and outputs may be memory-mapped. Raises InputError if the shapes do not fit each other.
    """

    masks: np.ndarray
    outputs: np.ndarray
    columns: int
    center: np.ndarray
    own_column: np.ndarray
    heldout: np.ndarray
    order: np.ndarray | None = None
    stratum: np.ndarray | None = None
    prior: Any = None
    threshold: float = 0.0
    pair: np.ndarray | None = None

    def __post_init__(self) -> None:
        rows, n = self.outputs.shape
        for name, shape in {
            "masks": (rows, (self.columns + 7) // 8),
            "center": (self.columns,),
            "own_column": (n,),
            "heldout": (rows,),
            "order": (rows,),
            "pair": (rows,),
        }.items():
            found = np.shape(getattr(self, name))
            if found != shape and getattr(self, name) is not None:
                raise InputError(
                    f"{name} has shape {found}: {rows} rows, {n} targets, {self.columns} columns take {shape}"
                )
        if self.stratum is not None and self.stratum.shape != (self.columns,):
            raise InputError(f"stratum has shape {self.stratum.shape}: {self.columns} columns take {(self.columns,)}")
        if n and not NO_COLUMN <= self.own_column.min() <= self.own_column.max() < self.columns:
            raise InputError(f"own_column: must be {NO_COLUMN} to {self.columns - 1}")

    @property
    def strata(self) -> np.ndarray:
        """int[d]: the stratum of each column, -1 of those that never vary."""
        return np.where((self.center > 0) & (self.center < 1), 0, -1) if self.stratum is None else self.stratum

    @property
    def pairs(self) -> np.ndarray:
        """int64[rows]: numbers of the pairs that rows belong to."""
        if self.pair is not None:
            return self.pair
        found = np.empty(self.rows, dtype=np.int64)
        found[np.arange(self.rows) if self.order is None else self.order] = np.arange(self.rows) // 2
        return found

    @property
    def rows(self) -> int:
        return len(self.masks)

    @property
    def n(self) -> int:
        """Number of targets."""
        return self.outputs.shape[1]


def of_run(run: Run, masks: np.ndarray, outputs: np.ndarray, model_index: np.ndarray) -> Problem:
    """Return the problem of a run; row i is model `model_index[i]`."""
    own = [NO_COLUMN if example == NOT_IN_POOL else run.design.column_of(int(example)) for example in run.own]
    return Problem(
        masks=masks,
        outputs=outputs,
        columns=run.design.columns,
        center=run.design.inclusion,
        own_column=np.array(own, dtype=np.int32),
        heldout=is_heldout(model_index, run.spec.fit.holdout),
        order=np.argsort(model_index),
        stratum=run.design.stratum,
        threshold=run.output.threshold or 0.0,
        pair=pair_of(model_index),
    )


def pair_of(model_index: np.ndarray) -> np.ndarray:
    """Return int64[rows]: the pair of each model. Pairs are held out together: in a complement design, one subset
    determines the other."""
    return np.asarray(model_index, dtype=np.int64) // 2


def fold_of(pair: np.ndarray) -> np.ndarray:
    """Return int64[rows]: the part of cross-validation in which each pair is held out."""
    return np.asarray(pair) % FOLDS


def is_heldout(model_index: np.ndarray, fraction: float) -> np.ndarray:
    """Return bool[rows]: which models lambda is chosen on.

    It depends on the index alone, so that it does not change when models are added.
    """
    pair = pair_of(model_index)
    return np.floor((pair + 1) * fraction) != np.floor(pair * fraction)


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """Fitted models: prediction j of a mask x is `intercept[j] + sum of weights[c] over columns c of row j in x`.

    d           columns of a mask
    status      list[str] of length n, each one of STATUSES
    lambda_     float64[n]; 0 if there are no weights to penalise (status constant, no_rows, not_finite), and for
                estimators that penalise none
    gap         float64[n]; duality gap over the objective at zero weights, see `gap` and `ridge`; 0 for estimators that
                take means, in which nothing converges
    heldout_r2  float64[n]; explained variance on held-out rows, 1 at best; NaN if the outputs there do not vary
    intercept   float64[n]
    indptr      int64[n + 1]; row j is columns[indptr[j]:indptr[j + 1]], ascending
    columns     int32[nnz]
    weights     float32[nnz]; on the raw 0/1 scale of membership
    choice      what an estimator has chosen for all targets together, as JSON values; None if it chooses nothing
    measured    int8[nnz]; how many eighths of each weight the outputs added to a prior mean, which is the rest; below 0
                if they have taken something from it. None if there is no prior, or an earlier version made the fit
    """

    d: int
    status: list[str]
    lambda_: np.ndarray
    gap: np.ndarray
    heldout_r2: np.ndarray
    intercept: np.ndarray
    indptr: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    choice: dict[str, Any] | None = None
    measured: np.ndarray | None = None

    @property
    def n(self) -> int:
        return len(self.status)

    @property
    def modelled(self) -> np.ndarray:
        """bool[n]: which targets have weights."""
        return modelled(self.status)

    @functools.cached_property
    def theta(self) -> sparse.csr_array:
        """The weights, float32[n, d], not copied."""
        from scipy import sparse  # takes a third of a second, which readers of records alone need not wait for

        # With indptr of another type than columns, SciPy would copy the columns as int64.
        small = len(self.columns) <= np.iinfo(np.int32).max
        indptr = self.indptr.astype(np.int32) if small else self.indptr
        return sparse.csr_array((self.weights, self.columns, indptr), shape=(self.n, self.d))

    @property
    def measured_parts(self) -> np.ndarray | None:
        """float32[nnz]: how much of each weight was measured, to a sixteenth of the weight. None as `measured`."""
        return None if self.measured is None else self.weights * (self.measured / np.float32(EIGHTHS))

    def row(self, target: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (columns int32[k], weights float32[k]) of a target. Raises TargetRangeError."""
        if not 0 <= target < self.n:
            raise TargetRangeError(f"target {target}: must be 0 to {self.n - 1}")
        span = slice(self.indptr[target], self.indptr[target + 1])
        return self.columns[span], self.weights[span]

    def measured_at(self, targets: np.ndarray, columns: np.ndarray) -> np.ndarray | None:
        """Return how much of the weights of pairs of a target int[p] and a column int[p] was measured, float64[p].

        The rest of each weight is its prior mean. It is exact to a sixteenth of the weight; 0 without a weight. None if
        `measured` is None. Raises TargetRangeError.
        """
        if self.measured is None:
            return None
        found = np.zeros(len(targets))
        for i, (target, column) in enumerate(zip(targets.tolist(), columns.tolist(), strict=True)):
            mine, weights = self.row(target)
            place = int(np.searchsorted(mine, column))
            if place < len(mine) and mine[place] == column:
                found[i] = weights[place] * float(self.measured[self.indptr[target] + place]) / EIGHTHS
        return found

    def measured_of(self, places: np.ndarray) -> np.ndarray | None:
        """Return how much of the weights[places] was measured, float32; see `measured_at`."""
        return None if self.measured is None else self.weights[places] * self.measured[places] / np.float32(EIGHTHS)

    def predict(self, members: np.ndarray) -> np.ndarray:
        """Return predictions float64[s, n] of all targets for masks bool[s, d], not packed. Raises MaskError."""
        members = np.asarray(members)
        if members.ndim != 2 or members.shape[1] != self.d:
            raise MaskError(
                f"masks have shape {members.shape}: must be (subsets, {self.d}), bool, one value per column"
            )
        return self.predict_packed(designs.pack(members.astype(bool)))

    def predict_packed(self, masks: np.ndarray, targets: np.ndarray | None = None) -> np.ndarray:
        """Return predictions float64[s, t] for packed masks uint8[s, ceil(d / 8)].

        targets  int[t], valid ones; all of them if None

        Raises MaskError.
        """
        designs.check_packed(masks, self.d)
        count = self.n if targets is None else len(targets)
        if len(masks) >= COMPILED_FROM and len(masks) * len(self.weights) * count >= COMPILED_SUMS * self.n:
            from datamodels.fit.kernels import membership

            chosen = np.arange(self.n) if targets is None else targets
            words = membership.words_of(masks, self.d)
            found = membership.sums(self.indptr, self.columns, self.weights, chosen, words, len(masks))
        else:
            theta = self.theta if targets is None else self.theta[targets]
            found = np.empty((len(masks), count))
            for row, mask in enumerate(masks):
                found[row] = theta @ designs.unpack(mask, self.d).astype(np.float32)
        return found + (self.intercept if targets is None else self.intercept[targets])

    def dense(self, targets: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return weight vectors float32[t, d] of some targets, with zeros filled in. Raises TargetRangeError."""
        theta = np.zeros((len(targets), self.d), dtype=np.float32)
        for i, target in enumerate(targets):
            columns, weights = self.row(int(target))
            theta[i, columns] = weights
        return theta


def modelled(status: Sequence[str]) -> np.ndarray:
    """Return bool[n]: which targets of these statuses have weights."""
    return ~np.isin(status, UNFITTED)


def of_dense(
    theta: np.ndarray,
    *,
    status: list[str],
    lambda_: np.ndarray,
    gap: np.ndarray,
    heldout_r2: np.ndarray,
    intercept: np.ndarray,
    measured: np.ndarray | None = None,
) -> Solution:
    """Return a Solution from weights [n, d]; zeros are left out.

    measured  [n, d]; what the outputs added to a prior mean of the weights; None if there is no prior
    """
    theta = np.asarray(theta, dtype=np.float32)
    row, column = np.nonzero(theta)
    return Solution(
        d=theta.shape[1],
        status=list(status),
        lambda_=np.asarray(lambda_, dtype=np.float64),
        gap=np.asarray(gap, dtype=np.float64),
        heldout_r2=np.asarray(heldout_r2, dtype=np.float64),
        intercept=np.asarray(intercept, dtype=np.float64),
        indptr=np.searchsorted(row, np.arange(len(theta) + 1)).astype(np.int64),
        columns=column.astype(np.int32),
        weights=theta[row, column],
        measured=None if measured is None else _eighths(measured[row, column], theta[row, column]),
    )


def _eighths(parts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return int8[nnz]: parts of weights, to an eighth of each weight. Parts of more than 16 weights are cut there."""
    most = np.iinfo(np.int8).max
    return np.clip(np.rint(EIGHTHS * parts / weights), -most, most).astype(np.int8)


def concatenate(solutions: Iterable[Solution]) -> Solution:
    """Return one Solution of consecutive blocks of targets. Raises InputError if there are none."""
    blocks = list(solutions)
    if not blocks:
        raise InputError("no blocks to concatenate: a fit has at least one target")
    counts = np.concatenate([np.diff(block.indptr) for block in blocks])
    joined = {
        name: np.concatenate([getattr(block, name) for block in blocks])
        for name in ("lambda_", "gap", "heldout_r2", "intercept", "columns", "weights")
    }
    return Solution(
        d=blocks[0].d,
        status=[status for block in blocks for status in block.status],
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        choice=blocks[0].choice,
        measured=_measured(blocks),
        **joined,
    )


def _measured(blocks: Sequence[Solution]) -> np.ndarray | None:
    """Return `Solution.measured` of consecutive blocks of a fit; with a prior, only blocks without weights lack it."""
    if all(block.measured is None for block in blocks):
        return None
    parts = [np.zeros(len(b.weights), dtype=np.int8) if b.measured is None else b.measured for b in blocks]
    return np.concatenate(parts)


def rows_of(solution: Solution, first: int, last: int) -> Solution:
    """Return the targets first <= j < last of a Solution."""
    start, stop = solution.indptr[first], solution.indptr[last]
    return Solution(
        d=solution.d,
        status=solution.status[first:last],
        lambda_=solution.lambda_[first:last],
        gap=solution.gap[first:last],
        heldout_r2=solution.heldout_r2[first:last],
        intercept=solution.intercept[first:last],
        indptr=solution.indptr[first : last + 1] - start,
        columns=solution.columns[start:stop],
        weights=solution.weights[start:stop],
        choice=solution.choice,
        measured=None if solution.measured is None else solution.measured[start:stop],
    )
