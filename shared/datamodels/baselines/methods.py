"""Declare the baselines. `scoring` computes them. A new baseline is a module in this package and an entry here.

This module imports nothing that takes time, so that the command line can list them quickly.
"""

from __future__ import annotations

import dataclasses

NETWORKS = "networks"
"""The method needs networks trained on the whole pool, and their gradients: its function takes `context.Trained`."""
REPLAYS = "replays"
"""The method differentiates through `context.trainings` trainings: its function takes a `Context`."""
COMMITTED = "committed"
"""The method needs the outputs of the run's own models: its function takes `feldman_zhang.Shares`."""
DATA = "data"
"""The method needs no model: its function takes a `Context`."""

TRAININGS = 8
"""Trainings that methods of REPLAYS differentiate through by default."""
LIME_MODELS = 10
"""Models whose mean output LIME explains by default; see `baselines.lime`."""
LIME_SAMPLES = 1000
"""Inputs with blanked parts that LIME asks the models about by default."""


@dataclasses.dataclass(frozen=True)
class Method:
    """Description of a method.

    needs  NETWORKS, REPLAYS, COMMITTED or DATA
    what   what its scores are, in a few words
    entry  the function that returns its scores, float32[n, examples], or [n, d] if it needs COMMITTED, as
           `module:name`. It may return a pair: scores, and why they should not be trusted
    helps  whether scores say by how much an example helps a target, and not by how much it raises the output
    """

    needs: str
    what: str
    entry: str
    helps: bool = False


_HERE = "datamodels.baselines."
_GRADIENTS = f"{_HERE}gradients."
METHODS = {
    "feldman_zhang": Method(
        COMMITTED,
        "how much more often models are right with an example than without",
        f"{_HERE}feldman_zhang:attribution",
    ),
    "tracin": Method(NETWORKS, "products of gradients at checkpoints", f"{_GRADIENTS}tracin:attribution", helps=True),
    "last_layer": Method(NETWORKS, "influence functions of the last layer", f"{_GRADIENTS}influence:last_layer"),
    "ekfac": Method(NETWORKS, "influence functions of all weights, by EK-FAC", f"{_GRADIENTS}influence:ekfac"),
    "influence": Method(
        NETWORKS,
        "influence functions of all weights, by conjugate gradients or exactly",
        f"{_GRADIENTS}influence:whole",
    ),
    "trak": Method(NETWORKS, "a linear model of projected gradients", f"{_GRADIENTS}trak:attribution"),
    "magic": Method(REPLAYS, "exact derivatives through whole trainings", f"{_GRADIENTS}magic:attribution"),
    "representations": Method(
        NETWORKS, "similarity in the last hidden layer", f"{_HERE}neighbours:representations", helps=True
    ),
    "inputs": Method(DATA, "similarity of the inputs", f"{_HERE}neighbours:inputs", helps=True),
    "random": Method(DATA, "random scores, as a control", f"{_HERE}scoring:random"),
}
"""Baselines by name."""
