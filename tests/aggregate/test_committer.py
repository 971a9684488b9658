"""Runs, automatic publishing and watching. Faults are tested in test_protocol."""

import dataclasses
import itertools
import threading

import numpy as np
import pytest

from datamodels.aggregate import committer as committers
from datamodels.aggregate import manifest
from datamodels.aggregate.committer import Committer
from datamodels.errors import (
    ConflictError,
    CorruptObjectError,
    InputError,
    RunNotFoundError,
    SettingsError,
    SpecError,
    StoreUnavailableError,
)
from datamodels.run import specs
from datamodels.settings import AggregatorSettings
from datamodels.storage import keys
from datamodels.storage.local import LocalStore
from datamodels.testing import committed
from tests.helpers.waiting import eventually

NEVER = AggregatorSettings(publish_interval=100_000)
SOON = AggregatorSettings(publish_interval=0.05)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


@pytest.fixture
def committer(store, run):
    committer = Committer(store, NEVER)
    committer.create(run)
    return committer


def test_creating_a_run_twice_does_nothing(store, run):
    assert Committer(store).create(run) is True
    assert Committer(store).create(run) is False
    assert Committer(store).run(run.name).document() == run.document()


def test_a_run_whose_data_changed_is_a_conflict(committer, run):
    with pytest.raises(ConflictError, match="labels is not what the run was created with"):
        committer.create(dataclasses.replace(run, labels=run.labels[::-1].copy()))


@pytest.mark.parametrize("name", ["nothing-0123456789ab", "no/such/run", "a"])
def test_a_run_that_does_not_exist(store, name):
    committer = Committer(store)
    for call in (committer.run, committer.publish, committer.progress, lambda n: next(committer.watch(n))):
        with pytest.raises(RunNotFoundError, match=name):
            call(name)


def test_a_run_is_found_once_it_is_created(store, run):
    committer = Committer(store)
    with pytest.raises(RunNotFoundError):
        committer.progress(run.name)
    Committer(store).create(run)
    assert committer.progress(run.name).committed == 0


def test_targets_that_are_not_examples(store, run):
    for own, message in (([0, 12, -1, -1, -1], "target 1 is training example 12"), ([], "the data set has no targets")):
        with pytest.raises(InputError, match=message):
            Committer(store).create(dataclasses.replace(run, own=np.array(own, dtype=np.int32)))
    with pytest.raises(InputError, match="target 0 is training example -2; each must be -1 or 0 to 11"):
        Committer(store).create(dataclasses.replace(run, own=np.full(5, -2, dtype=np.int32)))


def test_parts_that_are_too_large(store, run):
    large = specs.parse(run.spec.document() | {"m": 10**6, "chunk": 10**6, "sub_chunk": 10**6})
    own = np.full(600, -1, dtype=np.int32)
    with pytest.raises(SpecError, match=r"sub_chunk = 1000000: makes parts of 2.2 GiB .* lower it to 894784 or less"):
        Committer(store).create(dataclasses.replace(run, spec=large, own=own))


@pytest.mark.parametrize("interval", [-1.0, float("inf"), float("nan")])
def test_a_wrong_interval_is_refused(store, interval):
    with pytest.raises(SettingsError, match="DATAMODELS_AGGREGATOR_PUBLISH_INTERVAL"):
        Committer(store, AggregatorSettings(publish_interval=interval))


def test_progress(committer, run, sub_chunks, make_outputs):
    committer.put(make_outputs(sub_chunks[0]))
    committer.put(make_outputs(sub_chunks[1], failed=(5, 6)))
    committer.put(make_outputs(sub_chunks[6]))
    progress = committer.progress(run.name)
    assert (progress.models, progress.committed, progress.failed, progress.manifest_version) == (26, 10, 2, -1)
    assert progress.ranges == [range(0, 8), range(24, 26)]
    assert progress.covers(range(2, 8)) and not progress.covers(range(6, 10)) and not progress.complete


def test_a_known_part_is_not_written_again(protocol, store, run, sub_chunks, make_outputs):
    faulty = protocol.FaultyStore(store)
    committer = Committer(faulty)
    committer.create(run)
    assert committer.put(make_outputs(sub_chunks[0], 1)) is True
    faulty.calls.clear()
    assert committer.put(make_outputs(sub_chunks[0], 2)) is False
    assert faulty.calls == []


def test_another_aggregators_part_is_read_from_the_store(store, run, sub_chunks, make_outputs):
    one, two = Committer(store), Committer(store)
    one.create(run)
    assert one.progress(run.name) == two.progress(run.name)
    assert one.put(make_outputs(sub_chunks[0], 1, failed=(2,)))
    assert two.put(make_outputs(sub_chunks[0], 2)) is False
    assert two.part(run.name, sub_chunks[0]) == one.part(run.name, sub_chunks[0])
    assert two.progress(run.name).failed == 1


def test_publishing_lists_what_others_committed_and_did_not_publish(store, run, sub_chunks, make_outputs):
    one, two = Committer(store, NEVER), Committer(store, NEVER)
    one.create(run)
    two.progress(run.name)
    one.put(make_outputs(sub_chunks[0]))
    assert two.publish(run.name) == 0
    assert manifest.read_newest(store, run.name).ranges == [range(0, 4)]
    assert two.publish(run.name) == 0  # nothing new
    assert one.publish(run.name) == 0


def test_a_truncated_part_found_after_a_crash_is_named(committer, store, tmp_path, run, sub_chunks, make_outputs):
    committer.put(make_outputs(sub_chunks[2]))
    key = keys.part(run.name, 8, 12)
    (tmp_path / key).write_bytes((tmp_path / key).read_bytes()[:100])
    with pytest.raises(CorruptObjectError, match=f"{key}: .* or train its models again with .datamodels repair"):
        Committer(store).progress(run.name)
    store.delete(key)
    assert Committer(store).progress(run.name).committed == 0


def test_foreign_objects_among_the_parts_are_left_alone(committer, store, run, sub_chunks, make_outputs):
    committer.put(make_outputs(sub_chunks[0]))
    store.create(keys.parts(run.name) + "notes.txt", b"hello")
    store.create(keys.part(run.name, 1, 3), b"no sub-chunk")
    assert Committer(store).progress(run.name).ranges == [range(0, 4)]


def test_manifests_are_written_in_groups_and_at_once_when_complete(store, run, sub_chunks, make_outputs):
    with Committer(store, NEVER) as committer:
        committer.create(run)
        committer.put(make_outputs(sub_chunks[0]))
        eventually(lambda: committer.progress(run.name).manifest_version == 0)
        for models in sub_chunks[1:-1]:
            committer.put(make_outputs(models))
        assert manifest.read_newest(store, run.name).version == 0
        committer.put(make_outputs(sub_chunks[-1]))
        eventually(lambda: committer.progress(run.name).manifest_version == 1)
    newest = manifest.read_newest(store, run.name)
    assert newest.version == 1 and newest.committed == run.spec.models


def test_manifests_are_written_again_after_the_interval(store, run, sub_chunks, make_outputs):
    with Committer(store, SOON) as committer:
        committer.create(run)
        for version, models in enumerate(sub_chunks[:3]):
            committer.put(make_outputs(models))
            eventually(lambda version=version: committer.progress(run.name).manifest_version == version)
    assert manifest.read_newest(store, run.name).committed == 12


def test_closing_publishes_what_is_left(store, run, sub_chunks, make_outputs):
    with Committer(store, NEVER) as committer:
        committer.create(run)
        committer.put(make_outputs(sub_chunks[0]))
        eventually(lambda: committer.progress(run.name).manifest_version == 0)
        committer.put(make_outputs(sub_chunks[1]))
    assert manifest.read_newest(store, run.name).committed == 8


def test_a_manifest_that_could_not_be_written_is_retried(protocol, store, run, sub_chunks, make_outputs):
    faulty = protocol.FaultyStore(store)
    with Committer(faulty, SOON) as committer:
        committer.create(run)
        committer.progress(run.name)
        # The next call creates the part, and the one after it the manifest.
        faulty.fault = protocol.Fault(len(faulty.calls) + 1, StoreUnavailableError("by test"), after=False)
        assert committer.put(make_outputs(sub_chunks[0])) is True
        eventually(lambda: manifest.read_newest(store, run.name).version == 0)
    assert len(faulty.calls) > faulty.fault.call
    assert manifest.read_newest(store, run.name).committed == 4


def test_watching_reports_progress_up_to_the_end(store, run, sub_chunks, make_outputs):
    with Committer(store, SOON) as committer:
        committer.create(run)
        seen, first = [], threading.Event()

        def watch():
            for progress in committer.watch(run.name):
                seen.append(progress)
                first.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        first.wait()
        for models in sub_chunks:
            committer.put(make_outputs(models))
        watcher.join()
    assert seen[0].committed == 0 and seen[-1].complete
    assert [p.committed for p in seen] == sorted(p.committed for p in seen)
    assert all(a != b for a, b in itertools.pairwise(seen))


def test_watching_sees_what_other_aggregators_published(store, run, sub_chunks, make_outputs):
    one, two = Committer(store, SOON), Committer(store, SOON)
    one.create(run)
    watch = two.watch(run.name)
    assert next(watch).committed == 0
    one.put(make_outputs(sub_chunks[0]))
    one.publish(run.name)
    assert next(watch).committed == 4


def test_watching_a_complete_run_reports_it_once(committer, run, sub_chunks, make_outputs):
    for models in sub_chunks:
        committer.put(make_outputs(models))
    assert [p.committed for p in committer.watch(run.name)] == [26]


def test_a_watch_that_is_no_longer_active_ends_when_woken(committer, run):
    active, seen = threading.Event(), []
    active.set()

    def watch():
        for progress in committer.watch(run.name, active.is_set):
            seen.append(progress)

    watcher = threading.Thread(target=watch)
    watcher.start()
    eventually(lambda: seen)
    active.clear()
    while watcher.is_alive():  # it may not have started to wait yet
        committer.wake()
        watcher.join(0.01)
    assert len(seen) == 1


def test_runs_that_nobody_asks_for_are_forgotten(monkeypatch, protocol, run, make_outputs, sub_chunks):
    """But not one with a part that no manifest lists."""
    names = [run.name]
    committer = Committer(protocol.MemoryStore())
    committer.create(run)
    for name in ("one", "two"):
        other = committed.make_run(name=name)
        committer.create(other)
        names.append(other.name)
    monkeypatch.setattr(committers, "IDLE_SECONDS", 0.0)
    committer.put(make_outputs(sub_chunks[0], 1))
    for name in names[1:]:
        committer.progress(name)
    assert list(committer._ledgers) == [run.name, names[2]]
    committer.publish(run.name)
    committer.progress(names[1])
    assert list(committer._ledgers) == [names[1]]
    assert committer.progress(run.name).committed == 4


def test_a_run_that_is_deleted_can_be_made_again_at_once(protocol, run, make_outputs, sub_chunks):
    store = protocol.MemoryStore()
    committer = Committer(store)
    for writer in range(2):
        assert committer.create(run)
        assert committer.put(make_outputs(sub_chunks[0], writer))
        assert committer.publish(run.name) == 0
        for key in list(store.list("")):
            store.delete(key)
