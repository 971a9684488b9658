import http.client
import os
import signal
import subprocess
import sys
import urllib.parse

from datamodels.cli.main import main
from datamodels.errors import ExitCode
from datamodels.testing import fitted
from tests.helpers.waiting import LIMIT


def test_one_command_serves_a_store_until_it_is_interrupted(tmp_path):
    _, run, _ = fitted.make_store(tmp_path / "store")
    command = [sys.executable, "-m", "datamodels", "explore", run.name, "--no-browser", "--home", str(tmp_path)]
    # The setting of another service must not open this one to the network.
    environ = dict(os.environ) | {"DATAMODELS_SERVE_HOST": "0.0.0.0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as process:
        try:
            url = urllib.parse.urlsplit(process.stdout.readline().strip())
            assert url.hostname == "127.0.0.1" and url.path == f"/runs/{run.name}"
            connection = http.client.HTTPConnection(url.netloc, timeout=LIMIT)
            connection.request("GET", f"{url.path}?{url.query}")
            first = connection.getresponse()
            first.read()
            assert (first.status, first.headers["location"]) == (303, url.path)
            cookie = first.headers["set-cookie"].partition(";")[0]
            connection.request("GET", f"/api/v1/runs/{run.name}/targets/0", headers={"cookie": cookie})
            assert connection.getresponse().status == 200
            connection.close()
        finally:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == ExitCode.DONE and "has stopped" in err and "Traceback" not in err
    assert not list((tmp_path / "addresses").iterdir())


def test_a_run_that_is_not_there_is_said_at_once(tmp_path, capsys):
    fitted.make_store(tmp_path / "store")
    assert main(["explore", "other-0123456789ab", "--home", str(tmp_path)]) == ExitCode.CONFIG
    assert "no such run" in capsys.readouterr().err
