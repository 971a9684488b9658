"""Translate old spellings in specs: of modules that have moved, and options that have been renamed.

In memory everything has today's spelling. On the wire, in the store, and in the hash that names a run, everything has
its first spelling. So a spec names the same run in either spelling, and old and new code read each other's records.
Whoever renames a module or an option that specs refer to adds it here, and keeps the first spelling for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODULES = {
    "datamodels.fit.prior": "datamodels.fit.data.prior",
    "datamodels.train.cnn": "datamodels.train.workloads.cnn",
    "datamodels.train.digits": "datamodels.train.workloads.digits",
    "datamodels.train.images": "datamodels.train.images.load",
    "datamodels.train.mlp": "datamodels.train.workloads.mlp",
    "datamodels.train.resnet": "datamodels.train.images.trainer",
    "datamodels.train.tabular": "datamodels.train.workloads.tabular",
    "datamodels.train.text": "datamodels.train.workloads.text",
}
"""Modules by their first name: the name that they have today."""

_SGD = {"batch": "models_at_once", "rows": "batch_size", "rate": "learning_rate", "decay": "weight_decay"}
_IMAGES = {
    "together": "models_at_once",
    "rows": "batch_size",
    "rate": "learning_rate",
    "decay": "weight_decay",
    "smoothing": "label_smoothing",
    "beton": "ffcv_file",
}
OPTIONS: dict[str, dict[str, str]] = {
    "datamodels.train.images.trainer:ImageTrainer": _IMAGES,
    "datamodels.train.images.trainer:ResNet18": _IMAGES,
    "datamodels.train.images.trainer:ResNet9": _IMAGES,
    "datamodels.train.workloads.cnn:CNN": _SGD,
    "datamodels.train.workloads.mlp:Classifier": {"batch": "models_at_once"},
    "datamodels.train.workloads.mlp:MLP": _SGD,
    "datamodels.train.workloads.mlp:Softmax": _SGD,
    "datamodels.train.workloads.text:NaiveBayes": {"batch": "models_at_once"},
}
"""Options of built-in trainers, by today's reference of the class: first name -> today's name."""

FIT = {"batch": "batch_size"}
"""Fields of a spec's fit section: first name -> today's name."""

_FIRST_MODULES = {today: first for first, today in MODULES.items()}


def today(reference: str) -> str:
    """Return a reference `module:name`, in either spelling, in today's."""
    return _moved(reference, MODULES)


def first(reference: str) -> str:
    """Return a reference `module:name`, in either spelling, in its first one."""
    return _moved(reference, _FIRST_MODULES)


def _moved(reference: str, modules: Mapping[str, str]) -> str:
    module, colon, name = reference.partition(":")
    return modules.get(module, module) + colon + name


def renamed(names: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options given in any spelling with today's names.

    names  first name -> today's name

    Raises ValueError if an option is given in both spellings.
    """
    for old, new in names.items():
        if old in given and new in given:
            raise ValueError(f"{old} and {new} are two spellings of one option; give {new} only")
    return {names.get(name, name): value for name, value in given.items()}


def first_options(cls: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options that have today's names with their first names.

    cls  today's reference of the class that takes them
    """
    old = {new: name for name, new in OPTIONS.get(cls, {}).items()}
    return {old.get(name, name): value for name, value in options.items()}


def today_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of a spec, which is in its first spelling, in the one that people know from the docs."""
    data, trainer, fit = (dict(document[section]) for section in ("dataset", "trainer", "fit"))
    data["load"], trainer["class"] = today(data["load"]), today(trainer["class"])
    trainer["options"] = renamed(OPTIONS.get(trainer["class"], {}), trainer["options"])
    fit = renamed(FIT, fit | {"features": today(fit["features"])})
    return dict(document) | {"dataset": data, "trainer": trainer, "fit": fit}


def constructor_options(cls: type, accepts: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as the constructor of a class takes them, which may inherit from a built-in trainer.

    accepts  the parameters of the constructor, by name: what it names itself is not renamed

    Raises ValueError if an option is given in both spellings.
    """
    names: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        names |= OPTIONS.get(f"{base.__module__}:{base.__qualname__}", {})
    return renamed({old: new for old, new in names.items() if old not in accepts}, options)
