"""Runs of which a rule of the bucket has removed old manifests and fits."""

import pytest

from datamodels.aggregate import ledger as ledgers
from datamodels.aggregate import manifest
from datamodels.aggregate.ledger import Ledger
from datamodels.cli.runs import status
from datamodels.errors import SupersededError
from datamodels.fit.job import finished
from datamodels.lifecycle import compaction, removal
from datamodels.query.weights import WeightStore
from datamodels.storage import keys
from tests.helpers import protocol


def expire(kept, manifests=(), fits=()):
    for key in [*map(keys.manifests(kept.name), manifests), *map(keys.fits(kept.name), fits)]:
        kept.store.delete(key)


def test_it_opens_at_its_newest(kept):
    removal.make_whole(kept.store, kept.name)
    kept.store.delete(keys.evaluation(kept.name, 2))  # it is only text here
    expire(kept, manifests=range(5), fits=range(2))
    found = status.document(kept.store, kept.run, every=True)
    assert found["committed"] == 26 and [fit["fit"] for fit in found["fits"]] == [2]
    assert finished.require_fit(kept.store, kept.name).number == 2
    assert WeightStore(kept.store).fitted(kept.name).record.number == 2
    assert Ledger(kept.store, kept.run).publish() == 5


def test_gaps_between_numbers_do_not_hide_the_newest(kept):
    """S3 removes what has expired in any order."""
    removal.make_whole(kept.store, kept.name)
    expire(kept, manifests=(1, 2, 4), fits=(1,))
    assert manifest.read_newest(kept.store, kept.name).version == 5
    assert finished.numbers(kept.store, kept.name) == [0, 2]
    assert finished.read_newest_fit(kept.store, kept.name).number == 2


def test_a_service_that_knew_an_expired_fit_finds_the_newest(kept):
    weights = WeightStore(kept.store, refresh=0)
    assert weights.fits(kept.name) == 3
    expire(kept, fits=range(3))
    kept.store.create(keys.fit(kept.name, 6), b"")
    assert weights.fits(kept.name) == 7


@pytest.mark.parametrize("merge", [False, True])
def test_parts_of_a_manifest_that_the_newest_builds_on_are_found_again(kept, merge):
    """The whole manifests are gone, and a part was retired before."""
    if merge:
        compaction.compact(kept.store, kept.name)
        for key in [*kept.store.list(keys.parts(kept.name))][:5]:
            kept.store.delete(key)
    known = Ledger(kept.store, kept.run)
    known.publish(whole=True)
    outputs = protocol.outputs_maker(kept.run)
    for number in range(2):  # two small manifests after a whole one
        models = protocol.sub_chunks_of(kept.run)[5 + number]
        newest = manifest.read_newest(kept.store, kept.name)
        left = [part for part in newest.parts if part.first != models.start]
        assert manifest.create(kept.store, newest.rewritten(left, {**newest.retired, models.start: 1 + number}))
        writer = Ledger(kept.store, kept.run)
        writer._whole = float("inf")
        writer.put(outputs(models, 90 + number))
        writer.publish()
    versions = list(kept.store.numbers(keys.manifests(kept.name)))
    newest = manifest.read_newest(kept.store, kept.name)
    lost = [v for v in versions if v != newest.version]
    expire(kept, manifests=lost)
    if len(newest.segments) > 1:
        with pytest.raises(SupersededError, match="datamodels repair"):
            manifest.read_newest(kept.store, kept.name)
    again = Ledger(kept.store, kept.run)
    assert again.unlisted or again.version == newest.version
    again.publish()
    found = manifest.read_newest(kept.store, kept.name)
    assert found.parts == newest.parts and dict(found.retired) == dict(newest.retired)


def test_a_manifest_lists_everything_again_after_an_hour(monkeypatch, kept):
    run, outputs = kept.run, protocol.outputs_maker(kept.run)
    store = type(kept.store)()
    store.create(keys.run(run.name), kept.store.objects[keys.run(run.name)])
    ledger, sizes = Ledger(store, run), []
    for number, models in enumerate(protocol.sub_chunks_of(run)[:6]):
        if number == 5:
            monkeypatch.setattr(ledgers, "WHOLE_SECONDS", 0.0)
        ledger.put(outputs(models))
        ledger.publish()
        sizes.append([len(segment.parts) for segment in manifest.read_newest(store, run.name).segments])
    assert sizes == [[1], [2], [1, 2], [4], [1, 4], [6]]
