"""Decide which Python code this process may import because a spec names it.

A spec names functions and classes as `module:name`. Whoever can write a run into a store, or can call a service,
chooses these names, so they are not imported unless somebody who may run code here has agreed. Each of these is an
agreement:

- the package itself: the data sets, trainers and functions in BUILT_IN;
- whole modules, with what is in them: `--trust MODULE`, or the setting DATAMODELS_TRUST_MODULES;
- the very references of a spec that the user gives on the command line, or whose hash a trainer is started with.

Everything else is refused before anything is imported. The sampler, the aggregator, the fitter and the query service
import nothing that a spec names.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Iterable, Iterator
from typing import Any

from datamodels.errors import ConfigError, SpecError
from datamodels.run import faults, spellings
from datamodels.run.specs import RunSpec
from datamodels.settings import TrustSettings

ALL = "*"
"""Stands for every module, for those who trust whoever can write runs."""

BUILT_IN = frozenset(
    f"{module}:{name}"
    for module, names in {
        "datamodels.exchange.absent": "Elsewhere load",
        "datamodels.fit.data.prior": "flat",
        "datamodels.testing.linear": "Diverging Labelled Linear load",
        "datamodels.train.images.load": "load_digits load_npy load_npz",
        "datamodels.train.images.trainer": "ResNet18 ResNet9",
        "datamodels.train.texts": "counts",
        "datamodels.train.torch": "TorchTrainer",
        "datamodels.train.torch.examples": "cnn gpt lightning mnist_cnn transformer",
        "datamodels.train.torch.trainer": "TorchTrainer",
        "datamodels.train.workloads.cnn": "CNN",
        "datamodels.train.workloads.digits": "load",
        "datamodels.train.workloads.idx": "load",
        "datamodels.train.workloads.mlp": "MLP Softmax",
        "datamodels.train.workloads.tabular": "Tabular load_breast_cancer load_diabetes",
        "datamodels.train.workloads.text": "NaiveBayes load load_language load_tokens",
        # What `trainer.options.estimator: lightgbm` and `xgboost` stand for, and what the example specs name.
        "lightgbm": "LGBMClassifier LGBMRegressor",
        "sklearn.ensemble": "HistGradientBoostingClassifier",
        "sklearn.linear_model": "LogisticRegression Ridge",
        "xgboost": "XGBClassifier XGBRegressor",
    }.items()
    for name in names.split()
)
"""References that specs may have without anybody's consent. They are listed one by one: other functions of this
package, such as the command line itself, run what their arguments say."""

WRITTEN = ("ffcv_file",)
"""Options of this package's trainers that name a file to write. Whoever can write a run must not choose where."""

_modules: set[str] = set()
_references: set[str] = set()
_files: set[str] = set()


def trust_modules(names: Iterable[str]) -> None:
    """Allow everything that is defined in these modules, and in the modules below them. `*` allows every module."""
    _modules.update(names)


def trust_references(references: Iterable[str]) -> None:
    """Allow these references, in any spelling, wherever the object is defined."""
    _references.update(map(spellings.today, references))


def trust_training(spec: RunSpec) -> None:
    """Allow what a spec names for its training: data set, trainer, references in their options, files to write."""
    given = (spec.dataset.options, spec.trainer.options)
    _files.update(str(spec.trainer.options[option]) for option in WRITTEN if option in spec.trainer.options)
    trust_references([spec.dataset.load, spec.trainer.cls, *_references_in(given)])


def trust_spec(spec: RunSpec) -> None:
    """Allow what a spec names. It must come from the user of this process, not from a store or a service."""
    trust_training(spec)
    trust_references([spec.fit.features])


def trust_run(run: str, spec: RunSpec, sha256: str) -> None:
    """Allow what the spec of a stored run names for its training, if it is the spec that this process is started for.

    Raises ConfigError if it is another one.
    """
    if spec.hash != sha256:
        raise ConfigError(
            f"run {run}: its record has the spec {spec.hash}, and this process was started for {sha256}; whoever wrote "
            "the record may not choose the code that runs here"
        )
    trust_training(spec)


def require(field: str, reference: str) -> None:
    """Raise SpecError, which says how to agree, unless a reference in today's spelling may be imported."""
    module = reference.partition(":")[0]
    if not (reference in BUILT_IN or reference in _references or _in_trusted(module)):
        raise _refusal(field, reference, module, "is not a data set or trainer of datamodels, and nothing says")


def require_object(field: str, reference: str, found: Any) -> None:
    """Raise SpecError if a trusted module has an object only because it imports another module, which is not trusted.

    A module that has `from subprocess import run` does not offer `run` to specs.
    """
    if reference in BUILT_IN or reference in _references:
        return
    module = _home(found)
    if not _in_trusted(module):
        raise _refusal(field, reference, module, f"is defined in module {module}, and nothing says")


def require_files(spec: RunSpec) -> None:
    """Raise SpecError if a trainer would write a file that nobody who may run code here has named."""
    for option in WRITTEN:
        path = str(spec.trainer.options.get(option) or "")
        if path and path not in _files and ALL not in _trusted():
            raise SpecError(
                f"trainer.options.{option} = {path!r}: is a file that would be written, and the run in the store "
                f"may not choose which; if you trust whoever wrote the run, add --trust '{ALL}' to the command"
            )


def _refusal(field: str, reference: str, module: str, why: str) -> SpecError:
    top = module.partition(".")[0]
    return SpecError(
        f"{field} = {reference!r}: {why} that it may run here; if you trust it, add --trust {top} to the command, or "
        f"{top} to {TrustSettings.prefix}_MODULES"
    )


def _in_trusted(module: str) -> bool:
    names, parts = _trusted(), module.split(".")
    return ALL in names or any(".".join(parts[:k]) in names for k in range(1, len(parts) + 1))


def _trusted() -> set[str]:
    return _modules | _of_settings(TrustSettings.load().modules)


@functools.cache
def _of_settings(text: str) -> frozenset[str]:
    return frozenset(filter(None, map(str.strip, text.split(","))))


def _home(found: Any) -> str:
    """Return the name of the module that defines an object: for a partial function, that of the function in it."""
    while isinstance(found, functools.partial):
        found = found.func
    home = getattr(found, "__module__", None) or type(found).__module__
    return str(getattr(found, "__name__", "") if isinstance(found, types.ModuleType) else home)


def _references_in(value: Any) -> Iterator[str]:
    """Yield the texts in options that have the form of a reference."""
    if isinstance(value, str):
        if re.fullmatch(faults.REFERENCE, value):
            yield value
    elif isinstance(value, dict):
        yield from _references_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _references_in(item)
