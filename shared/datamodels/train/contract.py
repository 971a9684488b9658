"""Define the contract of trainers: a learning algorithm is a class with two methods, for one model or many at once.

One model at a time::

    class Trainer:
        def __init__(self, dataset: Dataset, targets: Targets, **options): ...
        def train(self, subset, seed): ...       # int32[k] example indices, ascending; 0 <= seed < 2**63 -> a model
        def outputs(self, model): ...            # a model -> float[n], one per target

Many models at once, if that is faster::

    class Trainer:
        models_at_once = 64
        def __init__(self, dataset: Dataset, targets: Targets, **options): ...
        def train_many(self, subsets, seeds): ...   # lists of the above, equally long -> models
        def outputs_many(self, models): ...         # models -> float[r, n], in order

Either class should say what its outputs mean, by an attribute `output`: an `Output`, or a static method that takes the
data set and the options and returns one::

        output = Output("price error", unit="euro", higher_is_better=False)

All randomness must come from the seed, so that the same subset and seed give the same model. A model whose outputs are
not finite is trained once more with another seed. `datamodels trainer check module:Class` tries a class.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodels.errors import DatamodelsError, ExitCode, SettingsError, SpecError, StageError
from datamodels.inputs import as_inputs
from datamodels.outputs import Output
from datamodels.run import faults, runs, spellings, trust, user_code
from datamodels.run.dataset import Dataset, Targets
from datamodels.run.runs import Run, reference
from datamodels.run.specs import RunSpec
from datamodels.run.user_code import of_environment, why
from datamodels.train import device
from datamodels.train.protocols import BatchTrainer

METHODS = ("train", "outputs", "train_many", "outputs_many")
"""Methods of trainers that this package calls."""


class OneByOne:
    """Makes a trainer of single models a BatchTrainer, with one model at once."""

    models_at_once = 1

    def __init__(self, trainer: Any):
        self.trainer = trainer

    def train_many(self, subsets: Sequence[np.ndarray], seeds: Sequence[int]) -> list[Any]:
        return [self.trainer.train(subset, seed) for subset, seed in zip(subsets, seeds, strict=True)]

    def outputs_many(self, models: list[Any]) -> np.ndarray:
        return np.stack([as_outputs(self.trainer.outputs(model)) for model in models])


def as_outputs(found: Any) -> np.ndarray:
    """Return what a user's class gives as an array; masked values of numbers, and missing ones, become NaN."""
    if isinstance(found, np.ma.MaskedArray) and found.dtype.kind in "fiu":
        return np.ma.filled(found.astype(np.float64), np.nan)
    return as_inputs(found)


def model_seed(seed: int, model: int, attempt: int = 0) -> int:
    """Return the seed of a model, 0 <= seed < 2**63, by NumPy's SeedSequence, so that seeds of models are unrelated.

    seed     of the run
    model    index of the model
    attempt  0, or 1 for a model whose outputs with the first seed could not be used; its subset stays the same
    """
    entropy = (seed, model, attempt) if attempt else (seed, model)
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) >> 1


def check_class(spec: RunSpec, dataset: Dataset) -> type:
    """Return the class of a run's trainer, after checks that need no device.

    Raises SpecError if the class, its methods or the names of its options do not fit the contract.
    """
    cls = reference("trainer.class", spec.trainer.cls)
    fault = f"trainer.class = {spec.trainer.cls!r}"
    if not inspect.isclass(cls):
        raise SpecError(f"{fault}: has type {type(cls).__name__}: must be a class")
    if not _trains_many(cls) and not _has(cls, "train", "outputs"):
        raise SpecError(f"{fault}: must have the methods train and outputs, or train_many and outputs_many")
    waits = [name for name in METHODS if inspect.iscoroutinefunction(getattr(cls, name, None))]
    if waits:
        raise SpecError(f"{fault}: its method {waits[0]} is async: must be a plain function")
    try:
        options = _options(cls, spec)
    except ValueError as error:  # an option in two spellings
        raise SpecError(f"trainer.options: {error}") from None
    given = (dataset, dataset.targets(spec.targets))
    typed = dict(zip(options, spec.trainer.options, strict=True))
    before = ": __init__(self, dataset, targets, ...)"
    faults.check_options("trainer.options", spec.trainer.cls, cls, options, given=given, before=before, typed=typed)
    return cls


def resolve(spec: RunSpec, dataset: Dataset) -> Run:
    """Return the run of a spec on its data set, with what its trainer declares of its outputs.

    Raises SpecError as `check_class`, `declared` and `runs.resolve` do.
    """
    return runs.resolve(spec, dataset, declared=declared(check_class(spec, dataset), spec, dataset))


def declared(cls: type, spec: RunSpec, dataset: Dataset) -> Output | None:
    """Return what a class of trainers declares that its outputs mean, under the options of a spec; None if nothing.

    Raises SpecError if its attribute `output` is no Output, and no static or class method that returns one or None. A
    method or a property of that name is no declaration.
    """
    fault = f"trainer.class = {spec.trainer.cls!r}: its attribute output"
    found, bound = inspect.getattr_static(cls, "output", None), getattr(cls, "output", None)
    if bound is not None and isinstance(found, staticmethod | classmethod):
        try:
            found = bound(dataset, **_options(cls, spec))
        except DatamodelsError:
            raise
        except Exception as error:  # whatever the user's code raises
            raise SpecError(f"{fault}, called with the options: {why(error)}") from error
    elif callable(found) or hasattr(found, "__get__"):
        return None
    if found is None or isinstance(found, Output):
        return found
    raise SpecError(f"{fault} is a {type(found).__name__}: must be a datamodels.Output")


def load_trainer(spec: RunSpec, dataset: Dataset, targets: Targets) -> BatchTrainer:
    """Return the trainer of a run.

    Raises SpecError if the class, its methods or its options do not fit the contract, or may not be used (`run.trust`),
    and StageError (transient) if there is not enough memory for it.
    """
    cls = check_class(spec, dataset)
    trust.require_files(spec)
    try:
        trainer = cls(dataset, targets, **_options(cls, spec))
    except DatamodelsError:
        raise
    except user_code.ANYTHING as error:
        user_code.pass_on(error)
        if device.out_of_memory(error):
            raise StageError(
                f"{spec.trainer.cls}: out of memory before the first model, {why(error)}", ExitCode.TRANSIENT
            ) from error
        if blamed := of_environment(error):
            raise SettingsError(blamed) from error
        fault = f"trainer.options = {spec.trainer.options!r}: {spec.trainer.cls}"
        raise SpecError(f"{fault}: {why(error)}") from error
    if not _trains_many(cls):
        return OneByOne(trainer)
    at_once = models_at_once(trainer)
    if not isinstance(at_once, int) or isinstance(at_once, bool) or at_once < 1:
        raise SpecError(
            f"trainer.class = {spec.trainer.cls!r}: its attribute models_at_once is {at_once!r}; set it to the "
            "number of models that are trained at once, at least 1"
        )
    return trainer


def models_at_once(trainer: Any) -> int:
    """Return how many models a trainer trains at once: its attribute `models_at_once`, first spelt `batch`."""
    found: Any = getattr(trainer, "models_at_once", getattr(trainer, "batch", None))
    return found


def _options(cls: type, spec: RunSpec) -> dict[str, Any]:
    options = copy.deepcopy(spec.trainer.options)  # the user's class may change them
    return spellings.constructor_options(cls, inspect.signature(cls).parameters, options)


def _trains_many(cls: type) -> bool:
    return _has(cls, "train_many", "outputs_many")


def _has(cls: type, *methods: str) -> bool:
    return all(callable(getattr(cls, method, None)) for method in methods)
