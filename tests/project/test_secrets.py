"""Secrets are planted wherever users keep them, and all that processes print, log and store is searched for them."""

import os
import subprocess
import sys

import pytest

from datamodels import screen
from datamodels.errors import ExitCode
from tests.cli.test_main import run_main
from tests.helpers.waiting import LIMIT

PASSWORD, KEY, SESSION, TOKEN = "p1anted-Passw0rd", "p1anted/Secret+Key/0123456789", "p1antedSess10n", "p1anted.T0ken"
ENDPOINT = f"http://operator:{PASSWORD}@127.0.0.1:1"
MODULE = f"""
import numpy as np
from datamodels.train import Dataset

def load(fails=False):
    if fails:
        raise OSError("cannot connect to postgres://reader:{PASSWORD}@db.example/x")
    x = np.arange(12.0)[:, None]
    return Dataset(x[:8], np.arange(8) % 2, x[8:], np.arange(4) % 2, label_names=("no\\x1b[2J", "yes"))

class Sum:
    def __init__(self, dataset, targets):
        self.x, self.n = dataset.x[:, 0], len(targets)
    def train(self, subset, seed):
        if 0 in subset and 1 in subset and 2 in subset:
            raise OSError("\\x1b[31mcannot connect to https://writer:{PASSWORD}@hub.example\\x1b[0m")
        return self.x[subset].sum()
    def outputs(self, model):
        return np.arange(self.n) * 1.5 + model
"""
SPEC = """
name: planted
dataset: {load: "planted:load"}
trainer: {class: "planted:Sum"}
m: 40
chunk: 20
sub_chunk: 10
evaluate: {subsets: 3}
"""


def environ(folder, **more):
    planted = {"AWS_ACCESS_KEY_ID": "AKIAPLANTED", "AWS_SECRET_ACCESS_KEY": KEY, "AWS_SESSION_TOKEN": SESSION}
    planted |= {"DATAMODELS_LOG_LEVEL": "debug", "PYTHONPATH": str(folder), "HF_TOKEN": TOKEN}
    planted |= {"DATAMODELS_TRAINER_TOLERATED_FAILURES": "1", "DATAMODELS_STORE_S3_ENDPOINT": ENDPOINT}
    return os.environ | planted | more


def leaks(text):
    return [secret for secret in (PASSWORD, KEY, SESSION, TOKEN) if secret in text]


def test_a_run_and_its_services_show_no_secret_and_no_escape_code(tmp_path):
    (tmp_path / "planted.py").write_text(MODULE)
    (tmp_path / "spec.yaml").write_text(SPEC)
    home = tmp_path / "home"
    command = [sys.executable, "-m", "datamodels", "run", "spec.yaml", "--home", str(home), "--trainers", "1"]
    done = subprocess.run(command, env=environ(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    (run,) = (path.stem for path in (home / "reports").glob("*.html"))
    status = [sys.executable, "-m", "datamodels", "status", run, "--home", str(home)]
    shown = subprocess.run(status, env=environ(tmp_path), capture_output=True, text=True, timeout=LIMIT)
    assert "https://***@hub.example" in shown.stdout, "the failure is shown, without the password"
    for text in (done.stdout, shown.stdout, shown.stderr):
        assert "\x1b" not in text and not leaks(text)
    assert not leaks(done.stderr)
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".log"]) == 5
    for path in files:
        data = path.read_bytes()
        assert not leaks(data.decode("latin-1")), path
        assert path.suffix != ".log" or b"\x1b" not in data, path


@pytest.fixture
def planted(tmp_path, monkeypatch, cautious):
    (tmp_path / "planted.py").write_text(MODULE)
    (tmp_path / "spec.yaml").write_text(SPEC.replace('load"}', 'load", options: {fails: true}}'))
    (tmp_path / "token").write_text(f"{TOKEN}\nand another line")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(screen, "_secrets", set())
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    for name, value in environ(tmp_path, DATAMODELS_STORE_ATTEMPTS="1", DATAMODELS_STORE_TIMEOUT="1").items():
        monkeypatch.setenv(name, value)
    return monkeypatch


S3 = ["--store", "s3://bucket/prefix"]
TOKENS = {"DATAMODELS_CLIENT_TOKEN_FILE": "token", "DATAMODELS_CLIENT_CA_FILE": "token"}


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["status", *S3], {}),
        (["status", *S3], {"DATAMODELS_STORE_S3_ENDPOINT": f"http://a:{PASSWORD}/b@h"}),
        (["status", *S3], {"DATAMODELS_STORE_S3_ENDPOINT": f"{PASSWORD}@host"}),
        (
            ["status", *S3],
            {"DATAMODELS_STORE_S3_ENDPOINT": "http://127.0.0.1:1", "AWS_SESSION_TOKEN": f"{SESSION}\n{KEY}"},
        ),
        (["status", *S3], {"DATAMODELS_STORE_S3_ENDPOINT": "http://x.invalid", "http_proxy": ENDPOINT, "no_proxy": ""}),
        (["status", "--store", f"s3://{KEY.partition('/')[0]}:{PASSWORD}@bucket/x"], {}),
        (["status", "--store", f"ftp://operator:{PASSWORD}@host/x"], {}),
        (["status", "--store", f"file://operator:{PASSWORD}@host/x"], {}),
        (["plan", "spec.yaml"], {}),
        (["run", "spec.yaml"], {"DATAMODELS_STORE_URL": f"https://a:{PASSWORD}@b"}),
        (["query", "top", "a-000000000000", "1", "--address", f"http://a:{PASSWORD}@127.0.0.1:1"], {}),
        (["query", "top", "a-000000000000", "1", "--address", "127.0.0.1:1"], TOKENS),
    ],
)
def test_commands_that_fail_show_no_secret(capsys, planted, arguments, variables):
    for name, value in variables.items():
        planted.setenv(name, value)
    code, out, err = run_main(capsys, *arguments)
    assert code in (ExitCode.FAILED, ExitCode.CONFIG, ExitCode.TRANSIENT), err
    assert err and not leaks(out + err), out + err


@pytest.mark.parametrize("service", ["aggregator", "fitter"])
def test_services_that_fail_log_no_secret(tmp_path, service):
    more = {"DATAMODELS_STORE_URL": "s3://bucket/x", "DATAMODELS_STORE_ATTEMPTS": "1", "DATAMODELS_STORE_TIMEOUT": "1"}
    more |= {"DATAMODELS_AUTH_KEYS": f"https://a:{PASSWORD}@127.0.0.1:1", "DATAMODELS_AUTH_SUBJECTS": "a"}
    more |= {"DATAMODELS_AUTH_TOKEN_FILE": str(tmp_path / "token"), "DATAMODELS_AUTH_CA_FILE": ""}
    (tmp_path / "token").write_text(f"{TOKEN}\nb")
    for extra in (more, {name: value for name, value in more.items() if "AUTH" not in name}):
        if service == "fitter" and extra is not more:
            continue  # it asks its store nothing when it starts
        command = [sys.executable, "-m", f"datamodels.services.{service}"]
        done = subprocess.run(command, env=environ(tmp_path, **extra), capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode in (ExitCode.CONFIG, ExitCode.TRANSIENT, ExitCode.FAILED)
        assert done.stderr and not leaks(done.stdout + done.stderr), done.stderr
