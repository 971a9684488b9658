"""Readers beside the commands that remove objects: they end correctly, or are told to start again."""

import time

import numpy as np
import pytest

from datamodels.aggregate import manifest
from datamodels.errors import CorruptObjectError, RunNotFoundError, StoreUnavailableError, SupersededError
from datamodels.fit.data import examples
from datamodels.fit.data.problem import FOLDS
from datamodels.fit.job import finished, fits, gradients
from datamodels.lifecycle import compaction, objects, removal, vacuum
from datamodels.run import runs
from datamodels.run.specs import FitSpec
from datamodels.storage import keys
from tests.helpers import protocol
from tests.lifecycle.test_kills import DAY, delete, everything, prune, retire, sweep

LATER = time.time() + 10 * DAY


def test_a_reader_that_ends_within_the_grace_period_sees_what_it_began_with(kept):
    snapshot = manifest.read_newest(kept.store, kept.name)
    record = finished.read_fit(kept.store, kept.name, 0)
    compaction.compact(kept.store, kept.name)
    prune(kept.store, kept.name)
    sweep(kept.store, kept.name, time.time() + 2 * DAY)
    sweep(kept.store, kept.name, time.time() + 2 * DAY + DAY / 2)
    assert sum(len(outputs.model_index) for outputs in snapshot.outputs(kept.store)) == snapshot.rows
    assert fits.load(kept.store, record).n == kept.run.n


def test_a_reader_that_takes_longer_is_told_to_start_again(kept):
    snapshot = manifest.read_newest(kept.store, kept.name)
    record = finished.read_fit(kept.store, kept.name, 0)
    everything(kept.store, kept.name)
    with pytest.raises(SupersededError, match="start it again"):
        list(snapshot.outputs(kept.store))
    with pytest.raises(SupersededError, match=r"fit 0 of run .* was removed .* start it again"):
        fits.load(kept.store, record)
    assert sum(len(o.model_index) for o in manifest.read_newest(kept.store, kept.name).outputs(kept.store)) == 25


def test_a_reader_of_a_deleted_run_is_told_so(kept):
    snapshot = manifest.read_newest(kept.store, kept.name)
    delete(kept.store, kept.name)
    with pytest.raises(SupersededError):
        list(snapshot.outputs(kept.store))
    with pytest.raises(RunNotFoundError):
        runs.read(kept.store, kept.name)


def test_a_part_that_is_gone_although_it_is_listed_is_damage(kept):
    snapshot = manifest.read_newest(kept.store, kept.name)
    kept.store.delete(snapshot.parts[0].key)
    with pytest.raises(CorruptObjectError, match=r"is gone; .* `datamodels repair .* --damaged`"):
        list(snapshot.outputs(kept.store))


def test_a_manifest_that_is_pruned_while_it_is_read_is_read_anew(kept):
    """A version is found; before it is read, a newer one replaces it and it is pruned."""

    class Pruned(type(kept.store)):
        def read(self, key):
            if key == keys.manifest(kept.name, 4) and not self.pruned:
                self.pruned = True
                prune(kept.store, kept.name)
            return super().read(key)

    store = Pruned()
    store.objects, store.modified, store.pruned = kept.store.objects, kept.store.modified, False
    assert manifest.read_newest(store, kept.name).committed == 26 and store.pruned
    assert manifest.read_newest(store, kept.name).version == 5


def test_old_snapshots_keep_retired_parts_until_they_are_pruned(kept):
    """I4: whoever reads an old manifest, or a fit made from it, still finds the outputs."""
    old = manifest.read(kept.store, kept.name, 4)
    retire(kept.store, kept.name)
    for days in (2, 4):
        sweep(kept.store, kept.name, time.time() + days * DAY)
    assert len(list(old.outputs(kept.store))) == 5
    prune(kept.store, kept.name)
    for days in (6, 8):
        sweep(kept.store, kept.name, time.time() + days * DAY)
    with pytest.raises(SupersededError):
        list(old.outputs(kept.store))


def test_an_object_that_is_used_again_waits_anew(kept):
    """Blocks of a pruned fit, of which a later fit of the same data makes use."""
    record = finished.read_fit(kept.store, kept.name, 0)
    prune(kept.store, kept.name)
    now = time.time() + 2 * DAY
    sweep(kept.store, kept.name, now)
    fits.commit(kept.store, record, [(block.first, block.last) for block in record.blocks])
    sweep(kept.store, kept.name, now + 2 * DAY)
    assert fits.load(kept.store, finished.require_fit(kept.store, kept.name)).n == kept.run.n
    prune(kept.store, kept.name)
    unused = vacuum.find(kept.store, objects.of_run(kept.store, kept.name), now=now + 3 * DAY)
    assert set(unused.since.values()) == {now + 3 * DAY} and not unused.due


def test_blocks_of_a_fit_that_is_committed_while_a_vacuum_deletes_them_stay(kept):
    record = finished.read_fit(kept.store, kept.name, 0)
    prune(kept.store, kept.name)
    now = time.time() + 2 * DAY
    sweep(kept.store, kept.name, now)
    unused = vacuum.find(kept.store, objects.of_run(kept.store, kept.name), now=now + 2 * DAY)
    assert {block.key for block in record.blocks} <= set(unused.due)

    class Late(type(kept.store)):
        def delete(self, key):
            if keys.kind(key) == "weights":  # its fitter looks at the blocks before they are gone
                fits.commit(kept.store, record, [(block.first, block.last) for block in record.blocks])
            super().delete(key)

    store = Late()
    store.objects, store.modified = kept.store.objects, kept.store.modified
    vacuum.vacuum(store, unused)
    assert fits.load(kept.store, finished.require_fit(kept.store, kept.name)).n == kept.run.n


def of_features(kept, store):
    run = kept.run.with_fit(FitSpec(estimator="prior"))
    return lambda: examples.write(store, run, protocol.make_dataset()), lambda: examples.read(store, run)


def of_gradients(kept, store):
    run = kept.run.with_fit(FitSpec(estimator="prior"))
    scores = np.ones((FOLDS, run.n, run.design.columns), np.float32)
    return (
        lambda: gradients.write(store, run, 2, scores, 1.0),
        lambda: gradients.verify(store, gradients.read(store, run, 2)),
    )


WHEN = ["before the vacuum looks", "before it deletes", "while it deletes", "after it has looked twice"]


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("kind", [of_features, of_gradients])
def test_blocks_that_a_killed_writer_left_are_used_beside_a_vacuum(kept, kind, when):
    """A writer takes blocks of an attempt that died long ago, at the time when a vacuum would delete them."""
    write, read = kind(kept, kept.store)
    write()
    for key in objects.of_run(kept.store, kept.name).kind("listing"):
        kept.store.delete(key)
    sweep(kept.store, kept.name, LATER)
    unused = vacuum.find(kept.store, objects.of_run(kept.store, kept.name), now=LATER + 2 * DAY)
    assert unused.due and {keys.kind(key) for key in unused.due} == {"block"}

    class Late(type(kept.store)):
        def create(self, key, data):
            if keys.kind(key) == "listing" and when.startswith("after"):
                removal.remove(kept.store, unused.due)
            return super().create(key, data)

        def delete(self, key):
            if keys.kind(key) == "block":
                write()  # which looks at its blocks before they are gone
            super().delete(key)

    store = Late()
    store.objects, store.modified = kept.store.objects, kept.store.modified
    write, read = kind(kept, store)
    if when.startswith("while"):
        assert vacuum.vacuum(store, unused) == 0
    else:
        write()
    if when.startswith("before the"):
        sweep(kept.store, kept.name, LATER + 2 * DAY)
    elif when.startswith("before it"):
        assert vacuum.vacuum(kept.store, unused) == 0
    assert read()


def test_a_fit_whose_blocks_a_vacuum_takes_is_not_committed(kept):
    """It found blocks of an attempt that died long ago, and a vacuum deletes them before the record is there."""
    record = finished.read_fit(kept.store, kept.name, 0)
    kept.store.delete(keys.fit(kept.name, 0))

    class Swept(type(kept.store)):
        def create(self, key, data):
            if key == keys.fit(kept.name, 3):
                removal.remove(kept.store, [block.key for block in record.blocks])
            return super().create(key, data)

    store = Swept()
    store.objects, store.modified = kept.store.objects, kept.store.modified
    with pytest.raises(StoreUnavailableError, match="fit again"):
        fits.commit(store, record, [(block.first, block.last) for block in record.blocks])
    assert finished.numbers(store, kept.name) == [1, 2]
