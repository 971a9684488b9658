"""Describe pairs of targets and columns by influence functions of some of the run's own models.

The score of a pair is the influence of the column's examples on the target's output (`train.gradients.influence`),
averaged over the models that do not have the target in their subset.

The gradients of a model know a little of its outputs: on the digits, scores of 20 models predict these very models with
an error that is 2% smaller than for others. So the models of each fold of cross-validation have a mean of their own,
and what is judged on a fold is made from the others. Only `heldout_r2`, which chooses nothing, is not free of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

DTYPE = np.dtype("<f2")
"""Type in which scores are stored, over their scale. They are noisy in their second digit."""
LARGEST = 2.0**15
"""The largest stored score. Smaller ones keep three digits down to a billionth of it."""


@dataclasses.dataclass(frozen=True, eq=False)
class GradientScores:
    """Mean scores of the models of each fold.

    models  number of models
    scale   by which stored scores are multiplied
    blocks  arrays [folds, t, d] of consecutive targets; NaN in a fold for targets that all its models were trained on
    """

    models: int
    scale: float
    blocks: Sequence[np.ndarray]

    @property
    def name(self) -> str:
        return f"gradients of {self.models} {'model' if self.models == 1 else 'models'}"

    def of(self, targets: np.ndarray, without: int | None = None) -> np.ndarray:
        """Return the mean scores float32[t, d] of targets int64[t], 0 for those without any.

        without  a fold whose models do not count
        """
        ends = np.cumsum([block.shape[1] for block in self.blocks])
        block_of = np.searchsorted(ends, targets, side="right")
        found = np.zeros((len(targets), self.blocks[0].shape[2]), dtype=np.float32)
        for number in np.unique(block_of):
            block, here = self.blocks[number], block_of == number
            places = targets[here] - (ends[number] - block.shape[1])
            total = np.zeros((len(places), block.shape[2]), dtype=np.float32)
            count = np.zeros(len(places), dtype=np.float32)
            for fold in range(len(block)):
                if fold == without:
                    continue
                part = block[fold, places].astype(np.float32)
                known = ~np.isnan(part[:, 0])
                total[known] += part[known]
                count += known
            found[here] = total * (np.float32(self.scale) / np.maximum(count, 1))[:, None]
        return found
