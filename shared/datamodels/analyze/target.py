"""Describe one target: examples that help and harm it, outputs on unseen subsets, and predictions of removals.

If neither high nor low outputs are better, columns that raise the output take the place of helpful ones.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels.analyze.patterns import similar
from datamodels.analyze.patterns.similar import Neighbours
from datamodels.analyze.quality import interval
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.quality.interval import Estimate, Z
from datamodels.analyze.quality.noise import Noise
from datamodels.analyze.quality.rank import Ranks, spearman
from datamodels.analyze.quality.unseen import Predictions
from datamodels.analyze.what_if import support
from datamodels.analyze.what_if.counterfactual import before_interval, removal_errors
from datamodels.analyze.what_if.support import Support
from datamodels.fit.data import problem
from datamodels.fit.data.problem import Solution
from datamodels.outputs import Output
from datamodels.run.runs import Run

Weights = list[tuple[int, float]]
"""Columns with their weights."""

HELPFUL, HARMFUL, SIMILAR = 20, 10, 6
"""Columns and targets that are listed for a target."""


@dataclasses.dataclass(frozen=True, eq=False)
class Removal:
    """Predictions for a target as its most helpful columns are removed from the pool, one after the other.

    mean     float64[k + 1]; predicted mean output without the first 0, 1, ..., k columns
    error    float64[k + 1]; half the width of the interval of each at `interval.LEVEL`; NaN if unknown
    single   half the width of the interval of the output of one model around the mean; NaN if unknown
    start    interval of the mean output with nothing removed, of a pool larger than the subsets; NaN if unknown
    support  the smallest set without which models get the target wrong; None if the output has no threshold
    limit    most columns that a support may have
    """

    mean: np.ndarray
    error: np.ndarray
    single: float
    start: tuple[float, float]
    support: Support | None
    limit: int


@dataclasses.dataclass(frozen=True, eq=False)
class UnseenOutputs:
    """Outputs of models for a target, on the s unseen subsets that count for it.

    predicted  float64[s]; mean outputs that its datamodel predicts, none beyond the bounds of the output
    means      float64[s]; mean outputs of the models of each subset
    models     number of models
    mean       of `means`
    wrong      share of outputs that are wrong; None if the output has no threshold
    score      Spearman's correlation of `predicted` with `means`, corrected as the evaluation corrects it; None if the
               target is not scored
    """

    predicted: np.ndarray
    means: np.ndarray
    models: int
    mean: Estimate
    wrong: Estimate | None
    score: Estimate | None


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """One target of a fit.

    own       the training example that it is, or NOT_IN_POOL
    r2        explained variance on held-out models; NaN if unknown
    nonzeros  number of its weights
    helpful   the HELPFUL columns that improve the output most, strongest first
    harmful   the HARMFUL columns that worsen it most, strongest first
    similar   the targets with the most similar weights; None if it has no weights
    unseen    None if no unseen subset counts for it
    removal   None if it has no model
    """

    number: int
    own: int
    status: str
    r2: float
    nonzeros: int
    helpful: Weights
    harmful: Weights
    similar: Neighbours | None
    unseen: UnseenOutputs | None
    removal: Removal | None


def strongest_places(solution: Solution, target: int, k: int, output: Output) -> tuple[np.ndarray, np.ndarray]:
    """Return places of the weights of the k most helpful and the k most harmful columns of a target, strongest first.

    output  says whether a positive weight helps; if neither direction is better, "helpful" columns raise the output

    Both are int64, at most k long, and index `columns`, `weights` and `measured` of the solution. Raises
    TargetRangeError.
    """
    signed = output.sign * solution.row(target)[1]
    order = signed.argsort(kind="stable")
    first, last, start = order[:k], order[::-1][:k], solution.indptr[target]
    return start + last[signed[last] > 0], start + first[signed[first] < 0]


def strongest(solution: Solution, target: int, k: int, output: Output) -> tuple[Weights, Weights]:
    """Return the columns with their weights at `strongest_places`."""
    helpful, harmful = (
        list(zip(solution.columns[places].tolist(), solution.weights[places].tolist(), strict=True))
        for places in strongest_places(solution, target, k, output)
    )
    return helpful, harmful


class Targets:
    """All targets of a fit. Computes each target on access, because a report shows only some.

    run          with the settings of the fit in its spec
    rows         number of models that were fitted
    predictions  for unseen subsets; None if the run has none
    evaluation   of `predictions`; None if too few models of unseen subsets are trained
    """

    def __init__(
        self,
        run: Run,
        solution: Solution,
        *,
        rows: int,
        noise: Noise,
        predictions: Predictions | None,
        evaluation: Evaluation | None,
    ):
        self.run, self.solution, self._rows, self.noise = run, solution, rows, noise
        self.predictions, self.evaluation = predictions, evaluation
        self._theta = solution.theta

    def __len__(self) -> int:
        return self.solution.n

    def __getitem__(self, target: int) -> Target:
        """Compute a target. Raises TargetRangeError."""
        solution = self.solution
        helpful, harmful = strongest(solution, target, HELPFUL, self.run.predicted)
        nonzeros = len(solution.row(target)[0])
        return Target(
            number=target,
            own=int(self.run.own[target]),
            status=solution.status[target],
            r2=float(solution.heldout_r2[target]),
            nonzeros=nonzeros,
            helpful=helpful,
            harmful=harmful[:HARMFUL],
            similar=similar.targets(self._theta, target, k=SIMILAR) if nonzeros else None,
            unseen=self._unseen(target),
            removal=None if solution.status[target] in problem.UNFITTED else self._removal(target),
        )

    def _removal(self, target: int) -> Removal:
        run, noise, limit = self.run, self.noise, support.default_limit(self.run)
        columns, mean = support.removal(run, self.solution, target, limit)
        output = run.predicted
        return Removal(
            mean=mean,
            error=Z * removal_errors(run, noise, self._rows, target, columns, mean),
            single=float(Z * noise.deviation[target]),
            start=before_interval(run, self.solution, noise, target),
            support=None if output.threshold is None else support.shortest(target, columns, mean, output),
            limit=limit,
        )

    def _unseen(self, target: int) -> UnseenOutputs | None:
        if self.predictions is None:
            return None
        outputs, counts = self.predictions.outputs[:, :, target].astype(np.float64), self.predictions.counts
        trained = ~np.isnan(outputs)
        usable = trained.any(axis=1) & (True if counts is None else counts[:, target])
        if not usable.any():
            return None
        outputs, trained = outputs[usable], trained[usable]
        means, subsets = np.nanmean(outputs, axis=1), len(outputs)
        output = self.run.output
        wrong = None if output.threshold is None else float(output.wrong(outputs[trained]).mean())
        score = np.nan if self.evaluation is None else float(self.evaluation.per_target[target])
        return UnseenOutputs(
            predicted=self.run.predicted.within(self.predictions.predicted[usable, target]),
            means=means,
            models=int(trained.sum()),
            mean=Estimate(float(means.mean()), *output.within(np.array(interval.mean(means))).tolist()),
            # Models of one subset are correlated, so the interval assumes one model for each subset.
            wrong=None if wrong is None else Estimate(wrong, *interval.share(wrong * subsets, subsets)),
            score=score_of(score, self.predictions.predicted[usable, target], means) if np.isfinite(score) else None,
        )


def score_of(score: float, predicted: np.ndarray, means: np.ndarray) -> Estimate:
    """Return a target's score with its interval.

    The interval is that of the measured correlation, stretched as much as the score was by its correction: a score that
    was cut at 1 is not certain.
    """
    measured = float(spearman(Ranks(predicted[:, None]), Ranks(means[:, None]), np.ones(len(means), dtype=np.int64))[0])
    factor = max(1.0, score / measured) if measured else 1.0
    low, high = (min(1.0, max(-1.0, end * factor)) for end in interval.correlation(measured, len(means)))
    return Estimate(score, low, high)
