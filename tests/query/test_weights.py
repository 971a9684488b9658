import threading

import numpy as np
import pytest
from prometheus_client import REGISTRY

from datamodels.errors import (
    CorruptObjectError,
    InputError,
    MaskError,
    NotReadyError,
    PageTokenError,
    RunNotFoundError,
    TargetRangeError,
)
from datamodels.query.cache import size_of
from datamodels.query.weights import WeightStore
from datamodels.run import designs, runs
from datamodels.storage import keys
from datamodels.testing import fitted as made
from datamodels.v1 import query_pb2


def message(run):
    return query_pb2.Run(run=run.name)


@pytest.fixture
def fitted(tmp_path):
    store, run, theta = made.make_store(tmp_path)
    return WeightStore(store).fitted(run.name), theta


def test_predictions_are_the_linear_models(fitted):
    found, theta = fitted
    masks = designs.subsets(found.run.design, 0, 11)
    members = designs.unpack(masks, made.D)
    expected = members @ theta.T.astype(float) + np.arange(made.N)
    np.testing.assert_allclose(found.predict(masks), expected, rtol=1e-4, atol=1e-5)
    for chosen in ([7, 2], list(range(made.N))[::-1]):
        asked = found.predict(masks, np.array(chosen, dtype=np.int32))
        np.testing.assert_allclose(asked, expected[:, chosen], rtol=1e-4, atol=1e-5)


def test_top_influences_are_the_extreme_weights(fitted):
    found, theta = fitted
    helpful, harmful = found.top(3, 4)
    order = np.argsort(theta[3])
    assert [column for column, _ in harmful] == order[:4].tolist()
    assert [column for column, _ in helpful] == order[::-1][:4].tolist()
    assert all(w > 0 for _, w in helpful) and all(w < 0 for _, w in harmful)


def test_a_target_without_weights_has_no_influences(fitted):
    assert fitted[0].top(1, 5) == ([], [])


@pytest.mark.parametrize("room", [1, 7, 20, 10_000])
@pytest.mark.parametrize("top_k", [0, 3])
@pytest.mark.parametrize("chosen", [None, np.int32([7, 1, 2, 0])])
def test_chunks_hold_every_weight_once_and_stay_small(fitted, room, top_k, chosen):
    found, theta = fitted
    rows = {}
    for piece in found.chunks(found.targets(chosen), top_k, room):
        assert len(piece.targets) > 0 and len(piece.columns) == len(piece.weights) == piece.indptr[-1] <= room
        for target, start, stop in zip(piece.targets.tolist(), piece.indptr[:-1], piece.indptr[1:], strict=True):
            pairs = zip(piece.columns[start:stop].tolist(), piece.weights[start:stop].tolist(), strict=True)
            rows.setdefault(target, []).extend(pairs)
    assert list(rows) == (list(range(made.N)) if chosen is None else chosen.tolist())
    for target, pairs in rows.items():
        nonzero = np.flatnonzero(theta[target])
        if top_k:
            nonzero = nonzero[np.argsort(-np.abs(theta[target, nonzero]))][:top_k]
        assert pairs == [(c, theta[target, c]) for c in nonzero.tolist()]


@pytest.mark.parametrize(
    "ask, error, fault",
    [
        (lambda f: f.targets(np.array([3, made.N])), TargetRangeError, "target 9: must be 0 to 8"),
        (lambda f: f.targets(np.array([-1])), TargetRangeError, "target -1"),
        (lambda f: f.targets(np.array([3, 3])), InputError, "given twice"),
        (lambda f: f.top(made.N, 3), TargetRangeError, "target 9"),
        (lambda f: f.top(0, 2000), InputError, "k = 2000"),
        (lambda f: f.predict(np.zeros((1, 3), np.uint8)), MaskError, "60 columns take 8 bytes"),
        (lambda f: f.predict(np.full((1, 8), 255, np.uint8)), MaskError, "beyond its 60 columns"),
        (lambda f: f.predict(np.zeros((200_000, 8), np.uint8)), InputError, "ask for fewer"),
    ],
)
def test_bad_arguments_are_refused(fitted, ask, error, fault):
    with pytest.raises(error, match=fault):
        ask(fitted[0])


def test_unknown_runs_and_runs_without_weights_are_told_apart(tmp_path):
    store, _, _ = made.make_store(tmp_path)
    unfitted = made.make_run(name="raw")
    runs.create(store, unfitted)
    with pytest.raises(RunNotFoundError):
        WeightStore(store).fitted("nope")
    with pytest.raises(NotReadyError, match="no weights yet"):
        WeightStore(store).fitted(unfitted.name)


def test_the_newest_fit_is_the_default_and_older_ones_are_available(tmp_path):
    store, run, theta = made.make_store(tmp_path)
    weights = WeightStore(store, refresh=0)
    assert weights.fitted(run.name).record.number == 0
    made.commit_fit(store, run, theta + 1, digest="d1")
    assert weights.fitted(run.name).record.number == 1
    assert weights.fitted(run.name, 0).record.digest == "d0"


def test_a_flipped_byte_in_the_weights_is_found_and_named(tmp_path):
    store, run, _ = made.make_store(tmp_path)
    path = tmp_path / keys.weights(run.name, "d0", 0, made.N)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptObjectError, match=path.name):
        WeightStore(store).fitted(run.name)


def test_missing_weights_are_a_damaged_store(tmp_path):
    store, run, _ = made.make_store(tmp_path)
    (tmp_path / keys.weights(run.name, "d0", 0, made.N)).unlink()
    with pytest.raises(CorruptObjectError, match="is gone"):
        WeightStore(store).fitted(run.name)


def test_a_damaged_run_and_foreign_objects_hide_no_other_run(tmp_path):
    store, run, _ = made.make_store(tmp_path)
    store.create("runs/README.txt", b"hello")
    store.create(keys.run("bad-000000000000"), b"{}")
    assert [r.run for r in WeightStore(store).page_of_runs(0, "", message)[0]] == [run.name]


def test_memory_is_bounded_by_capacity(tmp_path):
    store, run, theta = made.make_store(tmp_path)
    for number in range(1, 5):
        made.commit_fit(store, run, theta, digest=f"d{number}")
    weights = WeightStore(store, capacity=2)
    first = weights.fitted(run.name, 0)
    for number in range(1, 5):
        weights.fitted(run.name, number)
    assert weights.fitted(run.name, 0) is not first
    assert weights.fitted(run.name, 4) is weights.fitted(run.name, 4)


def test_memory_is_bounded_by_bytes(tmp_path):
    store, run, theta = made.make_store(tmp_path)
    for number in range(1, 5):
        made.commit_fit(store, run, theta, digest=f"d{number}")
    loaded = WeightStore(store).fitted(run.name, 0)
    size = size_of(loaded.solution) + size_of(loaded.run)
    assert size > loaded.solution.weights.nbytes + loaded.solution.columns.nbytes
    weights = WeightStore(store, keep_bytes=2 * size + 100)
    found = [weights.fitted(run.name, number) for number in range(5)]
    shown = REGISTRY.get_sample_value("datamodels_query_memory_bytes")
    assert 0.9 * 2 * size < shown <= 2 * size + 100
    assert weights.fitted(run.name, 4) is found[4] and weights.fitted(run.name, 3) is found[3]
    assert weights.fitted(run.name, 2) is not found[2]


def test_concurrent_calls_load_a_fit_once(tmp_path):
    store, run, _ = made.make_store(tmp_path)
    weights, found = WeightStore(store), []
    threads = [threading.Thread(target=lambda: found.append(weights.fitted(run.name))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(map(id, found))) == 1


def test_runs_come_in_pages(tmp_path):
    store, run, _ = made.make_store(tmp_path)
    names = {run.name}
    for i in range(6):
        other = made.make_run(name=f"r{i}")
        runs.create(store, other)
        names.add(other.name)
    weights, token, seen = WeightStore(store), "", []
    for _ in range(10):
        page, token = weights.page_of_runs(3, token, message)
        seen += [run.run for run in page]
        if not token:
            break
    assert seen == sorted(names)
    with pytest.raises(PageTokenError):
        weights.page_of_runs(3, "nonsense", message)


def test_a_deleted_run_is_forgotten(tmp_path):
    store, run, theta = made.make_store(tmp_path)
    weights = WeightStore(store, refresh=0)
    assert weights.fitted(run.name).record.number == 0
    record = store.read(keys.run(run.name))
    for key in list(store.list("")):
        store.delete(key)
    with pytest.raises(RunNotFoundError):
        weights.fitted(run.name)
    store.create(keys.run(run.name), record)
    with pytest.raises(NotReadyError):
        weights.fitted(run.name)
    made.commit_fit(store, run, 2 * theta)
    assert weights.fitted(run.name).theta.sum() == pytest.approx(2 * theta.sum(), rel=1e-4)
