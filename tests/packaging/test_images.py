"""The Dockerfile against the project it installs. Images are built and run by hand: docs/guides/kubernetes.md."""

import os
import re
import socket
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

from datamodels.runners.base import SERVICES
from tests.helpers.waiting import LIMIT

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "images" / "Dockerfile").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
CUDAS = ("12", "13")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_every_service_has_an_image_with_extras_that_exist():
    cases = dict(re.findall(r"^ +([a-z|]+)\) wanted=\"?([^\" ]+?)\"? ;;", DOCKERFILE, re.MULTILINE))
    named = {service for names in cases for service in names.split("|")}
    assert named == {*SERVICES, "trainer", "explorer", "driver", "all", "devstore"}
    gpu = [found.replace("${CUDA}", cuda) for found in re.findall(r"gpu=(\S*)", DOCKERFILE) for cuda in CUDAS]
    extras = set(re.findall(r"[\[,]([a-z0-9-]+)", " ".join([*cases.values(), *gpu])))
    assert {f"fitter-cuda{cuda}" for cuda in CUDAS} <= extras <= set(EXTRAS)


def test_make_gathers_the_wheels_that_the_image_asks_for():
    (everything,) = re.findall(r"all\) wanted=\"datamodels-ml\[(.*)\$\{gpu\}\]\"", DOCKERFILE)
    assert re.findall(r"^EXTRAS_cpu = (.*)$", MAKEFILE, re.MULTILINE) == [everything]
    for flavour in ("cuda", "cuda-ffcv"):
        assert f"EXTRAS_{flavour} = " in MAKEFILE and f"{flavour})" in DOCKERFILE
    default = re.findall(r"^(?:ARG CUDA=|CUDA \?= )(\d+)$", DOCKERFILE + MAKEFILE, re.MULTILINE)
    assert len(default) == 2 and len(set(default)) == 1 and default[0] in CUDAS


def test_images_run_as_nobody_and_carry_no_build_context():
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert "USER 65532:65532" in last and "COPY --from=build" in last and "COPY ." not in DOCKERFILE
    assert (ROOT / ".dockerignore").read_text().startswith("*\n")


def test_images_have_the_licence_and_the_notice_where_the_notice_says():
    copied = [line.split() for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)]
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()[1:]}
    assert {Path(path.partition("/${")[0]) for *paths, _ in copied for path in paths} == {Path(path) for path in sent}
    (place,) = re.findall(r"this file and the licence in (\S+)\.", (ROOT / "NOTICE").read_text())
    assert ["LICENSE", "NOTICE", f"{place}/"] in copied and f"python3 -m venv {place}\n" in DOCKERFILE


def test_the_store_for_trying_out_has_a_bucket(tmp_path, eventually):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = os.environ | {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "TMPDIR": str(tmp_path)}
    script = ROOT / "deploy" / "images" / "devstore.py"
    url = f"http://127.0.0.1:{port}/datamodels"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def has_bucket():
        try:
            return direct.open(url, timeout=LIMIT).status == 200
        except OSError:
            return False

    with subprocess.Popen(
        [sys.executable, script], env=environ, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as store:
        try:
            eventually(has_bucket, while_true=lambda: store.poll() is None)
        finally:
            store.terminate()
