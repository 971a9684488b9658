"""Commands and scripts that run only in pods: those of the chart, and those of the tests on a cluster.

They are strings, so no linter and no type checker notices if a module that they name has moved.
"""

import ast
import importlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from datamodels.cli.parser import parser
from datamodels.run import runs
from datamodels.storage.local import LocalStore
from datamodels.testing import committed
from datamodels.testing.server import query_server
from tests.cluster import place
from tests.helm.conftest import VALUES, render

CLUSTER = Path(__file__).parents[1] / "cluster"
CLONE = ("services", "shared", "tests", "helm", "docs", "benchmarks")
"""Folders of a clone that Python imports there, and that no image has."""


def imported(script):
    """Yield the dotted names that a script imports."""
    for node in ast.walk(ast.parse(script)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)


def exists(name):
    """Return whether a dotted name is, in an image, a module or an attribute of a module."""
    if name.split(".")[0] in CLONE:
        return False
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return bool(module) and exists(module) and hasattr(importlib.import_module(module), attribute)
    return True


def run_script(script, arguments, monkeypatch, capsys):
    """Return what a script prints."""
    monkeypatch.setattr(sys, "argv", ["-c", *arguments])
    exec(compile(script, "script", "exec"), {})
    return capsys.readouterr().out


@pytest.mark.parametrize("values", VALUES)
def test_every_container_of_the_chart_has_a_command_that_exists(values):
    seen = set()
    for who, pod in render(values, VALUES[values]).pods():
        for container in pod["spec"]["containers"]:
            program, *arguments = container["command"]
            if program == "datamodels":
                parser().parse_args([*arguments, *(container.get("args") or [])])
            elif arguments[0] == "-m":
                assert exists(arguments[1]) and find_spec(f"{arguments[1]}.__main__"), (who, arguments)
            elif arguments[0] == "-c":
                assert not [name for name in imported(arguments[1]) if not exists(name)], who
            else:
                assert arguments == ["/opt/datamodels/devstore.py"], who
            seen.add((program, arguments[0]))
    assert {("datamodels", "drive"), ("python", "-m"), ("python", "-c")} <= seen


def test_helm_test_asks_a_service(monkeypatch, capsys):
    (container,) = render("defaults", VALUES["defaults"]).one("Pod", "test")["spec"]["containers"]
    with query_server(np.ones((2, 3), dtype=np.float32)) as served:
        out = run_script(container["command"][2], [served.address], monkeypatch, capsys)
    assert out.splitlines() == [f"{served.address} SERVING", "1 runs in the store"]


@pytest.mark.parametrize("path", sorted(CLUSTER.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_of_the_cluster_tests_import_what_exists(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "import " in node.value:
            try:
                names = list(imported(node.value))
            except SyntaxError:  # prose
                continue
            assert not [name for name in names if not exists(name)], f"line {node.lineno}"


def test_the_cluster_tests_see_what_is_committed(tmp_path, monkeypatch, capsys):
    store, run = LocalStore(tmp_path), committed.make_run(m=40, evaluate={"subsets": 0})
    runs.create(store, run)
    committed.commit(store, run)
    monkeypatch.setenv("DATAMODELS_STORE_URL", store.url)
    listed = json.loads(run_script(place.LISTED, [run.name], monkeypatch, capsys))
    assert [tuple(part[1:]) for part in listed] == [(first, first + 10, 10) for first in range(0, 40, 10)]
    keys = json.loads(run_script(place.COMMITTED, [run.name], monkeypatch, capsys))
    assert keys == sorted(part[0] for part in listed)
