"""Processes that the fork server starts are as if they were executed."""

import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datamodels.errors import ExitCode
from datamodels.settings import ServeSettings
from tests.helpers import forkserver
from tests.helpers.waiting import LIMIT, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, all processes are executed")
SAMPLER = [sys.executable, "-m", "datamodels.services.sampler"]


def was_executed(process: subprocess.Popen) -> bool:
    """Return whether a process has the environment that it was started with. That of a fork is the fork server's."""
    return b"DATAMODELS_SERVE_ADDRESS_FILE" in Path(f"/proc/{process.pid}/environ").read_bytes()


@pytest.fixture
def start(tmp_path):
    """start(**environ) starts a sampler that serves, in a folder of its own. It is killed when the test ends."""
    started = []

    def sampler(executable=None, **environ):
        address = tmp_path / "address.json"
        settings = ServeSettings(address_file=str(address), follow_stdin=True).environ()
        process = subprocess.Popen(
            SAMPLER,
            executable=executable,
            cwd=tmp_path,
            env=os.environ | settings | environ,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        eventually(address.exists, while_true=lambda: process.poll() is None)
        return process

    yield sampler
    for process in started:
        process.kill()
        process.communicate()


def test_a_fork_is_like_a_program_that_was_executed(start, tmp_path):
    process = start()
    assert not was_executed(process)
    proc = Path(f"/proc/{process.pid}")
    assert (proc / "cmdline").read_text().rstrip("\0").split("\0") == SAMPLER
    assert (proc / "cwd").readlink() == tmp_path
    parent, group, session = (proc / "stat").read_text().rpartition(")")[2].split()[1:4]
    assert (parent, group, session) == (str(os.getpid()), str(process.pid), str(process.pid))
    pipes = [os.readlink(f"/proc/self/fd/{stream.fileno()}") for stream in (process.stdin, process.stderr)]
    files = [file.readlink() for file in (proc / "fd").iterdir() if file.readlink().name.startswith("pipe:")]
    assert sorted(map(str, files)) == sorted(pipes), "it holds its ends of its own pipes, and none of others"
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=LIMIT)
    assert process.returncode == ExitCode.DONE
    assert [json.loads(line)["event"] for line in log.splitlines()] == ["serving", "stopped"]


@pytest.mark.parametrize("how", [{"executable": sys.executable}, {"PYTHONHASHSEED": "1"}])
def test_what_python_reads_before_our_code_is_executed(start, how):
    process = start(**how)
    assert was_executed(process)
    process.kill()
    assert process.wait(timeout=LIMIT) == -signal.SIGKILL


def test_a_fork_may_take_a_file_with_the_number_of_the_fork_servers_own(start):
    start()
    number = int(forkserver._server._process.args[3])
    held = fcntl.fcntl(2, fcntl.F_DUPFD, number)  # dup2 fails with EBUSY if another thread is just opening that number
    if held != number:
        os.close(held)
        pytest.skip("this process has another file of that number")
    ours, theirs = multiprocessing.Pipe()
    os.dup2(theirs.fileno(), number)
    theirs.close()
    try:
        process = subprocess.Popen([sys.executable, "-m", "datamodels.plan.trial", str(number)], pass_fds=[number])
    finally:
        os.close(number)
    with ours:
        ours.send(("run", "hash", range(1), {}, 1.0, 0.0))
        assert "error" in ours.recv(), "it received the message, and has no address to call"
        process.wait(LIMIT)
