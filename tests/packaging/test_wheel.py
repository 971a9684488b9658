"""The wheel: what is in it, and that it works outside the clone, next to packages of users called like our folders."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.helpers.waiting import LIMIT

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
SOURCES = ("pyproject.toml", "setup.py", "LICENSE", "NOTICE", "shared", "services")
"""What a build reads. It is copied, since a build leaves files in the folder of its sources."""
FOREIGN = ("services", "shared", "tests")
NOT_INSTALLED = ("README.md", "__pycache__", "*.egg-info", "explorer/web")


def python(*arguments, executable=sys.executable, **how):
    done = subprocess.run([executable, *arguments], capture_output=True, text=True, timeout=LIMIT, check=False, **how)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(kind, source, folder):
    """Calls the backend as pip does, with the packages that are here. Returns the path of the "wheel" or "sdist"."""
    folder.mkdir(exist_ok=True)
    script = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    return folder / python("-c", script, folder, cwd=source).splitlines()[-1]


def contents(path):
    """Returns the files of a wheel by name. Times and the order in RECORD are left out."""
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("RECORD")}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of a virtual environment with the wheel, the dependencies that are here, and foreign packages."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python("-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", "--no-deps", "--no-index", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A folder that a .pth file names is searched, but its own .pth files, such as that of this clone, are not read.
    here = [path for path in sys.path if path.endswith("-packages")]
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in here))
    write_foreign(packages)
    return folder


def write_foreign(folder):
    for name in FOREIGN:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise RuntimeError('datamodels imports a package of a user')\n")


def test_it_has_all_files_of_the_package_and_nothing_else(source, wheel):
    inside = {name for name in contents(wheel) if ".dist-info/" not in name}
    files = [
        *((path, path.relative_to(source / "shared")) for path in (source / "shared").rglob("*")),
        *((path, "datamodels" / path.relative_to(source)) for path in (source / "services").rglob("*")),
    ]
    assert inside == {
        str(name)
        for path, name in files
        if path.is_file() and not any(part.match(p) for part in [path, *path.parents] for p in NOT_INSTALLED)
    }
    assert {name.split("/")[0] for name in inside} == {"datamodels"}
    licences = {name.split("/licenses/")[1] for name in contents(wheel) if "/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


def test_its_description_has_no_link_into_the_clone(wheel):
    (metadata,) = (text for name, text in contents(wheel).items() if name.endswith(".dist-info/METADATA"))
    description = metadata.decode().partition("\n\n")[2]
    links = re.findall(r"\]\(([^)]*)\)", description)
    assert links and all(link.startswith("https://") for link in links)


def test_a_source_distribution_makes_the_same_wheel(source, wheel, tmp_path):
    path = build("sdist", source, tmp_path)
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / path.name.removesuffix(".tar.gz"), tmp_path / "again")
    assert contents(again) == contents(wheel)


def test_it_runs_outside_the_clone_next_to_foreign_packages(installed, tmp_path):
    write_foreign(tmp_path)  # the folder where services start is on their import path
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    place = {"cwd": tmp_path, "env": environ}
    script = "import datamodels.services.query.service as module; print(module.__file__)"
    assert Path(python("-c", script, executable=installed / "bin" / "python", **place)).is_relative_to(installed)
    command = installed / "bin" / "datamodels"
    assert python("--version", executable=command, **place) == f"datamodels {VERSION}\n"
    # The demo with fewer models, and fitted without loops that would have to be compiled at this place.
    spec = yaml.safe_load(python("examples", "digits", executable=command, **place))
    fewer = {"m": 600, "evaluate": {"subsets": 50, "models": 2}, "fit": {"estimator": "ridge"}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec | fewer))
    out = python("run", "spec.yaml", "--trainers", "1", "--quiet", executable=command, **place)
    run = re.search(r"^run +(digits-\w+)$", out, re.M)[1]
    assert re.search(r"^models +700 trained at [\d.]+ models/s, 0 failed$", out, re.M)
    assert float(re.search(r"^LDS +([\d.]+)", out, re.M)[1]) > 0.4
    assert (tmp_path / ".datamodels" / "reports" / f"{run}.html").stat().st_size > 10_000
