import os
import signal
import subprocess
import sys
import time

import pytest

from datamodels.errors import ExitCode, SettingsError, StageError, UnavailableError
from datamodels.rpc.clients.query import QueryClient
from datamodels.runners.local import LocalRunner
from datamodels.settings import StoreSettings


def runner(folder, **store):
    settings = StoreSettings(url=f"file://{folder / 'store'}", **store)
    return LocalRunner(folder, store=settings, trainers=2)


def process_ids(folder):
    """Processes whose environment names this folder, this one left out."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/environ", "rb") as environ:
                    if f"file://{folder}".encode() in environ.read():
                        found.append(int(entry))
            except OSError:
                continue
    return found


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds child processes through /proc")


@needs_proc
def test_services_come_up_answer_and_go(tmp_path):
    with runner(tmp_path).services(["query"]) as addresses, QueryClient(addresses.query) as client:
        assert list(client.runs()) == []
        assert process_ids(tmp_path)
    assert process_ids(tmp_path) == []
    assert list((tmp_path / "addresses").iterdir()) == []
    assert '"stopped"' in (tmp_path / "logs" / "query.log").read_text()


@pytest.mark.parametrize(
    "variable", ["DATAMODELS_SERVE_WORKERS", "DATAMODELS_FITTER_THREADS", "DATAMODELS_CLIENT_ATTEMPTS"]
)
def test_the_users_settings_reach_the_services(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "many")
    with pytest.raises(SettingsError, match=variable), runner(tmp_path).services(["query"]):
        pytest.fail("came up")


def test_a_home_that_is_no_folder_is_named(tmp_path):
    home = tmp_path / "file"
    home.write_text("")
    broken = LocalRunner(home, store=StoreSettings(url=f"file://{tmp_path / 'store'}"), trainers=1)
    with pytest.raises(SettingsError, match="cannot be used as a working folder"), broken.services(["query"]):
        pytest.fail("came up")


def test_a_service_that_cannot_start_says_why(tmp_path):
    broken = LocalRunner(tmp_path, store=StoreSettings(url="ftp://x"), trainers=1)
    reason = r"query ended with exit code 2.*ftp://x.*must be file://"
    with pytest.raises(StageError, match=reason) as raised, broken.services(["query"]):
        pytest.fail("came up")
    assert raised.value.exit_code == ExitCode.CONFIG


@needs_proc
def test_a_service_that_was_killed_is_named(tmp_path):
    with (
        pytest.raises(StageError, match="query was killed by SIGKILL; run the same command again"),
        runner(tmp_path).services(["query"]) as addresses,
        QueryClient(addresses.query) as client,
    ):
        (child,) = process_ids(tmp_path)
        os.kill(child, signal.SIGKILL)
        with pytest.raises(UnavailableError):
            list(client.runs())
        list(client.runs())


@needs_proc
def test_services_do_not_outlive_a_killed_driver(tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from datamodels.runners.local import LocalRunner\nfrom datamodels.settings import StoreSettings\n"
        f"store = StoreSettings(url='file://{tmp_path}/store')\n"
        f"with LocalRunner(Path('{tmp_path}'), store=store, trainers=1).services(['query']):\n"
        " print('up', flush=True)\n time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout.readline() == "up\n"
        assert process_ids(tmp_path)
        driver.kill()
    wait_until(lambda: not process_ids(tmp_path))
