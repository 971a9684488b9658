import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.errors import CorruptObjectError, ObjectNotFoundError
from datamodels.fit.data import problem
from datamodels.fit.job import finished, fits
from datamodels.fit.job.finished import FitRecord
from datamodels.fit.residual import kept
from datamodels.storage import keys, records
from datamodels.storage.local import LocalStore
from datamodels.testing import fitted as made
from tests.helpers.memory import FlippingStore, MemoryStore, flipped


@pytest.fixture
def objects(tmp_path):
    return LocalStore(str(tmp_path / "store"))


def solution(n: int, d: int = 30, seed: int = 0) -> problem.Solution:
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.2)
    theta[0] = 0
    return problem.of_dense(
        theta,
        status=["no_rows"] + ["ok"] * (n - 1),
        lambda_=rng.random(n),
        gap=rng.random(n),
        heldout_r2=np.where(np.arange(n) == 0, np.nan, rng.random(n)),
        intercept=rng.normal(size=n),
    )


def record(solved: problem.Solution, **changes) -> FitRecord:
    fields = {
        "run": "digits-0123456789ab",
        "number": -1,
        "digest": "0" * 16,
        "manifest_version": 3,
        "spec_hash": "f" * 64,
        "solver": "saga",
        "settings": {"lambdas": 20},
        "rows": 100,
        "columns": solved.d,
        "targets": solved.n,
        "blocks": (),
        "seconds": 1.5,
    }
    return FitRecord(**fields | changes)


BLOCK = 4


def test_weights_of_a_prior_take_a_fraction_of_their_room_and_say_how_much_was_measured(objects):
    rng = np.random.default_rng(0)
    theta = rng.standard_t(3, size=(BLOCK, 2000)).astype(np.float32)
    few = kept.largest(theta, np.full((1, 2000), 0.25), rng.integers(10, size=2000))
    measured = theta * rng.normal(0.3, 0.2, size=theta.shape)
    nothing = np.zeros(BLOCK)
    of_all = {"lambda_": nothing, "gap": nothing, "heldout_r2": nothing, "intercept": nothing}
    solved = problem.of_dense(few, status=["ok"] * BLOCK, **of_all, measured=measured)
    fits.write(objects, "digits-0123456789ab", "0" * 16, 0, solved)
    written = objects.read_twice(keys.weights("digits-0123456789ab", "0" * 16, 0, BLOCK))
    assert len(written) < 0.6 * theta.nbytes
    found = fits.load(objects, fits.commit(objects, record(solved), [(0, BLOCK)]))
    np.testing.assert_array_equal(found.dense(range(BLOCK)), few)
    target, column = np.nonzero(few)
    miss = found.measured_at(target, column) - measured[target, column]
    assert np.abs(miss / few[target, column]).max() <= 1 / 16
    assert found.measured_at(np.array([1]), np.flatnonzero(few[1] == 0)[:1]).tolist() == [0]


def commit(objects, given: FitRecord, solved: problem.Solution) -> FitRecord:
    spans = [(first, min(first + BLOCK, solved.n)) for first in range(0, solved.n, BLOCK)]
    for first, last in fits.missing(objects, given.run, given.digest, spans):
        fits.write(objects, given.run, given.digest, first, problem.rows_of(solved, first, last))
    assert not fits.missing(objects, given.run, given.digest, spans)
    return fits.commit(objects, given, spans)


def same(a: problem.Solution, b: problem.Solution) -> bool:
    arrays = [f.name for f in dataclasses.fields(a) if f.name not in ("d", "status", "choice", "measured")]
    return (a.d, a.status, a.choice) == (b.d, b.status, b.choice) and all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=getattr(a, name).dtype.kind == "f")
        for name in arrays
    )


@pytest.mark.parametrize("n", [1, 5, BLOCK + 3])
def test_what_was_committed_is_loaded(objects, n):
    solved = solution(n)
    committed = commit(objects, record(solved), solved)
    assert committed.number == 0
    assert [(block.first, block.last) for block in committed.blocks][-1][1] == n
    assert fits.read_newest_fit(objects, committed.run) == committed
    assert same(fits.load(objects, committed), solved)


def test_no_fit_yet(objects):
    assert fits.read_newest_fit(objects, "digits-0123456789ab") is None


def test_the_same_fit_again_is_a_no_op(objects):
    solved = solution(5)
    first = commit(objects, record(solved), solved)
    again = commit(objects, record(solved, seconds=9.0), solution(5, seed=1))
    assert again == first
    assert not objects.exists(keys.fit(first.run, 1))


def test_another_fit_gets_the_next_number(objects):
    solved, other = solution(5), solution(5, seed=1)
    commit(objects, record(solved), solved)
    second = commit(objects, record(other, digest="1" * 16), other)
    assert second.number == 1
    assert same(fits.load(objects, fits.read_fit(objects, second.run, 0)), solved)
    assert same(fits.load(objects, fits.read_newest_fit(objects, second.run, known=0)), other)


def test_a_block_left_by_a_killed_commit_is_kept(objects):
    earlier, later = solution(5), solution(5, seed=1)
    commit(objects, record(earlier), earlier)
    objects.delete(keys.fit("digits-0123456789ab", 0))  # killed between the blocks and the record
    committed = commit(objects, record(later), later)
    assert same(fits.load(objects, committed), earlier)


def test_a_fit_with_a_block_missing_is_not_committed(objects):
    solved, spans = solution(8), [(0, 4), (4, 8)]
    fits.write(objects, "digits-0123456789ab", "0" * 16, 0, problem.rows_of(solved, 0, 4))
    assert fits.missing(objects, "digits-0123456789ab", "0" * 16, spans) == [(4, 8)]
    with pytest.raises(ObjectNotFoundError):
        fits.commit(objects, record(solved), spans)
    assert fits.read_newest_fit(objects, "digits-0123456789ab") is None


def test_of_many_that_find_all_blocks_written_one_commits(objects):
    solved, spans = solution(8), [(0, 4), (4, 8)]
    for first, last in spans:
        fits.write(objects, "digits-0123456789ab", "0" * 16, first, problem.rows_of(solved, first, last))
    start = threading.Barrier(8)

    def conclude(i):
        start.wait()
        return fits.commit(objects, record(solved, seconds=float(i)), spans)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(conclude, range(8)))
    assert all(it == found[0] for it in found)
    assert fits.read_newest_fit(objects, "digits-0123456789ab") == found[0]
    assert not objects.exists(keys.fit("digits-0123456789ab", 1))


def test_a_flipped_byte_is_found_and_named(objects):
    solved = solution(5)
    committed = commit(objects, record(solved), solved)
    key = committed.blocks[0].key
    data = bytearray(objects.read(key))
    data[len(data) // 2] ^= 1
    objects.delete(key)
    objects.create(key, bytes(data))
    with pytest.raises(CorruptObjectError, match=key):
        fits.load(objects, committed)


@given(place=st.integers(0, 10**4), known=st.booleans())
def test_no_record_has_the_checksum_of_a_bad_read(place, known):
    """Flips any bit of one read of each block, some of which no checksum inside of Parquet covers."""
    store, solved, spans = FlippingStore(), solution(8), [(0, 4), (4, 8)]
    run, digest = "digits-0123456789ab", "0" * 16
    sha256 = {s: fits.write(store, run, digest, s[0], problem.rows_of(solved, *s)) for s in spans}
    reads = 1 if known else 2  # of each block, if all are good
    store.faults = [place, *[None] * reads, place]
    committed = fits.commit(store, record(solved), spans, sha256 if known else None)
    assert [block.sha256 for block in committed.blocks] == list(sha256.values())
    assert same(fits.load(store, committed), solved)


def test_a_block_that_was_damaged_when_it_was_written_is_not_committed():
    class Alters(MemoryStore):
        def create(self, key, data):
            return super().create(key, flipped(data, -20) if key.endswith("parquet") else data)

    store, solved = Alters(), solution(4)
    sha256 = fits.write(store, "digits-0123456789ab", "0" * 16, 0, solved)
    assert fits.write(store, "digits-0123456789ab", "0" * 16, 0, solved) is None
    with pytest.raises(CorruptObjectError, match="0000000000-0000000004"):
        fits.commit(store, record(solved), [(0, 4)], {(0, 4): sha256})
    assert fits.read_newest_fit(store, "digits-0123456789ab") is None


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing", None])
def test_a_leftover_block_that_is_no_weights_is_refused(objects, content):
    solved = solution(5)
    key = keys.weights("digits-0123456789ab", "0" * 16, 4, 5)
    if content is None:
        import io

        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = io.BytesIO()
        pq.write_table(pa.table({"other": [1]}), sink)
        content = sink.getvalue()
    objects.create(key, content)
    with pytest.raises(CorruptObjectError, match=key):
        commit(objects, record(solved), solved)


@pytest.mark.parametrize(
    "change",
    [
        {"run": "other-0123456789ab"},
        {"number": 1},
        {"targets": 6},
        {"rows": 10**400},
        {"rows": 0},
        {"columns": "30"},
        {"settings": {"estimator": 3}},
        {"choice": {"errors": []}},
        {"blocks": []},
        {"blocks": [{"key": "x", "first": 1, "last": 5, "sha256": ""}]},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_record_that_contradicts_itself_is_refused(objects, change):
    """With a right checksum: its writer had a fault."""
    good = dataclasses.replace(record(solution(5)), number=0, blocks=(fits.Block("x", 0, 5, ""),))
    name = good.run
    records.create(objects, keys.fit(name, 0), good.document() | change)
    with pytest.raises(CorruptObjectError, match="not the record of a fit"):
        finished.read_fit(objects, name, 0)


def test_a_fit_of_other_targets_is_none_of_the_run():
    run = made.make_run()
    with pytest.raises(
        CorruptObjectError, match=f"has {run.n} targets over {run.design.columns} columns, its fit -1 5"
    ):
        record(solution(5)).of(run)


def test_a_record_of_something_else_is_refused(objects):
    records.create(objects, keys.fit("digits-0123456789ab", 0), {"blocks": [], "surprise": 1})
    with pytest.raises(CorruptObjectError, match="not the record of a fit"):
        fits.read_newest_fit(objects, "digits-0123456789ab")


def test_digest_depends_on_data_and_settings_not_on_order():
    base = finished.digest("r", ["a", "b"], {"lambdas": 20})
    assert base == finished.digest("r", ["b", "a"], {"lambdas": 20})
    assert (
        len({base, finished.digest("r", ["a"], {"lambdas": 20}), finished.digest("r", ["a", "b"], {"lambdas": 21})})
        == 3
    )
