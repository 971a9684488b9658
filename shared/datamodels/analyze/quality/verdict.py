"""Judge LDS and SNR in words: what can be believed of the weights, and how many models a useful LDS takes.

The mean of a few noisy models cannot be predicted perfectly. LDS is divided by the best that noise allows
(`evaluate.best`), so that a verdict is about the weights and not about the evaluation.

The quotient r grows with the number of models m as r^2 = 1 / (1 + b / m) (`quality.trend`). From a measured r follows
b, and from b the m for another r. Before a run, the SNR gives b = columns (1 + SNR) / SNR: each model tells about all
columns at once, and SNR / (1 + SNR) of the variance of its outputs comes from them (Daetwyler et al. 2008). On the
digits, with 1,400 columns and an SNR of 3, this gives 0.46, 0.72 and 0.92 for 500, 2,000 and 10,000 models; `ridge` has
0.40, 0.71 and 0.90, and `lasso`, which finds the few columns that matter, 0.64, 0.85 and 0.92. So it is an estimate for
weights that are not sparse, and the LASSO needs no more.

All of this is for effects of examples that add up. If they make only a fraction a of the variance between subsets, as
`snr` measures it, weights explain no more than a, and the rest is noise: r^2 = a / (1 + b / m) with b = columns
(1 + SNR) / (a SNR). For 2,000 models of the trees of the example `lightgbm`, whose seed changes nothing, a is 0.40
(0.01 to 0.70, by 150 subsets) and r 0.52 (0.02 to 0.74), and the LASSO has 0.65; with a = 1 it would be 0.91.

No forecast includes a prior. It can be worth many models: for 240 models of the example `cnn`, the forecast is 0.21
(0.01 to 0.25), and the fit has 0.77 with a prior from inputs and gradients.

The thresholds are those at which the five most helpful examples of a target recur in a fit of other models. Pairs of
fits of disjoint models of the digits share, of these five,

    LDS      0.23   0.41   0.60   0.73   0.82   0.88   0.91
    shared    20%    28%    51%    67%    78%    84%    90%

These are fits by the LASSO. Fits by `prior` of 125, 500 and 2,000 models of the digits share 80%, 76% and 85% at 0.85,
0.87 and 0.91, and 74%, 78% and 86% are among the five of a LASSO of 8,000 other models. But fits by `prior` of 100 and
250 models of the example `lightgbm` share only 50% and 22% at 0.62 and 0.65: examples of a class help by about the same
amount (the 30th by 0.66 of the fifth; 0.32 on the digits), so chance decides which are the first five.
"""

from __future__ import annotations

import dataclasses
import math

from datamodels import words
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.run import precision
from datamodels.train.snr import Additive, SignalToNoise

NOTHING, WEAK, FAIR, GOOD = "nothing yet", "weak", "fair", "good"
LEAST, USEFUL, SURE = 0.2, 0.6, 0.8
"""LDS, relative to the best that noise allows, at which weights are at least weak, fair and good: a fifth, a half and
three quarters of the most helpful examples recur."""
FAR = 100
"""An LDS says how many models a useful one takes, up to this many times its own. From one nearer to 0 follow numbers of
millions, which change tenfold with its second digit."""
UNSEEN = " of the unseen subsets"

_RECUR = "of the five most helpful examples of a target,"
_ALIKE = "fewer if many help about equally"
_MEANING = {
    NOTHING: "the weights mean nothing yet",
    WEAK: f"{_RECUR} fewer than half would be found again with other models",
    FAIR: f"{_RECUR} half to three quarters would be found again with other models, {_ALIKE}",
    GOOD: f"{_RECUR} three quarters or more would be found again with other models, {_ALIKE}",
}
_RAISE = "raise the SNR (smooth outputs, regularisation), or group examples into fewer columns"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What an LDS or an SNR means.

    word   NOTHING, WEAK, FAIR or GOOD
    text   what that means for the weights, and what to do next
    lds    LDS relative to the best that noise allows: measured, or estimated from the SNR
    goal   the next threshold of `lds`: USEFUL, or SURE; None if there is none
    needed numbers of models, between which the goal is expected to be reached; the last may be infinite. None if there
           is no goal
    """

    word: str
    text: str
    lds: float
    goal: float | None
    needed: tuple[float, float] | None

    def __str__(self) -> str:
        return f"{self.word}: {self.text}"


def of_evaluation(evaluation: Evaluation, models: int) -> Verdict:
    """Judge the LDS of a fit of this many models."""
    best = evaluation.best
    value, low, high = (min(1.0, end / best) for end in (evaluation.lds, *evaluation.interval))
    constant, coarse, targets = evaluation.constant, evaluation.coarse, evaluation.targets
    if constant == targets:
        return Verdict(NOTHING, f"the weights mean nothing: {precision.same(targets, UNSEEN)}.", value, None, None)
    if evaluation.few:
        return Verdict(NOTHING, f"{evaluation.few}.", value, None, None)
    word = NOTHING if low <= 0 else _word(value)
    goal = _goal(word)
    stored = _stored(constant, coarse, targets)
    if goal is not None and 2 * (constant + coarse) >= targets:  # more models would not help
        return Verdict(word, f"{_MEANING[word]}. {stored}", value, None, None)
    if goal is None:
        text = f"{_MEANING[word]}. {_unsure(low, evaluation)}`counterfactual --verify` checks single claims. {stored}"
        return Verdict(word, text.rstrip(), value, None, None)
    many = _models_for(goal, _b(high, models)), _models_for(goal, _b(low, models))
    needed = _within(many[0], FAR * models), _within(many[1], FAR * models)
    chance = "" if low > 0 else ", as an LDS of 0 is within the interval" if high >= 0 else ", as the LDS is below 0"
    more = f"{_share(goal)} takes {_between(needed, models)}"
    other = f"; or {_RAISE}" if word in (NOTHING, WEAK) else ""
    text = f"{_MEANING[word]}{chance}. {_unsure(low, evaluation) if word == FAIR else ''}{more}{other}. {stored}"
    return Verdict(word, text.rstrip(), value, goal, needed)


def _unsure(low: float, evaluation: Evaluation) -> str:
    """Say that the interval of an LDS reaches from where weights mean nothing; empty if it does not."""
    if low >= LEAST:
        return ""
    return (
        f"But the interval of the LDS begins at {evaluation.interval[0]:.2f}, so this is not sure: more than "
        f"{words.count(evaluation.subsets, 'unseen subset')} (evaluate.subsets) would tell. "
    )


def _stored(constant: int, coarse: int, targets: int) -> str:
    """Say that outputs do not vary, or hardly more than the numbers that store them; empty if all do."""
    said = []
    if constant:
        said.append(f"The outputs of {constant:,} of {targets:,} targets are the same for each model{UNSEEN}.")
    if coarse:
        said.append(
            f"Rounding costs some of the LDS: the outputs of {coarse:,} of {targets:,} targets vary by fewer than ten "
            f"steps of the numbers that store them; {precision.RESCALE}."
        )
    return " ".join(said)


def of_snr(snr: SignalToNoise, columns: int, models: int, adds: Additive, prior: str = "") -> Verdict:
    """Judge an SNR before a run of this many models.

    columns  those that are not pinned
    adds     how far the effects of examples add up
    prior    what the fit expects weights from, such as "inputs"; empty if it uses outputs alone, as the forecast does
    """
    known = [
        _Trend.of(*pair, columns) for pair in zip((snr.ratio, *snr.interval), (adds.share, *adds.interval), strict=True)
    ]
    value, low, high = (trend.lds(models) for trend in known)
    word = _word(value)
    goal = _goal(word)
    span = f"{value:.2f}" if low == high else f"{value:.2f} ({low:.2f} to {high:.2f})"
    alone, besides = ("without a prior, ", _besides(prior)) if prior else ("", "")
    expected = f"{alone}{words.count(models, 'model')} give an LDS of about {span}"
    if goal is None:
        few = known[0].models_for(USEFUL)
        return Verdict(word, f"{expected}; {_rounded(few)} would give {USEFUL:g}.{besides}", value, None, None)
    needed = known[2].models_for(goal), known[1].models_for(goal)
    other = f"; or {_RAISE}" if word in (NOTHING, WEAK) else ""
    return Verdict(
        word,
        f"{expected}, so {_MEANING[word]}. {_share(goal)} takes {_between(needed, models)}{other}.{besides}",
        value,
        goal,
        needed,
    )


def _besides(prior: str) -> str:
    """Say that a forecast leaves out the prior, which no trial measures."""
    return (
        f" The fit also uses a prior from {prior}: if it says what examples do, fewer models are enough, often far "
        "fewer. `run` measures the LDS with it; a larger m then adds models and trains none again."
    )


def _word(lds: float) -> str:
    return GOOD if lds >= SURE else FAIR if lds >= USEFUL else WEAK if lds >= LEAST else NOTHING


def _goal(word: str) -> float | None:
    return {FAIR: SURE, GOOD: None}.get(word, USEFUL)


def _share(goal: float) -> str:
    return f"An LDS of {goal:g} of the best that noise allows"


def _b(lds: float, models: int) -> float:
    """Return b of r^2 = 1 / (1 + b / m); infinite if the LDS is not above 0."""
    return models * (1 / lds**2 - 1) if lds > 0 else math.inf


@dataclasses.dataclass(frozen=True)
class _Trend:
    """Forecasts r^2 = share / (1 + b / m) of m models: the best that adds up, less what few models cost."""

    share: float
    b: float

    @classmethod
    def of(cls, snr: float, share: float, columns: int) -> _Trend:
        signal = share * (1 - 1 / (1 + snr))
        return cls(share, columns / signal if signal > 0 else math.inf)

    def lds(self, models: int) -> float:
        return math.sqrt(self.share / (1 + self.b / models))

    def models_for(self, lds: float) -> float:
        return self.b / (self.share / lds**2 - 1) if self.share > lds**2 else math.inf


def _models_for(lds: float, b: float) -> float:
    return b / (1 / lds**2 - 1)


def _within(number: float, most: float) -> float:
    return number if number <= most else math.inf


def _between(needed: tuple[float, float], models: int) -> str:
    """Write how many models are needed, if so many were not enough."""
    low, high = needed
    if math.isinf(low):
        return "more models than can be said"
    least = f"more than {words.count(models, 'model')}"
    if math.isinf(high):
        return f"{_rounded(low)} models or more" if low > models else f"{least}; how many more cannot be said"
    if low <= models:
        return least if _rounded(high) == _rounded(models) else f"{least}, and about {_rounded(high)} at most"
    return (
        f"about {_rounded(low)} models"
        if _rounded(low) == _rounded(high)
        else f"about {_rounded(low)} to {_rounded(high)} models"
    )


def _rounded(models: float) -> str:
    """Write a number of models with two significant digits."""
    return f"{float(f'{models:.2g}'):,.0f}"
