import pytest

from datamodels.errors import StoreUnavailableError
from datamodels.query.warm import Warm
from datamodels.query.weights import WeightStore
from datamodels.run import runs
from datamodels.storage import keys
from datamodels.storage.local import LocalStore
from datamodels.testing import fitted as made


class Counting(LocalStore):
    """Counts reads of blocks of weights, and does not answer while `away`."""

    reads, away = 0, False

    def read(self, key):
        if self.away:
            raise StoreUnavailableError("away")
        self.reads += keys.kind(key) == "weights"
        return super().read(key)


@pytest.fixture
def store(tmp_path):
    return Counting(tmp_path)


def test_a_service_is_ready_once_the_newest_fit_is_in_memory(store):
    old, new, bare = (made.make_run(name=name) for name in ("old", "new", "bare"))
    for run in (old, new):
        runs.create(store, run)
        made.commit_fit(store, run, made.make_theta(run))
    runs.create(store, bare)  # the newest, which has no fit yet
    weights = WeightStore(store)
    warm = Warm(weights)
    store.away = True
    with pytest.raises(StoreUnavailableError):
        warm.check()
    store.away = False
    warm.check()
    read = store.reads
    assert read
    weights.fitted(new.name)
    warm.check()
    assert store.reads == read
    weights.fitted(old.name)
    assert store.reads > read


def test_without_a_fit_and_with_one_that_cannot_be_read_a_service_is_ready(store, tmp_path):
    Warm(WeightStore(store)).check()
    run = made.make_run()
    runs.create(store, run)
    made.commit_fit(store, run, made.make_theta(run))
    for path in tmp_path.rglob("*.parquet"):
        path.write_bytes(b"damaged")
    Warm(WeightStore(store)).check()
