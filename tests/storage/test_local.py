import errno
import fcntl
import os
import resource
import subprocess
import sys
import threading
import time

import pytest

from datamodels.errors import NotFoundError, SettingsError, StoreFullError, StoreUnavailableError
from datamodels.settings import StoreSettings
from datamodels.storage import open_store
from datamodels.storage.local import LocalStore
from tests.helpers.disks import files_up_to
from tests.helpers.waiting import LIMIT


def leftovers(folder) -> list[str]:
    return os.listdir(folder / ".tmp")


def test_leaves_no_temporary_files(tmp_path):
    store = LocalStore(tmp_path)
    store.create("a/b", b"1")
    store.create("a/b", b"2")
    assert leftovers(tmp_path) == []


def test_settings_name_a_folder(tmp_path):
    store = open_store(StoreSettings(url=f"file://{tmp_path}/x"))
    assert store.create("a", b"1")
    assert (tmp_path / "x" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("url", ["", "/tmp/x", "file://", "ftp://x", "s3:/x"])
def test_settings_with_an_invalid_url_are_refused(url):
    with pytest.raises(SettingsError, match="DATAMODELS_STORE_URL"):
        open_store(StoreSettings(url=url))


def test_a_folder_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="file/store: cannot be used as a store"):
        LocalStore(tmp_path / "file" / "store")


def test_readers_create_no_folder_and_say_which_is_missing(tmp_path):
    (tmp_path / "file").write_text("")
    for absent in ("typo", "typo/store", "file"):
        with pytest.raises(NotFoundError, match=f"^file://{tmp_path}/{absent}: no such folder"):
            LocalStore(tmp_path / absent, create=False)
    assert os.listdir(tmp_path) == ["file"]


def test_a_copy_without_hidden_folders_can_be_read_and_written(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    store = LocalStore(tmp_path, create=False)
    assert store.read("a") == b"1" and not store.exists("b") and os.listdir(tmp_path) == ["a"]
    assert store.create("b", b"2") and LocalStore(tmp_path, create=False).read("b") == b"2"


def test_two_stores_on_one_folder_race_as_one(tmp_path):
    """Two stores share no lock except the file system."""
    stores = [LocalStore(tmp_path) for _ in range(8)]
    for round_ in range(20):
        together, won = threading.Barrier(8), []

        def write(store, together=together, won=won, key=f"deep/{round_}/object"):
            together.wait()
            won.append(store.create(key, store.url.encode()))

        threads = [threading.Thread(target=write, args=[store]) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == [False] * 7 + [True]


RACER = """
import sys
from datamodels.storage.local import LocalStore
store = LocalStore(sys.argv[1])
sys.stdin.readline()
print(sum(store.create(f"race/{i}", sys.argv[2].encode() * 500) for i in range(40)), flush=True)
"""


def test_of_racing_processes_one_writes_each_object(tmp_path):
    arguments = [sys.executable, "-c", RACER, str(tmp_path)]
    racers = [
        subprocess.Popen([*arguments, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "abc"
    ]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [int(racer.communicate(timeout=LIMIT)[0]) for racer in racers]
    assert sum(won) == 40
    store = LocalStore(tmp_path)
    found = [store.read(f"race/{i}") for i in range(40)]
    assert {name: sum(data == name.encode() * 500 for data in found) for name in "abc"} == dict(
        zip("abc", won, strict=True)
    )


def test_a_write_that_does_not_fit_leaves_nothing_and_can_be_repeated(tmp_path):
    """A file-size limit simulates a full disk: both make the write fail halfway."""
    store = LocalStore(tmp_path)
    with files_up_to(10_000):
        assert store.create("a/small", bytes(5_000))
        with pytest.raises(StoreFullError, match="free some space") as raised:
            store.create("a/large", bytes(50_000))
    assert f"{tmp_path}/a/large" in str(raised.value)
    assert store.create("a/large", b"later")
    assert leftovers(tmp_path) == []
    assert LocalStore(tmp_path).read("a/large") == b"later"


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small tmpfs needs root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk(small_disk):
    store = LocalStore(small_disk)
    kept = 0
    with pytest.raises(StoreFullError, match="No space left on device"):
        for kept in range(100):
            store.create(f"a/{kept}", bytes(100_000))
    assert 0 < kept < 100
    assert leftovers(small_disk) == []
    assert len(list(store.list("a/"))) == kept
    assert all(store.read(key) == bytes(100_000) for key in store.list("a/"))
    store.delete("a/0")
    assert store.create("a/0", bytes(100_000))


def test_a_store_whose_folder_vanishes_is_unavailable_and_not_empty(tmp_path):
    folder = tmp_path / "store"
    store = LocalStore(folder)
    store.create("a/b", b"1")
    folder.rename(tmp_path / "elsewhere")
    for call in (
        lambda: store.read("a/b"),
        lambda: store.exists("a/b"),
        lambda: store.delete("a/b"),
        lambda: list(store.list("")),
        lambda: store.create("a/c", b""),
        lambda: store.create("b/c", b""),
    ):
        with pytest.raises(StoreUnavailableError):
            call()
    assert not folder.exists()  # if the disk is unmounted, nothing may be written to the disk below it
    (tmp_path / "elsewhere").rename(folder)
    assert store.read("a/b") == b"1"
    assert store.create("a/c", b"2")


def test_a_removed_folder_of_the_store_is_created_again(tmp_path):
    store = LocalStore(tmp_path)
    store.create("a/b/c", b"1")
    store.delete("a/b/c")
    (tmp_path / "a" / "b").rmdir()
    with pytest.raises(StoreUnavailableError):
        store.create("a/b/c", b"2")
    assert store.create("a/b/c", b"2")


def test_other_errors_of_reading_are_unavailable(tmp_path):
    store = LocalStore(tmp_path)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(StoreUnavailableError, match=os.strerror(errno.ELOOP)):
        store.read("loop")


def aged(path, seconds):
    path.write_bytes(b"half-writt")
    long_ago = time.time() - seconds
    os.utime(path, (long_ago, long_ago))
    return path


def test_temporary_files_of_dead_writers_are_swept_and_those_of_live_ones_kept(tmp_path):
    """A living writer may be slow, or the clocks of two machines differ: its lock tells that it lives."""
    LocalStore(tmp_path)
    folder = tmp_path / ".tmp"
    aged(folder / "dead", LocalStore.YOUNG + 1)
    aged(folder / "young", LocalStore.YOUNG - 30)
    with aged(folder / "slow", 2 * LocalStore.STALE).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        store = LocalStore(tmp_path)
        assert sorted(leftovers(tmp_path)) == ["slow", "young"]
    assert list(store.list("")) == []


def test_a_file_system_without_locks_is_swept_after_a_day(tmp_path, monkeypatch):
    LocalStore(tmp_path)
    aged(tmp_path / ".tmp" / "old", LocalStore.STALE + 60)
    aged(tmp_path / ".tmp" / "new", LocalStore.STALE - 60)

    def flock(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    store = LocalStore(tmp_path)
    assert leftovers(tmp_path) == ["new"]
    assert store.create("a", b"1")


def test_a_store_that_stays_open_sweeps_too(tmp_path):
    store = LocalStore(tmp_path)
    aged(tmp_path / ".tmp" / "dead", LocalStore.YOUNG + 1)
    store.create("a", b"1")
    assert leftovers(tmp_path) == ["dead"]
    store.SWEEP_SECONDS = -1
    store.create("b", b"1")
    assert leftovers(tmp_path) == []


def test_a_writer_killed_at_any_moment_leaves_only_whole_objects(tmp_path):
    program = (
        "import sys; from datamodels.storage.local import LocalStore; store = LocalStore(sys.argv[1])\n"
        "for i in range(10**6):\n"
        "    store.create(f'a/{i}', (b'%09d' % i) * 20_000); print(i, flush=True)"
    )
    for round_ in range(3):
        folder = tmp_path / str(round_)
        writer = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True)
        for _ in range(5 + round_):
            writer.stdout.readline()
        writer.kill()
        acknowledged = 5 + round_ + len(writer.communicate()[0].split())
        store = LocalStore(folder)
        found = list(store.list("a/"))
        assert len(found) >= acknowledged
        for key in found:
            assert store.read(key) == (b"%09d" % int(key.removeprefix("a/"))) * 20_000


def test_no_file_is_left_open(tmp_path):
    """Handles more objects than the process may open files."""
    store = LocalStore(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, before[1]))
    try:
        for i in range(60):
            assert store.create(f"a/{i}", b"1") and store.read(f"a/{i}") == b"1"
        assert len(list(store.list("a/"))) == 60
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
