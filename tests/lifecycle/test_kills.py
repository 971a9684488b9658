"""Every command that keeps runs, killed at every storage call, and started again."""

import contextlib
import time

import pytest

from datamodels.aggregate import manifest
from datamodels.aggregate.ledger import Ledger
from datamodels.fit.job import finished, fits
from datamodels.lifecycle import compaction, copying, objects, removal, repair, vacuum, verify
from datamodels.storage import keys
from tests.helpers.memory import MemoryStore
from tests.helpers.protocol import Crash, Fault, FaultyStore
from tests.lifecycle.conftest import make

DAY = objects.DAY


def delete(store, name):
    removal.remove(store, removal.deletion(objects.of_run(store, name)))


def prune(store, name):
    removal.make_whole(store, name)
    found = objects.of_run(store, name)
    known = objects.references(store, found)
    removal.remove(store, removal.pruning(found, known, keep=1, ended=time.time() + 1))


def sweep(store, name, now):
    vacuum.vacuum(store, vacuum.find(store, objects.of_run(store, name), now=now))


def compact(store, name):
    compaction.compact(store, name)


def retire(store, name):
    repair.retire(store, name, repair.faulty(store, name, range(5, 10)))


def everything(store, name):
    compact(store, name)
    prune(store, name)
    for days in (2, 4):
        sweep(store, name, time.time() + days * DAY)


def deleted(kept):
    assert not [key for key in kept.store.objects if kept.name in key]


def pruned(kept):
    assert finished.numbers(kept.store, kept.name) == [2]
    assert len(list(kept.store.numbers(keys.manifests(kept.name)))) == 1
    assert [key for key in kept.store.list("query/") if keys.kind(key) == "answer"] == [
        keys.analysis(kept.name, 2, "clusters", "0" * 16),
        keys.evaluation(kept.name, 2),
    ]
    whole(kept)


def compacted(kept):
    first, *others = newest(kept).parts
    assert (first.first, first.last, len(first.merged)) == (0, 20, 5) and not any(p.merged for p in others)
    assert Ledger(kept.store, kept.run).progress().complete


def retired(kept):
    assert newest(kept).ranges == [range(0, 4), range(12, 26)] and dict(newest(kept).retired) == {4: 1, 8: 1}


def swept(kept):
    pruned(kept)
    compacted(kept)
    here = [key for key in kept.store.objects if keys.kind(key) in ("part", "merged", "weights", "unused")]
    assert len(here) == 3 + 1, here  # one merged part, two others, and the block of the newest fit


def whole(kept):
    assert newest(kept).committed == 26 and sum(len(o.model_index) for o in newest(kept).outputs(kept.store)) == 25
    assert fits.load(kept.store, finished.require_fit(kept.store, kept.name)).n == kept.run.n
    assert not list(verify.verify(kept.store, objects.of_run(kept.store, kept.name)))


def newest(kept):
    return manifest.read_newest(kept.store, kept.name)


def count(verb, ends) -> int:
    """Return how many storage calls a verb makes that is not killed."""
    counting = FaultyStore((kept := make()).store)
    verb(counting, kept.name)
    ends(kept)
    return len(counting.calls)


@pytest.mark.parametrize(
    "verb, ends", [(delete, deleted), (prune, pruned), (compact, compacted), (retire, retired), (everything, swept)]
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_every_storage_call(verb, ends, after):
    calls = range(count(verb, ends))
    if verb is everything:  # it begins with what is tested alone: few calls of that, and of the others every other
        first = count(compact, compacted) + count(prune, pruned)
        calls = [*calls[after:first:8], *calls[first + after :: 2]]
    for call in calls:
        kept = make()
        with contextlib.suppress(Crash):
            verb(FaultyStore(kept.store, Fault(call, Crash(), after)), kept.name)
        if kept.store.exists(keys.run(kept.name)):
            retired = objects.references(kept.store, objects.of_run(kept.store, kept.name)).newest.retired
            kept.acknowledged = [a for a in kept.acknowledged if a[0].models.start not in retired]
            kept.check()
        verb(kept.store, kept.name)
        ends(kept)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_copy_that_is_killed_at_every_storage_call(monkeypatch, side, after):
    monkeypatch.setattr(copying, "THREADS", 1)
    kept = make()
    compact(kept.store, kept.name)
    for call in range(400):
        target = MemoryStore()
        stores = {"source": kept.store, "target": target}
        stores[side] = FaultyStore(stores[side], Fault(call, Crash(), after))
        done = []
        try:
            copying.copy(*stores.values(), objects.of_run(kept.store, kept.name), tell=done.append)
            killed = False
        except Crash:
            killed = True
        # Whatever is there is whole: nothing refers to what is not there.
        there = objects.of_run(target, kept.name)
        assert objects.expected(there, objects.references(target, there)) <= there.entries.keys()
        copying.copy(kept.store, target, objects.of_run(kept.store, kept.name), done=done)
        assert target.objects == kept.store.objects
        if not killed:
            return
    raise AssertionError("the copy made more calls than were tried")


def test_a_run_that_was_half_deleted_can_be_made_again():
    """What is left of a deletion is as if less had been committed."""
    total = len(removal.deletion(objects.of_run((kept := make()).store, kept.name)))
    for left in range(total):
        kept = make()
        removal.remove(kept.store, removal.deletion(objects.of_run(kept.store, kept.name))[:left])
        kept.store.create(keys.run(kept.name), make().store.objects[keys.run(kept.name)])
        ledger = Ledger(kept.store, kept.run)
        assert manifest.read_newest(kept.store, kept.name, partial=True).committed <= ledger.progress().committed
        ledger.publish()
        for outputs in newest(kept).outputs(kept.store):
            assert outputs.models.start in range(26)
        for number in finished.numbers(kept.store, kept.name):
            fits.load(kept.store, finished.read_fit(kept.store, kept.name, number))
