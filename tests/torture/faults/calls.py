"""A fault of every mode at every storage call of the whole life of a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from datamodels.errors import CorruptObjectError, DatamodelsError, StoreFullError, StoreUnavailableError
from tests.helpers.memory import MemoryStore, flipped
from tests.helpers.protocol import Fault, FaultyStore
from tests.torture.lives import Life
from tests.torture.rows import Budget, Result

TRIES = 3
"""Most times that a step of a life is made until it ends well. One fault fails it at most once."""


class BadReads(FaultyStore):
    """Damages what one read returns, instead of raising an error."""

    def __init__(self, store: MemoryStore, call: int, damage: Callable[[bytes], bytes]):
        super().__init__(store)
        self._bad, self._damage = call, damage

    def read(self, key):
        number, data = len(self.calls), super().read(key)
        return self._damage(data) if number == self._bad else data


MODES: dict[str, Callable[[MemoryStore, int], FaultyStore]] = {
    "is not made": lambda store, call: FaultyStore(store, Fault(call, StoreUnavailableError("by torture"), False)),
    "loses its answer": lambda store, call: FaultyStore(store, Fault(call, StoreUnavailableError("by torture"), True)),
    "finds no space": lambda store, call: FaultyStore(store, Fault(call, StoreFullError("by torture"), False)),
    "returns a flipped bit": lambda store, call: BadReads(store, call, lambda data: flipped(data, call)),
    "returns half": lambda store, call: BadReads(store, call, lambda data: data[: len(data) // 2]),
    "returns nothing": lambda store, call: BadReads(store, call, lambda data: b""),
}
APPLIES = {"finds no space": ("create",)} | dict.fromkeys(list(MODES)[3:], ("read",))
"""Kinds of calls that a mode is about; by default all."""


def torture(folder: Path, budget: Budget, result: Result) -> None:
    """Go through a life step by step, and repeat the rest of it with a fault at each call of each step."""
    life, states, calls = _life(folder, MemoryStore()), [], []
    for step in life.steps:
        states.append((dict(life.store.objects), dict(life.store.modified)))
        counting = FaultyStore(life.store)
        life.store, plain = counting, life.store
        step()
        life.store = plain
        calls.append(counting.calls)
    cases = [
        (mode, step, call)
        for mode in MODES
        for step, made in enumerate(calls)
        for call, name in enumerate(made)
        if name.split()[0] in APPLIES.get(mode, name)
    ]
    result.figures["storage calls of a life"] = f"{sum(map(len, calls)):,}"
    result.figures["faults at them"] = f"{len(cases):,}"
    for _, (mode, step, call) in zip(budget, cases[budget.done :], strict=False):
        store = MemoryStore()
        store.objects, store.modified = (dict(of) for of in states[step])
        result.outcomes[f"call {mode}"] += 1
        try:
            _recover(_life(folder, store), mode, step, call, result)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
            what = calls[step][call]
            result.faults.append(f"{what} {mode}, in step {step}: {type(error).__name__}: {error}")


def _life(folder: Path, store: MemoryStore) -> Life:
    shutil.rmtree(folder / "life", ignore_errors=True)
    (folder / "life").mkdir(parents=True)
    life = Life(folder / "life", 0)
    life.store = store
    return life


def _recover(life: Life, mode: str, first: int, call: int, result: Result) -> None:
    """Make the steps of a life from one on, the first with a fault, and each again if it raises an error."""
    plain = life.store
    life.store = MODES[mode](plain, call)
    for step in life.steps[first:]:
        for attempt in range(TRIES):
            try:
                step()
                break
            except DatamodelsError as error:
                result.outcomes[f"step fails with {type(error).__name__}, and ends well when it is made again"] += 1
                if attempt + 1 == TRIES or (isinstance(error, CorruptObjectError) and "returns" in mode):
                    raise  # one bad read is no damage
    assert not plain.objects, f"{len(plain.objects)} objects are left"
