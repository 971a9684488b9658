"""What estimators know of the examples is in the store, computed once by whoever asks for a fit."""

import hashlib
import io
import json

import numpy as np
import pytest

from datamodels.errors import CorruptObjectError, NotReadyError, SpecError
from datamodels.fit.data import examples
from datamodels.run import runs, specs
from datamodels.run.estimators import FLAT
from datamodels.storage import keys, records
from datamodels.storage.local import LocalStore
from datamodels.train import Dataset

CALLS = []


def counted(x):
    CALLS.append(len(x))
    return x.reshape(len(x), -1)


def made(y, dtype="f4", estimator="prior", features=f"{__name__}:counted"):
    rng = np.random.default_rng(0)
    data = Dataset(rng.normal(size=(9, 2, 3)).astype(dtype), y[:9], rng.normal(size=(4, 2, 3)).astype(dtype), y[9:])
    fit = {"estimator": estimator, "features": features}
    spec = {"name": "try", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100, "fit": fit}
    return runs.resolve(specs.parse(spec), data), data


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
@pytest.mark.parametrize(
    "y", [np.arange(13) % 3, np.linspace(0, 1, 13), np.array(list("abcabcabcabca")), np.ones((13, 2))]
)
def test_the_store_gives_back_what_was_computed(tmp_path, monkeypatch, dtype, y):
    monkeypatch.setattr(examples, "BLOCK_BYTES", 40)
    store, (run, data) = LocalStore(tmp_path), made(y, dtype)
    with pytest.raises(NotReadyError, match=f"datamodels fit {run.name} --fit estimator=prior` computes them"):
        examples.read(store, run)
    CALLS.clear()
    examples.write(store, run, data)
    examples.write(store, run, data)
    assert CALLS == [9, 4], "computed more than once"
    found = examples.read(store, run)
    for name, expected in (("x", data.x), ("x_targets", data.x_test), ("y", data.y), ("y_targets", data.y_test)):
        array = getattr(found, name)
        wanted = expected.reshape(len(expected), -1) if name.startswith("x") else expected
        assert array.dtype == wanted.dtype
        np.testing.assert_array_equal(array, wanted)


def test_other_features_are_other_objects_and_other_estimators_need_none(tmp_path):
    store, (run, data) = LocalStore(tmp_path), made(np.arange(13) % 3)
    examples.write(store, run, data)
    examples.require(store, made(np.arange(13) % 3, estimator="weighted")[0])
    with pytest.raises(NotReadyError):
        examples.require(store, made(np.arange(13) % 3, estimator="weighted", features=FLAT)[0])
    plain = made(np.arange(13) % 3, estimator="ridge", features=FLAT)[0]
    examples.write(store, plain, data)
    examples.require(store, plain)
    assert len([key for key in store.list(keys.RUNS) if "features" in key]) == 1


def test_the_default_estimator_does_without_examples_and_says_why(tmp_path):
    store, (run, data) = LocalStore(tmp_path), made(np.arange(13) % 3, features=FLAT)
    examples.require(store, run)
    assert examples.read(store, run) == examples.Absent("the store has none of its examples")

    def broken():
        raise SpecError("dataset.load: no such file")

    examples.write_from(store, run, broken)
    assert examples.read(store, run) == examples.Absent("dataset.load: no such file")
    for named in (made(np.arange(13) % 3)[0], made(np.arange(13) % 3, estimator="weighted", features=FLAT)[0]):
        with pytest.raises(SpecError, match="no such file"):
            examples.write_from(store, named, broken)
    examples.write(store, run, data)
    assert examples.read(store, run).x.shape == (9, 6), "the data set can be loaded by now"


@pytest.mark.parametrize("damage", ["altered", "gone", "pickled", "short"])
def test_damage_is_found_and_nothing_is_unpickled(tmp_path, damage):
    store, (run, data) = LocalStore(tmp_path), made(np.arange(13) % 3)
    examples.write(store, run, data)
    (path, *_) = (tmp_path / "runs" / run.name / "examples").iterdir()
    if damage in ("altered", "gone"):
        path.unlink() if damage == "gone" else path.write_bytes(b"\x80\x04." + path.read_bytes())
    else:  # whoever may write to the store can also write the checksum
        file = io.BytesIO()
        np.save(file, np.array([{}], dtype=object) if damage == "pickled" else np.zeros((1, 6)), allow_pickle=True)
        sha256 = hashlib.sha256(file.getvalue()).hexdigest()
        store.create(keys.examples(run.name, sha256), file.getvalue())
        (record,) = (tmp_path / "runs" / run.name).glob("features-*.json")
        body = json.loads(record.read_text())["body"]
        body["arrays"]["x"] = [{"rows": 1, "sha256": sha256}]
        record.unlink()
        records.create(store, f"runs/{run.name}/{record.name}", body)
    with pytest.raises(CorruptObjectError):
        examples.read(store, run)
