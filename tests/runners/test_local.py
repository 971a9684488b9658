import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from datamodels.errors import ExitCode, SettingsError, StageError, UnavailableError
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.rpc.clients.query import QueryClient
from datamodels.run import runs, specs
from datamodels.runners.local import LocalRunner
from datamodels.settings import ClientSettings, StoreSettings, TrainerSettings
from tests.helpers.waiting import LIMIT, eventually


def runner(folder, **options):
    return LocalRunner(folder, store=StoreSettings(url=f"file://{folder / 'store'}"), trainers=2, **options)


def process_ids(folder):
    """Processes whose output goes to a log in this folder."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{entry}/fd/1").startswith(f"{folder}/logs/"):
                found.append(int(entry))
    return found


def command(process):
    with open(f"/proc/{process}/cmdline", "rb") as line:
        return line.read()


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


def test_a_service_that_cannot_start_says_why(tmp_path, monkeypatch):
    def ended(*given, popen=subprocess.Popen, **named):
        """Start a process, and return when it has ended, as on a machine that is busy with others."""
        process = popen(*given, **named)
        process.wait(LIMIT)
        return process

    monkeypatch.setattr(subprocess, "Popen", ended)
    broken = LocalRunner(tmp_path, store=StoreSettings(url="ftp://x"), trainers=1)
    reason = r"query ended with exit code 2.*ftp://x.*must be file://"
    with pytest.raises(StageError, match=reason) as raised, broken.services(["query"]):
        pytest.fail("came up")
    assert raised.value.exit_code == ExitCode.CONFIG


@needs_proc
def test_a_service_that_was_killed_is_named(tmp_path):
    with (
        pytest.raises(StageError, match="query was killed by SIGKILL; run the same command again") as raised,
        runner(tmp_path).services(["query"]) as addresses,
        QueryClient(addresses.query, ClientSettings(attempts=1)) as client,
    ):
        (child,) = process_ids(tmp_path)
        os.kill(child, signal.SIGKILL)
        with pytest.raises(UnavailableError):
            list(client.runs())
        list(client.runs())
    assert raised.value.exit_code == ExitCode.TRANSIENT


TRAINER = """
import pathlib, time
import numpy as np
from datamodels.train import Dataset

def load():
    x = np.arange(8.0)
    return Dataset(x=x, y=x, x_test=x[:2], y_test=x[:2])

class Sum:
    def __init__(self, dataset, targets):
        self.x, self.trained, self.go = dataset.x, 0, pathlib.Path(__file__).parent / "go"
    def train(self, subset, seed):
        while self.trained == 12 and not self.go.exists():
            time.sleep(0.01)
        self.trained += 1
        return self.x[subset].sum()
    def outputs(self, model):
        return np.full(2, model)
"""


@needs_proc
def test_a_trainer_that_stands_still_is_killed_and_another_does_the_rest(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(TRAINER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(tmp_path)
    document = {"name": "small", "dataset": {"load": "mine:load"}, "trainer": {"class": "mine:Sum"}, "m": 40}
    parsed = specs.parse(document | {"chunk": 40, "sub_chunk": 5, "evaluate": {"subsets": 0}})
    run = runs.resolve(parsed, runs.load_dataset(parsed))
    stopped = []
    later = 0.0

    def tick():
        nonlocal later
        if not stopped and client.progress(run.name).committed == 10:
            (victim,) = (p for p in process_ids(tmp_path) if b"datamodels.services.trainer" in command(p))
            os.kill(victim, signal.SIGSTOP)
            stopped.append(victim)
            (tmp_path / "go").touch()
        elif stopped:
            later = 2 * TrainerSettings.heartbeat

    with (
        runner(tmp_path).services(["sampler", "aggregator"]) as addresses,
        AggregatorClient(addresses.aggregator) as client,
    ):
        client.create_run(run)
        runner(tmp_path, clock=lambda: time.monotonic() + later).train(run, [0], addresses, tick)
        assert client.progress(run.name).complete
    assert stopped and stopped[0] not in process_ids(tmp_path)
    assert not list((tmp_path / "addresses").iterdir())


@needs_proc
def test_services_do_not_outlive_a_killed_driver(tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from datamodels.runners.local import LocalRunner\nfrom datamodels.settings import StoreSettings\n"
        f"store = StoreSettings(url='file://{tmp_path}/store')\n"
        f"with LocalRunner(Path('{tmp_path}'), store=store, trainers=1).services(['query']):\n"
        " print('up', flush=True)\n time.sleep(3600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout.readline() == "up\n"
        assert process_ids(tmp_path)
        driver.kill()
    eventually(lambda: not process_ids(tmp_path))


@needs_proc
def test_only_this_user_reaches_the_services(tmp_path):
    with runner(tmp_path).services(["query", "aggregator"]) as addresses:
        folders = [os.path.dirname(a.removeprefix("unix:")) for a in (addresses.query, addresses.aggregator)]
        for address, folder in zip((addresses.query, addresses.aggregator), folders, strict=True):
            assert address.startswith("unix:")
            found = os.stat(folder)
            assert (found.st_mode & 0o777, found.st_uid) == (0o700, os.getuid())
        ports = [json.loads(path.read_text()) for path in (tmp_path / "addresses").iterdir()]
        open_ports = {int(entry["metrics_address"].rpartition(":")[2]) for entry in ports}
        assert {port for process in process_ids(tmp_path) for port in listening(process)} == open_ports
    assert not any(map(os.path.exists, folders))


def listening(process):
    """TCP ports that a process listens on."""
    sockets = set()
    for entry in os.listdir(f"/proc/{process}/fd"):
        try:
            sockets.add(os.readlink(f"/proc/{process}/fd/{entry}"))
        except OSError:
            continue
    for kind in ("tcp", "tcp6"):
        with open(f"/proc/{process}/net/{kind}") as table:
            for row in table.read().splitlines()[1:]:
                fields = row.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                    yield int(fields[1].rpartition(":")[2], 16)


def test_a_long_path_for_temporary_files_is_no_obstacle(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with runner(tmp_path).services(["query"]) as addresses, QueryClient(addresses.query) as client:
        assert list(client.runs()) == []
    assert list(deep.iterdir()) == []
