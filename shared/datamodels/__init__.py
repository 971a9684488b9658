"""Datamodels: which training examples made the model say this?

The pipeline is sample -> train -> aggregate -> fit -> query. This module offers what a notebook or a program needs:

open_store, list_runs, open_run  a run's masks, outputs and weights as arrays
fit_arrays                       weights for masks and outputs of your own
QueryClient, ClientSettings      questions to a query service; its deadlines and TLS
Dataset, Targets                 what a data set's `load` function returns, and what a trainer is given
Trainer, BatchTrainer            what a trainer must have
Output                           what the number that is recorded of a model on a target means
GradientTrainer, Gradients       what a trainer may have, for methods that need gradients
LayerFactors                     gradients of one layer, as EK-FAC needs them
Replay, ReplayTrainer            what a trainer may have, for derivatives through whole trainings
Text, language_dataset           texts as tokens, and the data set of a language model
load_spec                        a spec from a YAML file, or an example by its name
errors, DatamodelsError          all errors, and their base
testing                          help for tests of your own

A name is imported when it is first used. So `import datamodels` takes no time, and QueryClient, Dataset, Trainer and
errors work without the packages that the rest needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from datamodels import errors, extras
from datamodels.errors import DatamodelsError

if TYPE_CHECKING:
    from datamodels import testing
    from datamodels.api import StoredRun, fit_arrays, list_runs, load_spec, open_run, open_store
    from datamodels.outputs import Output
    from datamodels.rpc.clients.query import QueryClient
    from datamodels.run.dataset import Dataset, Targets
    from datamodels.settings import ClientSettings
    from datamodels.train.gradients import Gradients, GradientTrainer, LayerFactors, Replay, ReplayTrainer
    from datamodels.train.protocols import BatchTrainer, Trainer
    from datamodels.train.texts import Text, language_dataset

__all__ = [
    "BatchTrainer",
    "ClientSettings",
    "DatamodelsError",
    "Dataset",
    "GradientTrainer",
    "Gradients",
    "LayerFactors",
    "Output",
    "QueryClient",
    "Replay",
    "ReplayTrainer",
    "StoredRun",
    "Targets",
    "Text",
    "Trainer",
    "errors",
    "fit_arrays",
    "language_dataset",
    "list_runs",
    "load_spec",
    "open_run",
    "open_store",
    "testing",
]

_HOMES = {
    "datamodels.api": ("StoredRun", "fit_arrays", "list_runs", "load_spec", "open_run", "open_store"),
    "datamodels.rpc.clients.query": ("QueryClient",),
    "datamodels.run.dataset": ("Dataset", "Targets"),
    "datamodels.outputs": ("Output",),
    "datamodels.settings": ("ClientSettings",),
    "datamodels.train.gradients": ("GradientTrainer", "Gradients", "LayerFactors", "Replay", "ReplayTrainer"),
    "datamodels.train.protocols": ("BatchTrainer", "Trainer"),
    "datamodels.train.texts": ("Text", "language_dataset"),
}
"""The modules that names come from."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(extras.DISTRIBUTION)
    if name == "testing":
        return importlib.import_module("datamodels.testing")
    for home, names in _HOMES.items():
        if name in names:
            try:
                return getattr(importlib.import_module(home), name)
            except ModuleNotFoundError as error:
                if not extras.advice(error):
                    raise
                raise ImportError(f"datamodels.{name} needs {extras.advice(error)}") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
