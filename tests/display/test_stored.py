import dataclasses

import numpy as np
import pytest

from datamodels.display import stored
from datamodels.display.looks import POOL, TARGET, Loaded
from datamodels.errors import CorruptObjectError
from datamodels.run import runs, specs
from datamodels.run.dataset import Dataset
from datamodels.storage import keys
from tests.display.test_picture import read_png
from tests.helpers.memory import MemoryStore

D, N = 30, 5


def make(targets="both", display=None, **fields):
    """A store, a run that it has, and the run's data set: a table, unless the fields say something else."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(D + N, 12)), np.arange(D + N) % 3
    data = Dataset(x[:D], y[:D], x[D:], y[D:], label_names=("<b>cat</b>", "dog", "hen"))
    data = dataclasses.replace(data, **fields)
    spec = {"name": "shown", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 20, "targets": targets}
    run = runs.resolve(specs.parse(spec | ({} if display is None else {"display": display})), data)
    store = MemoryStore()
    runs.create(store, run)
    return store, run, data


def looks_of(store, run, data):
    assert stored.write(store, run, data)
    return stored.open_looks(store, runs.read(store, run.name))


def same(one, other):
    fields = {f.name: (getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one)}
    np.testing.assert_array_equal(*fields.pop("row"))
    return all(left == right for left, right in fields.values())


@pytest.mark.parametrize(
    "fields",
    [
        {"feature_names": ("width", "height"), "feature_units": ("cm", "cm")},
        {"image_shape": (2, 2, 3), "titles": [f"{i}.png" for i in range(D)]},
        {"texts": [f"pool {i}" for i in range(D)], "texts_test": ["long " * 20] * N, "spans_test": [(50, 54)] * N},
        {"y": np.linspace(0, 1, D), "y_test": np.linspace(0, 1, N), "label_names": ()},
        {"y": np.array(["a", "b"] * 15), "y_test": np.array(["a"] * N), "label_names": ()},
    ],
    ids=["table", "pictures", "spans", "regression", "text labels"],
)
@pytest.mark.parametrize("size", [stored.CHUNK_BYTES, 300], ids=["one chunk", "chunks"])
def test_looks_are_those_of_the_data_set(monkeypatch, fields, size):
    monkeypatch.setattr(stored, "CHUNK_BYTES", size)
    store, run, data = make(display={"letters": 20}, **fields)
    found, loaded = looks_of(store, run, data), Loaded(run, data)
    assert all(same(found.pool(i), loaded.pool(i)) for i in range(D))
    assert all(same(found.target(t), loaded.target(t)) for t in range(N + D))
    assert same(found.target(N + 7), found.pool(7))
    if size == 300:
        assert len(found.record.chunks) > 2
    if "feature_units" in fields:
        assert found.features.names[:3] == ["width", "height", "x2"] and found.features.units == ["cm", "cm"]
        np.testing.assert_allclose(found.features.mean, data.x.mean(axis=0))
    if "spans_test" in fields:
        first, last = found.target(0).span
        assert found.target(0).text[first:last] == ("long " * 20)[50:54] and len(found.target(0).text) < 25


def test_pictures_are_bounded_and_what_is_no_picture_stops_nothing():
    store, run, data = make(image_shape=(3, 4), display={"pixels": 8})
    assert read_png(looks_of(store, run, data).pool(0).picture).shape == (3, 4)
    wide = np.random.default_rng(0).random((D, 40, 20))
    store, run, data = make("train", x=wide, x_test=wide[:N], image_shape=(40, 20), display={"pixels": 8})
    assert read_png(looks_of(store, run, data).target(3).picture).shape == (8, 4)
    store, run, data = make(image_shape=(5, 5))
    assert looks_of(store, run, data).pool(0).picture is None


def test_a_spec_may_keep_looks_out_of_the_store_under_the_same_name():
    store, run, data = make(display={"store": False})
    assert run.name == make()[1].name
    assert not stored.write(store, run, data) and stored.open_looks(store, run) is None
    assert not [key for key in store.objects if "display" in key]
    assert specs.parse(run.spec.request()).display == run.spec.display


def test_looks_are_written_once_and_names_of_classes_may_change():
    store, run, data = make()
    found = looks_of(store, run, data)
    before = dict(store.objects)
    assert not stored.write(store, run, data) and store.objects == before
    assert found.pool(0).name == "<b>cat</b>"
    runs.create(store, dataclasses.replace(run, label_names=("x", "y", "z")))
    assert stored.open_looks(store, runs.read(store, run.name)).pool(0).name == "x"


def test_a_second_writer_loses_and_its_chunks_are_listed_nowhere():
    store, run, data = make()

    class Late(MemoryStore):
        """Another writer commits first."""

        def exists(self, key):
            return False

    late = Late()
    late.objects = store.objects
    late.modified = store.modified
    first = looks_of(store, run, data)
    assert not stored.write(late, run, data)
    listed = {chunk.key for chunk in stored.read_record(store, run.name).chunks}
    assert listed == {chunk.key for chunk in first.record.chunks}
    assert len([key for key in store.objects if keys.kind(key) == "looks"]) == 2 * len(listed)


def test_a_damaged_chunk_is_named():
    store, run, data = make()
    found = looks_of(store, run, data)
    key = found.record.chunks[0].key
    store.objects[key] = store.objects[key][:-1] + b"?"
    with pytest.raises(CorruptObjectError, match=key):
        found.pool(0)
    del store.objects[key]
    with pytest.raises(CorruptObjectError, match="is gone"):
        found.pool(0)


def test_columns_of_all_chunks_are_read_in_order(monkeypatch):
    monkeypatch.setattr(stored, "CHUNK_BYTES", 300)
    found = looks_of(*make(titles=[f"{i}.png" for i in range(D)]))
    titles = [title for table in found.tables(POOL, ["title"]) for title in table["title"].to_pylist()]
    assert titles == [f"{i}.png" for i in range(D)]
    assert sum(len(table) for table in found.tables(TARGET, ["index"])) == N
