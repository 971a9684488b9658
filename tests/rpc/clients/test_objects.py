import threading

import pytest
from datamodels.services.query import objects
from datamodels.services.query.service import service

from datamodels.errors import CorruptObjectError, DeniedError, InputError, ObjectNotFoundError
from datamodels.query.weights import WeightStore
from datamodels.rpc.clients.objects import RunStore
from datamodels.rpc.clients.query import QueryClient
from datamodels.rpc.serve import Server
from datamodels.settings import ClientSettings, ServeSettings
from datamodels.storage import keys
from datamodels.testing import fitted as made
from tests.helpers.waiting import LIMIT


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Yield (the store, a client of its query service, the run)."""
    store, run, _ = made.make_store(tmp_path_factory.mktemp("store"))
    with (
        Server(ServeSettings(), [service(WeightStore(store))]) as server,
        QueryClient(server.address, ClientSettings()) as client,
    ):
        yield store, client, run.name


@pytest.fixture
def remote(places):
    _, client, run = places
    return RunStore(client, run, "here")


def test_it_has_what_the_store_has_of_the_run(places, remote):
    store, _, run = places
    for prefix in keys.prefixes(run):
        there = list(store.entries(prefix))
        assert list(remote.entries(prefix)) == there
        assert list(remote.entries(prefix, deep=False)) == list(store.entries(prefix, deep=False))
        if there:
            assert list(remote.list(prefix, after=there[0].key)) == [entry.key for entry in there[1:]]
        assert all(remote.read(entry.key) == store.read(entry.key) for entry in there)
    assert remote.newest(keys.fits(run)) == 0 and not remote.exists(keys.fit(run, 1))
    with pytest.raises(ObjectNotFoundError):
        remote.read(keys.fit(run, 1))


def test_lists_are_read_page_by_page_and_large_objects_piece_by_piece(places, monkeypatch):
    store, client, run = places
    written = {keys.manifest(run, version): bytes([version]) * (objects.PIECE + 1) for version in range(100, 107)}
    for key, data in written.items():
        store.create(key, data)
    monkeypatch.setattr("datamodels.query.pages.DEFAULT_SIZE", 3)
    found = [entry.key for entry in client.objects(run, f"aggregate/{run}/manifest/00000001")]
    assert found == list(written)
    assert all(client.object(run, key) == data for key, data in written.items())


def test_what_is_created_stays_here(places, remote):
    store, _, run = places
    key, there = keys.evaluation(run, 7), next(store.list(f"fit/{run}/"))
    assert remote.create(key, b"mine") and not remote.create(key, b"again") and not remote.create(there, b"x")
    assert remote.read(key) == b"mine" and key in remote.list(f"query/{run}/") and not store.exists(key)
    remote.delete(key)
    remote.delete(key)
    assert not remote.exists(key)
    with pytest.raises(DeniedError, match="only reads"):
        remote.delete(there)


def test_no_other_run_and_nothing_outside_of_the_store_is_read(places):
    _, client, run = places
    for prefix in ("", "fit/", "runs/", f"fit/{run}", f"fit/{run}/../", "preflight/"):
        with pytest.raises(InputError):
            list(client.objects(run, prefix))
    for key in ("", "runs/another-0123456789ab.json", f"fit/{run}/../../x", "/etc/passwd", "preflight/ping"):
        with pytest.raises(InputError):
            client.object(run, key)


def test_bytes_that_are_altered_on_the_way_are_found(places, remote):
    store, _, run = places
    key = next(store.list(f"fit/{run}/"))
    with pytest.raises(CorruptObjectError):
        remote.get(key, sha256="0" * 64)


def test_a_service_that_sends_too_much_at_once_asks_to_wait(places, monkeypatch):
    """A call waits until another ends, and keeps none of the threads meanwhile."""
    store, client, run = places
    key = next(store.list(f"fit/{run}/"))
    began, may_end = threading.Semaphore(0), threading.Event()
    plain = type(store).read

    def slowly(self, key):
        began.release()
        assert may_end.wait(LIMIT)
        return plain(self, key)

    monkeypatch.setattr(type(store), "read", slowly)
    found = []
    asking = [threading.Thread(target=lambda: found.append(client.object(run, key))) for _ in range(objects.READS + 1)]
    for thread in asking:
        thread.start()
    for _ in range(objects.READS):
        assert began.acquire(timeout=LIMIT)
    may_end.set()
    for thread in asking:
        thread.join(LIMIT)
    assert len(found) == objects.READS + 1 and set(found) == {plain(store, key)}
