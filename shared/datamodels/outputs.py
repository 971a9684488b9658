"""Outputs: what the one number that is recorded of a model on a target means.

A trainer declares it, and a spec may override it. All words about weights follow from it: whether an example that
raises an output helps its target, and when a model gets a target wrong.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from datamodels.errors import InputError, SpecError
from datamodels.screen import plain

LONGEST = 60
"""Longest name and unit, in letters: they stand on axes and in tables."""
ROUNDING = 1e-3
"""Outputs may be beyond a bound by this times 1 more than the largest output: a loss of 0 rounds to -1e-8."""
DECLARE = "declare it as `output` in the spec, on the trainer's class or by `datamodels import --output`"


@dataclasses.dataclass(frozen=True)
class Output:
    """The meaning of an output.

    name              what it is, for texts and axes: "margin", "squared error"
    unit              its unit; empty if it has none
    higher_is_better  False if lower is better, as for a loss; None if neither is better, as for a raw prediction
    threshold         models whose output is worse than this get the target wrong; None if no output is wrong
    lowest, highest   no output can be below or above these, as no squared error is below 0; None if there is no bound.
                      Predictions and intervals end there

    Raises SpecError for values that do not fit each other.
    """

    name: str
    unit: str = ""
    higher_is_better: bool | None = None
    threshold: float | None = None
    lowest: float | None = None
    highest: float | None = None

    def __post_init__(self) -> None:
        faults = []
        for field, least in (("name", 1), ("unit", 0)):
            text = getattr(self, field)
            if not isinstance(text, str) or not least <= len(text) <= LONGEST or not text.isprintable():
                faults.append(f"output.{field} = {text!r}: must be one line of {least} to {LONGEST} letters")
        if not (self.higher_is_better is None or isinstance(self.higher_is_better, bool)):
            faults.append(f"output.higher_is_better = {self.higher_is_better!r}: must be true, false or null")
        for field in ("threshold", "lowest", "highest"):
            value = getattr(self, field)
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if value is not None and not number:
                faults.append(f"output.{field} = {value!r}: must be a finite number or null")
        if self.threshold is not None and self.higher_is_better is None:
            faults.append(
                f"output.threshold = {self.threshold!r}: needs output.higher_is_better, to say which side is wrong"
            )
        low, high = self.lowest, self.highest
        if not faults and low is not None and high is not None and low >= high:
            faults.append(f"output.lowest = {self.lowest!r}: must be below output.highest = {self.highest!r}")
        if faults:
            raise SpecError(faults)

    @property
    def sign(self) -> int:
        """1, or -1 if lower is better: a weight times it is how much a column improves the output.

        1 too if neither is better: then it is how much a column raises the output.
        """
        return -1 if self.higher_is_better is False else 1

    @property
    def directed(self) -> bool:
        """Whether higher or lower is better."""
        return self.higher_is_better is not None

    @property
    def effects(self) -> tuple[str, str]:
        """What a column is called whose weight times `sign` is positive, and negative."""
        return ("helpful", "harmful") if self.directed else ("raising", "lowering")

    @property
    def verbs(self) -> tuple[str, str]:
        """What such columns do."""
        return ("help", "harm") if self.directed else ("raise", "lower")

    @property
    def worse(self) -> str:
        """Where outputs are wrong: "below" or "above" the threshold."""
        return "above" if self.higher_is_better is False else "below"

    @property
    def title(self) -> str:
        """The name, with the unit in parentheses if there is one."""
        return plain(f"{self.name} ({self.unit})" if self.unit else self.name)

    @property
    def bounded(self) -> bool:
        """Whether there are outputs that a model cannot have."""
        return self.lowest is not None or self.highest is not None

    def within(self, values: np.ndarray) -> np.ndarray:
        """Return predictions, or ends of intervals, float[...], with those that no output can have at the bound."""
        if not self.bounded:
            return values
        return np.clip(values, self.lowest, self.highest)

    def beyond(self, values: np.ndarray) -> str:
        """Return how many outputs, float[...], are beyond a bound, and what to do; "" if none is, but for rounding."""
        if not self.bounded:
            return ""
        usable = values[np.isfinite(values)].astype(np.float64)
        far = np.abs(self.within(usable) - usable)
        outside = int(np.count_nonzero(far > ROUNDING * (1 + np.abs(usable).max(initial=0))))
        low, high = ("any" if end is None else f"{end:g}" for end in (self.lowest, self.highest))
        found = f"{outside:,} of {values.size:,} outputs are beyond what is declared, lowest {low} and highest {high}"
        return f"{found}; correct the outputs or the declaration" if outside else ""

    def wrong(self, values: np.ndarray) -> np.ndarray:
        """Return bool[...]: which outputs are on the wrong side of the threshold. Raises InputError as `judged`."""
        threshold = self._threshold
        return values < threshold if self.sign > 0 else values > threshold

    def right(self, values: np.ndarray) -> np.ndarray:
        """Return bool[...]: which outputs are on the right side; those at the threshold are on neither."""
        threshold = self._threshold
        return values > threshold if self.sign > 0 else values < threshold

    @property
    def _threshold(self) -> float:
        threshold = self.judged().threshold
        assert threshold is not None
        return threshold

    def judged(self, threshold: float | None = None) -> Output:
        """Return this output with a threshold: the given one, else its own.

        Raises InputError if it has none, if neither direction is better, and for a threshold that is not finite.
        """
        if not self.directed:
            raise InputError(
                f"the output {self.name!r} is neither better high nor low, so no model gets a target wrong; if it is, "
                f"{DECLARE}, with higher_is_better and threshold"
            )
        if threshold is None:
            threshold = self.threshold
        if threshold is None:
            raise InputError(
                f"the output {self.name!r} has no threshold, past which a model gets a target wrong; give one with "
                f"--threshold, or {DECLARE}"
            )
        if not math.isfinite(threshold):
            raise InputError(f"threshold = {threshold}: must be a number")
        return dataclasses.replace(self, threshold=float(threshold))

    def __str__(self) -> str:
        direction = {True: "higher is better", False: "lower is better", None: "neither high nor low is better"}
        wrong = "" if self.threshold is None else f", wrong {self.worse} {self.threshold:g}"
        return f"{self.title}: {direction[self.higher_is_better]}{wrong}"

    def document(self) -> dict[str, Any]:
        """Return the output as JSON values; `from_document` reads them back."""
        return dataclasses.asdict(self)


def from_document(document: dict[str, Any]) -> Output:
    """Return the output that `Output.document` described. Raises SpecError; TypeError for unknown fields.

    Versions up to 0.2.0 wrote no bounds; a known output gets its own.
    """
    output = Output(**document)
    if "lowest" in document:
        return output
    return next(
        (one for one in KNOWN.values() if dataclasses.replace(one, lowest=None, highest=None) == output), output
    )


MARGIN = Output("margin", higher_is_better=True, threshold=0.0)
LOSS = Output("loss", unit="nats", higher_is_better=False, lowest=0.0)
SQUARED_ERROR = Output("squared error", higher_is_better=False, lowest=0.0)
LOG_LIKELIHOOD = Output("log-likelihood", unit="nats", higher_is_better=True, highest=0.0)
PREDICTION = Output("prediction")
PINBALL = Output("pinball loss", higher_is_better=False, lowest=0.0)
KNOWN = {
    "margin": MARGIN,
    "loss": LOSS,
    "squared_error": SQUARED_ERROR,
    "prediction": PREDICTION,
    "log_likelihood": LOG_LIKELIHOOD,
    "pinball": PINBALL,
}
"""The outputs that built-in trainers record, by their names in `trainer.options.output`."""


def assumed(options: dict[str, Any], *, classes: bool) -> Output:
    """Return what the outputs of a run are taken for if nobody declares it.

    options  those of the trainer: its option `output`, if it is a text, names the output
    classes  whether labels are classes; then outputs are taken for margins
    """
    name = options.get("output")
    if not isinstance(name, str):
        return MARGIN if classes else Output("output")
    try:
        return KNOWN.get(name) or Output(name.replace("_", " "))
    except SpecError:
        return Output("output")


def of_shares(output: Output) -> Output:
    """Return what predictions of the estimator `influence` are: the fraction of models past the threshold of `output`.

    Its weights say how much an example raises the fraction of models whose output is above the threshold. So they have
    the direction of the output.
    """
    right = output.sign > 0
    name = f"fraction of models that are {'right' if right else 'wrong'}"
    return Output(name, higher_is_better=right, threshold=0.5, lowest=0.0, highest=1.0)
