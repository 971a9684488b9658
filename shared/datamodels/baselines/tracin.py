"""TracIn (Pruthi et al. 2020, arXiv:2002.08484, TracInCP in section 3.3): steps towards an example, at checkpoints.

A step of rate r on the loss of example i lowers the loss of target j by r grad loss_j . grad loss_i, to first order.
The gradients are of all weights; the sum is over checkpoints, one an epoch, and the mean over models. With the target's
output in place of its loss, as in the other baselines, LDS on the digits is a little lower (.42 against .45).
"""

from __future__ import annotations

import numpy as np

from datamodels.baselines.given import Trained
from datamodels.baselines.gradients import Gradients, dots


def attribution(trained: Trained) -> np.ndarray:
    """float32[n, examples]."""
    total: np.ndarray = np.zeros((1, 1), dtype=np.float32)
    for rate, models in trained.checkpoints:
        for model in models:
            found = Gradients(trained.trainer, model)
            total = total + np.float32(rate) * dots(found.target_losses, found.losses)
    return total / len(trained.models)
