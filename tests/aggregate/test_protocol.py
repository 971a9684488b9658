"""The commit protocol under crashes: at every storage call, and in any order of several aggregators."""

import random
import threading
import time

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from datamodels.aggregate import ledger, manifest
from datamodels.aggregate.committer import Committer
from datamodels.errors import StoreUnavailableError
from datamodels.lifecycle import compaction, objects, removal, repair, vacuum
from datamodels.storage import keys
from tests.helpers.properties import examples


def script(committer, run, sub_chunks, make_outputs, writer, acknowledged):
    """Run the whole life of an aggregator. Each put that returns is acknowledged."""

    def put(models, failed=()):
        outputs = make_outputs(models, writer, failed)
        acknowledged.append((outputs, committer.put(outputs)))

    committer.create(run)
    put(sub_chunks[0])
    put(sub_chunks[3], failed=(sub_chunks[3].start,))
    committer.publish(run.name)
    put(sub_chunks[0])
    put(sub_chunks[1], failed=tuple(sub_chunks[1]))
    committer.progress(run.name)
    committer.publish(run.name)
    committer.publish(run.name)
    put(sub_chunks[2])
    for models in sub_chunks[4:]:
        put(models)
    committer.publish(run.name)


def count_calls(protocol, run, sub_chunks, make_outputs) -> int:
    store = protocol.FaultyStore(protocol.MemoryStore())
    script(Committer(store), run, sub_chunks, make_outputs, 0, [])
    return len(store.calls)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["crash", "unavailable"])
def test_a_fault_at_every_storage_call(protocol, run, sub_chunks, make_outputs, kind, after):
    """The call or its answer is lost. Then the process crashes, or it survives and retries."""
    calls = count_calls(protocol, run, sub_chunks, make_outputs)
    assert calls > 20
    for call in range(calls):
        error = protocol.Crash() if kind == "crash" else StoreUnavailableError("by test")
        memory = protocol.MemoryStore()
        store = protocol.FaultyStore(memory, protocol.Fault(call, error, after))
        committer, acknowledged = Committer(store), []
        with pytest.raises(type(error)):
            script(committer, run, sub_chunks, make_outputs, 1, acknowledged)
        if run.name in str(memory.objects.keys()):
            protocol.check(memory, run, acknowledged)
        # Writer 2 stands for retrained models, which are not identical bit by bit.
        again = Committer(memory) if kind == "crash" else committer
        script(again, run, sub_chunks, make_outputs, 2, acknowledged)
        protocol.check(memory, run, acknowledged)
        progress = Committer(memory).progress(run.name)
        assert progress.complete and progress.failed == 5
        assert progress.ranges == [range(run.spec.models)]


def test_the_check_fails_on_a_store_that_overwrites(protocol, run, sub_chunks, make_outputs):
    """Without conditional writes the protocol is not safe, and the check must find that."""
    store = protocol.OverwritingStore()
    one, two, acknowledged = Committer(store), Committer(store), []
    one.create(run)
    assert one.progress(run.name).committed == two.progress(run.name).committed == 0
    for committer, writer in ((one, 3), (two, 4)):
        outputs = make_outputs(sub_chunks[0], writer)
        acknowledged.append((outputs, committer.put(outputs)))
    with pytest.raises(AssertionError, match="I1"):
        protocol.check(store, run, acknowledged)


class Aggregators(RuleBasedStateMachine):
    """Up to three aggregators share one store. Each may crash in any storage call."""

    fixtures: tuple = ()

    @initialize()
    def start(self):
        self.protocol, self.run, self.sub_chunks, self.make_outputs = self.fixtures
        self.memory = self.protocol.MemoryStore()
        Committer(self.memory).create(self.run)
        self.stores = [self.protocol.FaultyStore(self.memory) for _ in range(3)]
        self.committers = [Committer(store) for store in self.stores]
        self.acknowledged = []
        self.writers = 0

    def attempt(self, who, fault, action):
        """Run an action of an aggregator. If `fault` is given, it crashes in that storage call and is restarted."""
        store = self.stores[who]
        store.calls.clear()
        store.fault = fault and self.protocol.Fault(fault[0], self.protocol.Crash(), fault[1])
        try:
            action(self.committers[who])
        except self.protocol.Crash:
            self.committers[who] = Committer(store)
        finally:
            store.fault = None

    WHO = st.integers(0, 2)
    FAULT = st.none() | st.tuples(st.integers(0, 6) | st.integers(0, 40), st.booleans())

    @rule(who=WHO, which=st.integers(0, 6), fails=st.integers(0, 2), fault=FAULT)
    def put(self, who, which, fails, fault):
        models = self.sub_chunks[which]
        self.writers += 1
        outputs = self.make_outputs(models, self.writers % 900, tuple(models[:fails]))
        retired = manifest.read_newest(self.memory, self.run.name).retired.get(models.start, 0)
        self.attempt(who, fault, lambda c: self.acknowledged.append((outputs, c.put(outputs), retired)))

    @rule(who=WHO, fault=FAULT)
    def publish(self, who, fault):
        self.attempt(who, fault, lambda c: c.publish(self.run.name))

    @rule(who=WHO, fault=FAULT)
    def progress(self, who, fault):
        self.attempt(who, fault, lambda c: c.progress(self.run.name))

    @rule(who=WHO, fault=FAULT, small=st.booleans())
    def compact(self, who, fault, small):
        self.housekeep(who, fault, lambda store: compaction.compact(store, self.run.name, 4000 if small else 2**20))

    @rule(who=WHO, fault=FAULT, first=st.integers(0, 25), count=st.integers(1, 9))
    def repair(self, who, fault, first, count):
        def action(store):
            models = range(first, min(first + count, self.run.spec.models))
            repair.retire(store, self.run.name, repair.faulty(store, self.run.name, models))

        self.housekeep(who, fault, action)

    @rule(who=WHO, fault=FAULT)
    def prune(self, who, fault):
        def action(store):
            removal.make_whole(store, self.run.name)
            found = objects.of_run(store, self.run.name)
            known = objects.references(store, found)
            removal.remove(store, removal.pruning(found, known, ended=time.time() + 1))

        self.housekeep(who, fault, action)

    @rule(who=WHO, fault=FAULT)
    def vacuum(self, who, fault):
        """Two vacuums, a day apart."""

        def action(store):
            for now in (time.time() + 2 * objects.DAY, time.time() + 4 * objects.DAY):
                vacuum.vacuum(store, vacuum.find(store, objects.of_run(store, self.run.name), now=now))

        self.housekeep(who, fault, action)

    def housekeep(self, who, fault, action):
        """Run a command that keeps runs, beside the aggregators."""
        self.attempt(who, fault, lambda committer: action(self.stores[who]))

    @rule(who=WHO)
    def restart(self, who):
        self.committers[who] = Committer(self.stores[who])

    @rule(who=WHO)
    def publish_lists_everything_acknowledged(self, who):
        version = self.committers[who].publish(self.run.name)
        newest = self.memory.newest(keys.manifests(self.run.name))
        assert version <= newest
        progress, newest = (
            self.committers[who].progress(self.run.name),
            manifest.read_newest(self.memory, self.run.name),
        )
        kept = [o.models for o, _, times in self.acknowledged if newest.retired.get(o.models.start, 0) == times]
        assert all(progress.covers(models) for models in kept)

    @invariant()
    def holds(self):
        if hasattr(self, "memory"):
            self.protocol.check(self.memory, self.run, self.acknowledged)


@pytest.mark.hypothesis  # for `make search`; Hypothesis marks what has `given` itself
def test_any_order_of_puts_publishes_and_crashes(monkeypatch, protocol, run, sub_chunks, make_outputs):
    # A vacuum deletes what has been unused for a day, and by then every aggregator has looked for a newer manifest.
    monkeypatch.setattr(ledger, "STALE_SECONDS", 0.0)

    class Machine(Aggregators):
        fixtures = (protocol, run, sub_chunks, make_outputs)

    run_state_machine_as_test(Machine, settings=examples(20, stateful_step_count=20))


def test_threads_of_several_aggregators_commit_each_sub_chunk_once(protocol, run, sub_chunks, make_outputs):
    store = protocol.MemoryStore()
    Committer(store).create(run)
    committers = [Committer(store) for _ in range(3)]
    acknowledged, together = [], threading.Barrier(9)

    def work(writer):
        order = random.Random(writer).sample(sub_chunks, len(sub_chunks))
        committer = committers[writer % 3]
        together.wait()
        for number, models in enumerate(order):
            outputs = make_outputs(models, writer)
            acknowledged.append((outputs, committer.put(outputs)))
            if number % 3 == writer % 3:
                committer.publish(run.name)

    threads = [threading.Thread(target=work, args=[writer]) for writer in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(committed for _, committed in acknowledged) == len(sub_chunks)
    assert len(acknowledged) == 9 * len(sub_chunks)
    committers[0].publish(run.name)
    protocol.check(store, run, acknowledged)
    assert committers[1].publish(run.name) == committers[2].publish(run.name)
    assert committers[2].progress(run.name).complete
