"""Stand for the data set and the trainer that the specs of imported runs name, and that were not imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodels.errors import InputError
from datamodels.run.dataset import Dataset, Targets
from datamodels.spans import Span


def load(
    *,
    examples: int,
    targets: int,
    labels: Sequence[int] | None = None,
    target_labels: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    target_names: Sequence[str] | None = None,
    own: Sequence[int] | None = None,
    spans: Sequence[tuple[str, int, int]] = (),
) -> Dataset:
    """Return examples that have a number, perhaps a label and a name, and no inputs.

    examples, targets      how many
    labels, target_labels  class of each
    names, target_names    text to show for each
    own                    the training example that each target is, or is a part of, or -1
    spans                  (text, first, last) of each target of the run, if targets are parts of texts
    """
    return _Shown(
        x=np.zeros((examples, 0)),
        y=_labels(labels, examples),
        x_test=np.zeros((targets, 0)),
        y_test=_labels(target_labels, targets),
        texts=names,
        texts_test=target_names,
        own_test=own,
        shown=tuple(Span(*span) for span in spans),
    )


@dataclasses.dataclass(frozen=True)
class _Shown(Dataset):
    """A data set that knows of its texts only what people see of the targets."""

    shown: tuple[Span, ...] = ()

    def spans(self, kind: str) -> tuple[Span, ...]:
        return self.shown


def _labels(labels: Sequence[int] | None, count: int) -> np.ndarray:
    """Return int64[count], or an array without columns if there are none."""
    return np.zeros((count, 0)) if labels is None else np.array(labels, dtype=np.int64)


class Elsewhere:
    """Stands for the trainer of an imported run, which is not here. Raises InputError when it is made."""

    def __init__(self, dataset: Dataset, targets: Targets):
        raise InputError(
            "this needs models to be trained, and those of this run were trained elsewhere and imported; import again "
            "with --data and --trainer to name the data set and the class that trains its models"
        )

    def train(self, subset: np.ndarray, seed: int) -> Any:
        """Train nothing."""

    def outputs(self, model: Any) -> np.ndarray:
        """Return nothing."""
        return np.zeros(0)
