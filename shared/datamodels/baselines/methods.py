"""Name and describe the baselines. `scoring` computes them.

This module imports nothing that takes time, so that the command line can list them quickly.
"""

from __future__ import annotations

import dataclasses

NETWORKS = "networks"
"""The method needs networks trained on the whole pool, and their gradients."""
COMMITTED = "committed"
"""The method needs the outputs of the run's own models."""
DATA = "data"
"""The method needs no model."""

LIME_MODELS = 10
"""Models whose mean output LIME explains by default; see `baselines.lime`."""
LIME_SAMPLES = 1000
"""Inputs with blanked parts that LIME asks the models about by default."""


@dataclasses.dataclass(frozen=True)
class Method:
    """Description of a method.

    needs  NETWORKS, COMMITTED or DATA
    what   what its scores are, in a few words
    """

    needs: str
    what: str


METHODS = {
    "feldman_zhang": Method(COMMITTED, "how much more often models are right with an example than without"),
    "tracin": Method(NETWORKS, "products of gradients at checkpoints"),
    "last_layer": Method(NETWORKS, "influence functions of the last layer"),
    "ekfac": Method(NETWORKS, "influence functions of all weights, by EK-FAC"),
    "influence": Method(NETWORKS, "influence functions of all weights, by conjugate gradients"),
    "trak": Method(NETWORKS, "a linear model of projected gradients"),
    "representations": Method(NETWORKS, "similarity in the last hidden layer"),
    "inputs": Method(DATA, "similarity of the inputs"),
    "random": Method(DATA, "random scores, as a control"),
}
