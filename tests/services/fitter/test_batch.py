"""One fit by several processes that share only the store. Some of them are killed."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from datamodels.services.fitter.batch import chosen_share

from datamodels.errors import ExitCode, SettingsError
from datamodels.fit.job import fits
from datamodels.fit.job.job import FitJob, Share
from datamodels.run import runs
from datamodels.settings import FitterSettings, IndexedJobSettings, StoreSettings
from datamodels.storage import keys
from datamodels.storage.local import LocalStore
from datamodels.testing import committed
from tests.helpers.waiting import LIMIT, eventually

BLOCK = 5


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture
def run(store):
    """A run of 35 targets in 7 blocks, each of which takes about a quarter of a second."""
    run = committed.make_run(
        m=1000,
        chunk=200,
        sub_chunk=100,
        targets="both",
        fit={"solver": "saga", "lambdas": 20, "batch": 20, "tolerance": 1e-5, "patience": 20},
    )
    runs.create(store, run)
    committed.commit(store, run)
    return run


def start(tmp_path, run, *arguments, **environ):
    """Start a process for the fit of a run."""
    environ = dict(os.environ) | environ
    for settings in (
        StoreSettings(url=f"file://{tmp_path / 'store'}"),
        FitterSettings(scratch=str(tmp_path / "scratch"), device="cpu", threads=1, block=BLOCK),
    ):
        environ |= settings.environ()
    command = [sys.executable, "-m", "datamodels.services.fitter", "--run", run, *arguments]
    return subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)


def ended(process) -> int:
    """Wait until a process ends, and return its exit code."""
    process.communicate(timeout=LIMIT)
    return process.returncode


def written(store, run, digest):
    return {first for first in range(0, run.n, BLOCK) if store.exists(keys.weights(run.name, digest, first, first + 5))}


def test_processes_that_are_killed_and_run_again_give_the_fit_of_one_process(store, run, tmp_path):
    digest = FitJob(store, run.name).digest
    process = start(tmp_path, run.name, "--block", "0", "--blocks", "2")
    eventually(lambda: written(store, run, digest), while_true=lambda: process.poll() is None)
    process.send_signal(signal.SIGKILL)
    assert ended(process) == -signal.SIGKILL
    left = written(store, run, digest)
    assert left < {0, 10, 20, 30}

    other = start(tmp_path, run.name, "--blocks", "2", JOB_COMPLETION_INDEX="1")
    assert ended(other) == ExitCode.DONE
    assert written(store, run, digest) == left | {5, 15, 25}
    assert fits.read_newest_fit(store, run.name) is None, "blocks are missing"

    kept = {first: store.read(keys.weights(run.name, digest, first, first + 5)) for first in left}
    assert ended(start(tmp_path, run.name, "--block", "0", "--blocks", "2")) == ExitCode.DONE
    record = fits.read_newest_fit(store, run.name)
    assert (record.number, record.digest, record.targets) == (0, digest, run.n)
    assert all(store.read(keys.weights(run.name, digest, first, first + 5)) == kept[first] for first in kept)
    assert ended(start(tmp_path, run.name, "--block", "1", "--blocks", "2")) == ExitCode.DONE
    assert not store.exists(keys.fit(run.name, 1)), "running one again changes nothing"

    alone = LocalStore(tmp_path / "alone")
    runs.create(alone, run)
    committed.commit(alone, run)
    settings = FitterSettings(scratch=str(tmp_path / "alone-scratch"), device="cpu", threads=1, block=BLOCK)
    whole = FitJob(alone, run.name).solve(settings, progress=lambda *_: None, stop=threading.Event())
    assert [block.sha256 for block in whole.blocks] == [block.sha256 for block in record.blocks], "bit for bit"


def test_one_process_without_a_share_fits_all_targets(store, tmp_path):
    run = committed.make_run()
    runs.create(store, run)
    committed.commit(store, run)
    assert ended(start(tmp_path, run.name)) == ExitCode.DONE
    assert fits.read_newest_fit(store, run.name).targets == run.n


def test_sigterm_ends_it_after_committing_whole_blocks(store, run, tmp_path):
    digest = FitJob(store, run.name).digest
    process = start(tmp_path, run.name)
    eventually(lambda: written(store, run, digest), while_true=lambda: process.poll() is None)
    process.terminate()
    assert ended(process) == ExitCode.TERMINATED
    assert fits.read_newest_fit(store, run.name) is None


def test_a_process_that_cannot_run_ends_with_one_line(tmp_path):
    process = start(tmp_path, "nothing-0123456789ab", "--block", "0")
    _, log = process.communicate(timeout=LIMIT)
    assert process.returncode == ExitCode.CONFIG
    assert "nothing-0123456789ab" in log.strip().splitlines()[-1] and "Traceback" not in log


@pytest.mark.parametrize("of", [1, 2, 3, 9])
def test_shares_cover_the_grid_exactly_once(of):
    grid = [(first, first + 5) for first in range(0, 35, 5)]
    shares = [Share(index, of).spans(grid) for index in range(of)]
    assert sorted(span for share in shares for span in share) == grid
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_index_of_a_job_chooses_the_share():
    assert chosen_share(None, 4, IndexedJobSettings(completion_index=3)) == Share(3, 4)
    assert chosen_share(1, 4, IndexedJobSettings(completion_index=3)) == Share(1, 4)
    assert chosen_share(None, 1, IndexedJobSettings()) == Share()
    with pytest.raises(SettingsError, match="must be 0 to 3"):
        chosen_share(None, 4, IndexedJobSettings(completion_index=4))
    with pytest.raises(SettingsError, match="must be 0 to 1"):
        chosen_share(2, 2, IndexedJobSettings())
    with pytest.raises(SettingsError, match="needs --block, 0 to 1"):
        chosen_share(None, 2, IndexedJobSettings())
