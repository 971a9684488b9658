"""A small run, stores whose calls can be made to fail, and the invariants of the commit protocol."""

import dataclasses
import functools

import numpy as np

from datamodels.aggregate import manifest, part
from datamodels.aggregate.ledger import Ledger
from datamodels.errors import SupersededError
from datamodels.run import designs, runs, specs
from datamodels.run.dataset import Dataset
from datamodels.storage import keys
from datamodels.storage.base import ObjectStore
from tests.helpers.memory import MemoryStore

TARGETS = 5


def make_run():
    """26 models in 7 sub-chunks of 4, the last of 2; 5 targets."""
    document = {
        "name": "small",
        "dataset": {"load": "nothing:load"},
        "trainer": {"class": "nothing:Trainer"},
        "m": 20,
        "chunk": 8,
        "sub_chunk": 4,
        "evaluate": {"subsets": 3, "models": 2},
    }
    return runs.resolve(specs.parse(document), make_dataset())


def make_dataset():
    return Dataset(np.zeros((12, 2)), np.arange(12) % 3, np.zeros((TARGETS, 2)), np.arange(TARGETS) % 3)


def sub_chunks_of(run):
    return [models for chunk in range(run.spec.chunks) for models in run.spec.sub_chunks(run.spec.chunk_range(chunk))]


def outputs_maker(run):
    """(models, writer, failed) -> outputs that only this writer would send. Models in `failed` have none."""

    def make(models: range, writer: int = 0, failed: tuple[int, ...] = ()) -> part.Outputs:
        index = np.array([model for model in models if model not in failed], dtype=np.int64)
        values = index[:, None] + np.arange(run.n) / 8 + writer * 64.0
        reasons = {model: f"writer {writer} says so" for model in models if model in failed}
        return part.validate(run, models, index, values, reasons)

    return make


class Crash(BaseException):
    """Simulates the death of the process; no code may catch it."""


@dataclasses.dataclass
class Fault:
    """An error raised instead of, or right after, the storage call of this number, counted from 0."""

    call: int
    error: BaseException
    after: bool


class FaultyStore(ObjectStore):
    """Passes calls to another store, with at most one fault."""

    def __init__(self, store: ObjectStore, fault: Fault | None = None):
        self.store, self.fault, self.url = store, fault, store.url
        self.calls: list[str] = []

    def _call(self, name: str, key: str, call):
        number = len(self.calls)
        self.calls.append(f"{name} {key}")
        due = self.fault is not None and number == self.fault.call
        if due and not self.fault.after:
            raise self.fault.error
        result = call()
        if due:
            raise self.fault.error
        return result

    def create(self, key, data):
        return self._call("create", key, lambda: self.store.create(key, data))

    def read(self, key):
        return self._call("read", key, lambda: self.store.read(key))

    def exists(self, key):
        return self._call("exists", key, lambda: self.store.exists(key))

    def entries(self, prefix, *, after="", deep=True):
        return iter(self._call("list", prefix, lambda: list(self.store.entries(prefix, after=after, deep=deep))))

    def delete(self, key):
        self._call("delete", key, lambda: self.store.delete(key))


class OverwritingStore(MemoryStore):
    """Ignores the condition, as `rclone serve s3` does. The invariants must fail on it."""

    def create(self, key, data):
        self.objects[key] = data
        return True


def check_invariants(store, run, acknowledged):
    """Check the invariants of the protocol, using only the contents of the store.

    I1  An acknowledged part is kept, alone or merged, with the outputs of the writer that was told that it committed
        them, until it is retired.
    I2  No snapshot lists a model twice.
    I3  Every listed part exists.
    I4  Every listed part matches its sha256. Only snapshots that build on a pruned manifest cannot be read; the newest
        is none of them.
    I5  Subset i of the stored run is the same as when the run was created.
    I6  Every failed model is reported with its reason.

    `acknowledged` has the Outputs of each put that returned, whether the put returned that it committed them, and how
    many parts of the sub-chunk were retired before if any were.
    """

    @functools.cache  # most versions list the same parts
    def read(found: manifest.Part) -> part.Outputs:
        return found.read(store, run.name)

    versions = list(store.numbers(keys.manifests(run.name)))
    assert store.newest(keys.manifests(run.name)) == max(versions, default=-1)
    before, listed = set(), ()
    for version in versions:
        try:
            snapshot = manifest.read(store, run.name, version)
        except SupersededError:
            assert version < versions[-1], "the newest version cannot be read"
            continue
        models = [model for found in snapshot.parts for model in found.models]
        assert len(set(models)) == len(models), "I2: a snapshot lists a model twice"
        retired = {model for first in snapshot.retired for model in run.spec.sub_chunk_of(first)}
        assert before <= {*models} | retired, "a version lost a part of the previous one"
        before, listed = set(models), snapshot.parts
        for found in snapshot.parts:
            outputs = read(found)  # I3, I4: verified
            assert outputs.failed == dict(found.failed), "I6: a failed model is not reported"
            assert sorted([*outputs.model_index.tolist(), *outputs.failed]) == list(found.models)
    # A new aggregator finds all parts, listed or not.
    ledger = Ledger(store, runs.read(store, run.name))
    retired = manifest.read_newest(store, run.name).retired
    for outputs, committed, *times in acknowledged:
        if retired.get(outputs.models.start, 0) > (times or [0])[0]:
            continue
        found = ledger.get(outputs.models)
        assert found is not None, "I1: an acknowledged part is gone"
        kept = read(found).only(outputs.models)
        if committed:
            assert kept.outputs.tobytes() == outputs.outputs.tobytes(), "I1: the part has another writer's outputs"
            assert kept.failed == outputs.failed
    assert [p for p in listed if ledger.get(p.models) != p] == []
    for index in (0, run.spec.models - 1):  # I5
        subset = run.spec.subset_index(index)
        assert (designs.subset(ledger.run.design, subset) == designs.subset(run.design, subset)).all()
