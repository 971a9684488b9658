"""The query client with the base dependencies alone: what `pip install .` installs."""

import functools
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np

from datamodels.testing import fitted
from datamodels.testing.server import query_server
from tests.helpers.waiting import LIMIT

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

REFUSE = """
import importlib.abc, json, sys
allowed, arguments = set(json.loads(sys.argv[1])), sys.argv[2:]
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] not in allowed | sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
for name in [name for name in sys.modules if name.partition(".")[0] not in allowed | sys.stdlib_module_names]:
    if not name.startswith("__"):
        del sys.modules[name]
sys.meta_path.insert(0, Refuse())
"""
"""Lets a process import the standard library and the modules that its first argument names."""

CLIENT = """
import numpy as np
import datamodels
address, run = arguments
with datamodels.QueryClient(address) as client:
    theta = np.zeros((client.run(run).targets, client.run(run).columns), dtype=np.float32)
    for row in client.weights(run):
        theta[row.target, row.columns] = row.weights
    one = client.predict_columns(run, [0, 3])
    clusters = client.clusters(run).found
    try:
        client.top(run, 1000)
    except datamodels.errors.TargetRangeError as error:
        message = str(error)
print(json.dumps([theta.tolist(), one.predictions.tolist(), clusters.cluster.tolist(), message]))
"""
COMMAND = """
import datamodels.cli.main
sys.exit(datamodels.cli.main.main(arguments))
"""


def distributions(requirements):
    """Names of distributions, given as requirements, and of all that they need."""
    found, waiting = set(), list(requirements)
    while waiting:
        name = re.match(r"[\w.-]+", waiting.pop()).group().lower().replace("_", "-")
        if name not in found:
            found.add(name)
            waiting += [needed for needed in importlib.metadata.requires(name) or [] if ";" not in needed]
    return found


BASE = distributions(PROJECT["dependencies"])


@functools.cache
def modules():
    """Return the modules of the base dependencies and ours."""
    owners = importlib.metadata.packages_distributions().items()
    return {m for m, names in owners if BASE & {name.lower().replace("_", "-") for name in names}} | {"datamodels"}


def light(script, *arguments):
    """Run a script that can import the base dependencies alone."""
    command = [sys.executable, "-c", REFUSE + script, json.dumps(sorted(modules())), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_the_base_installation_is_small():
    """Files as wheels have them. Bytecode, which pip may add, and pip itself are not counted."""
    files = [path for name in BASE for path in importlib.metadata.files(name) or [] if path.suffix != ".pyc"]
    ours = [p for f in ("shared", "services") for p in (ROOT / f).rglob("*") if "__pycache__" not in p.parts]
    size = sum(path.locate().stat().st_size for path in files) + sum(
        path.stat().st_size for path in ours if path.is_file()
    )
    assert 20e6 < size < 80 * 2**20


def test_the_client_asks_a_real_service():
    truth = fitted.make_theta(fitted.make_run())
    with query_server(truth) as served:
        done = light(CLIENT, served.address, served.run)
    assert done.returncode == 0, done.stderr
    theta, predictions, cluster, message = json.loads(done.stdout)
    np.testing.assert_array_equal(np.array(theta, np.float32), truth)
    np.testing.assert_allclose(predictions, truth[:, [0, 3]].sum(axis=1)[None], rtol=1e-5, atol=1e-6)
    assert len(cluster) == len(truth)
    assert "target 1000: must be 0 to" in message


def test_the_command_says_in_one_line_what_to_install():
    done = light(COMMAND, "run", "spec.yaml")
    assert done.returncode == 2
    assert re.fullmatch(r"datamodels: .* pip install 'datamodels-ml\[run\]'\n", done.stderr), done.stderr


def test_data_sets_trainers_and_settings_need_no_more():
    names = "BatchTrainer", "ClientSettings", "Dataset", "Targets", "Trainer"
    done = light("import datamodels\n" + "\n".join(f"assert datamodels.{name}" for name in names))
    assert done.returncode == 0, done.stderr


def test_what_needs_more_says_what_to_install():
    done = light("import datamodels\ndatamodels.load_spec")
    assert done.stderr.splitlines()[-1].startswith("ImportError: datamodels.load_spec needs")
    assert "pip install 'datamodels-ml[run]'" in done.stderr.splitlines()[-1]
