"""A run with everything that a run can have: parts, manifests, fits, looks and what was computed from them."""

import dataclasses
import functools

import pytest

from datamodels.aggregate.ledger import Ledger
from datamodels.display import stored
from datamodels.run import runs
from datamodels.storage import keys, records
from datamodels.testing import fitted
from tests.helpers import protocol
from tests.helpers.memory import MemoryStore


@dataclasses.dataclass
class Kept:
    """A store with the small run of `tests.helpers.protocol`, and what its puts acknowledged.

    The run has 26 models in 7 parts, 4 of which several manifests list, and 3 fits.
    """

    store: MemoryStore
    run: runs.Run
    acknowledged: list

    @property
    def name(self):
        return self.run.name

    def check(self):
        protocol.check_invariants(self.store, self.run, self.acknowledged)


def make() -> Kept:
    """A copy of the run."""
    found, store = _made(), MemoryStore()
    store.objects, store.modified = dict(found.store.objects), dict(found.store.modified)
    return Kept(store, found.run, list(found.acknowledged))


@functools.cache
def _made() -> Kept:
    run = protocol.make_run()
    outputs, found = protocol.outputs_maker(run), Kept(MemoryStore(), run, [])
    runs.create(found.store, run)
    stored.write(found.store, run, protocol.make_dataset())
    ledger = Ledger(found.store, run)
    for number, models in enumerate(protocol.sub_chunks_of(run)):
        made = outputs(models, number, failed=(models.start,) if number == 3 else ())
        found.acknowledged.append((made, ledger.put(made)[1]))
        if number < 5:
            ledger.publish()
    for number in range(3):
        record = fitted.commit_fit(found.store, run, fitted.make_theta(run, seed=number), digest=f"d{number}")
        assert record.number == number
        records.create(found.store, keys.evaluation(run.name, number), {"of": number})
        records.create(found.store, keys.analysis(run.name, number, "clusters", "0" * 16), {"of": number})
    return found


@pytest.fixture
def kept():
    return make()
