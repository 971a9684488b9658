"""Judge pairs of a target and a training example: what of them is equal, and does chance explain how close they are?

Pool examples are no leaks of one another, so their distances show what chance does: texts made from one template, or
rows of a few categories, are close without any leak. For the relative distance s of a pair (`patterns.leakage`), the
number of targets that are expected to have an example as close as s is

    t * max(share of pool examples that have another one as close as s,  1 - (1 - s^D)^(K - 1))

The second term is for distances that are smaller than all in the pool. It is the probability for points that are spread
evenly in D dimensions, for distances relative to the K-th nearest example. D is estimated by maximum likelihood from
the 2nd to K-th nearest examples of pool examples (Levina and Bickel 2004).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from datamodels import words
from datamodels.run.dataset import Dataset
from datamodels.run.runs import Run
from datamodels.run.specs import FitSpec

TEXT, INPUT, FEATURES, NOTHING = "text", "input", "features", ""
"""What is equal in a pair: its texts, its inputs, or only what was compared."""
LEVEL = 0.05
"""A pair stands out if fewer targets than this are expected to be as close: a false alarm in one run of 20 at most."""


@dataclasses.dataclass(frozen=True, eq=False)
class Closeness:
    """What is equal in pairs, and how many targets are expected to be as close by chance.

    compared  what was compared, in words
    texts     whether texts were compared, too
    same      str[t, k], or [p] of chosen pairs: TEXT, INPUT, FEATURES or NOTHING
    distance  float64[t, k] or [p]; relative distances
    expected  float64[t, k] or [p]; number of targets that are expected to be as close
    verdict   one or more sentences about all pairs
    """

    compared: str
    texts: bool
    same: np.ndarray
    distance: np.ndarray
    expected: np.ndarray
    verdict: str = ""

    @property
    def said(self) -> list[str]:
        """Say what is equal in chosen pairs; empty if nothing is."""
        words = {TEXT: "equal texts", INPUT: "equal inputs", FEATURES: "equal as compared, other inputs", NOTHING: ""}
        words |= {name: "equal as compared, other texts" for name in (INPUT, FEATURES) if self.texts}
        return [words[same] for same in self.same.tolist()]

    def of(self, row: np.ndarray, place: np.ndarray) -> Closeness:
        """Return the closeness of chosen pairs, with the verdict on all pairs."""
        same, distance, expected = (part[row, place] for part in (self.same, self.distance, self.expected))
        return Closeness(self.compared, self.texts, same, distance, expected, _verdict(self))


def judge(
    run: Run,
    dataset: Dataset,
    compared: str,
    targets: np.ndarray,
    nearest: np.ndarray,
    relative: np.ndarray,
    among: np.ndarray,
) -> Closeness:
    """Judge all pairs of targets int[t] with examples int[t, k], whose relative distances are float64[t, k].

    compared  what was compared, in words
    among     float64[p, K]; relative distances of pool examples to their K nearest others
    """
    same = _same(run, dataset, targets, nearest, relative)
    return Closeness(compared, _has_texts(dataset), same, relative, expected(relative, among))


def compared(run: Run, dataset: Dataset, *, pictures: bool, shift: int) -> str:
    """Say in words what distances compare.

    pictures  whether inputs are compared as pictures
    shift     largest shift of a picture, in pixels
    """
    if pictures:
        return f"pictures, shifted by up to {words.count(shift, 'pixel')}, at any brightness and contrast"
    name = run.spec.fit.features
    flat = name == FitSpec().features
    what = "the numbers of each input" if flat else f"the features of {name}"
    return f"{what}, each standardised over the pool{', and texts' if _has_texts(dataset) else ''}"


def _same(run: Run, dataset: Dataset, targets: np.ndarray, nearest: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """Return str[t, k]: what is equal in the pairs of targets int[t] with examples int[t, k], float64[t, k] apart."""
    x, texts, texts_test = dataset.targets(run.spec.targets).x, dataset.texts, dataset.texts_test
    found = np.full(nearest.shape, NOTHING, dtype=object)
    for row, place in zip(*np.nonzero(relative == 0), strict=True):
        target, example = targets[row], nearest[row, place]
        if texts is not None and texts_test is not None and _plain(texts_test[target]) == _plain(texts[example]):
            found[row, place] = TEXT
        else:
            found[row, place] = INPUT if np.array_equal(x[target], dataset.x[example]) else FEATURES
    return found


def expected(relative: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return float64[t, k]: how many of t targets are expected to have an example as close as each of `relative`.

    among  float64[p, K]; relative distances of pool examples to their K nearest others; the last is 1, or 0 if all are
    """
    nearest = np.sort(among[:, 0])
    share = np.searchsorted(nearest, relative, side="right") / len(nearest)
    chance = 1 - (1 - np.minimum(relative, 1) ** _dimension(among)) ** (among.shape[1] - 1)
    return len(relative) * np.maximum(share, chance)


def _dimension(among: np.ndarray) -> float:
    """Estimate D from relative distances float64[p, K]; infinite if they say nothing.

    For points spread evenly in D dimensions, D k log(d_{k+1} / d_k) has an exponential distribution of mean 1.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(among[:, 2:] / among[:, 1:-1]) * np.arange(2, among.shape[1])
    logs = logs[np.isfinite(logs)]
    return float(1 / logs.mean()) if len(logs) and logs.mean() > 0 else np.inf


def _has_texts(dataset: Dataset) -> bool:
    return dataset.texts is not None and dataset.texts_test is not None


def _plain(text: str) -> str:
    """Return a text without differences of case and spaces."""
    return " ".join(str(text).split()).casefold()


def _verdict(found: Closeness) -> str:
    """Say what stands out in all pairs, in sentences."""
    t, (whole, other) = len(found.same), ("text", "another text") if found.texts else ("input", "other inputs")
    copies = (found.same == (TEXT if found.texts else INPUT)).any(axis=1)
    alike = (found.same != NOTHING).any(axis=1) & ~copies
    close = (found.expected < LEVEL).any(axis=1) & ~copies
    said = []
    if copies.any():
        chance = found.expected[found.same == INPUT].min() if not found.texts else 0.0
        known = f"; {chance:.2g} are expected, since pool examples equal one another as often"
        said.append(
            f"{copies.sum()} of {t} targets are copies of training examples: their {whole}s are equal"
            f"{known if chance >= LEVEL else ''}."
        )
    if close.any():
        said.append(
            f"{close.sum()} {'more ' if copies.any() else ''}of {t} targets are closer to a training example than "
            f"chance explains: fewer than {LEVEL:g} were expected to be as close."
        )
    if not said:
        nearest = np.unravel_index(found.distance.argmin(), found.distance.shape)
        said.append(
            f"Nothing stands out: the closest pair has distance {found.distance[nearest]:.2g}, and "
            f"{found.expected[nearest]:.2g} of {t} targets are expected to be as close by chance, as pool examples are "
            f"to one another. A pair stands out if fewer than {LEVEL:g} are expected."
        )
    if alike.any():
        count = words.count(int(alike.sum()), "target")
        said.append(f"For {count}, an example is equal as compared, but has {other}.")
    return " ".join(said)
