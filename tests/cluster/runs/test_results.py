"""Results are within reach of who has no access to the store: by port-forwarding to the query service."""

import json

import numpy as np
import pytest

from tests.cluster.specs import written


@pytest.fixture(scope="module")
def done(running, tmp_path_factory):
    """(what `submit --watch` printed, the spec) of a run."""
    path, spec = written(tmp_path_factory.mktemp("specs"), "breast-cancer", name="results", m=300)
    return running.namespace.datamodels("submit", path, "--watch").stdout, spec


def test_a_run_ends_with_its_result_and_the_command_for_its_report(running, done, tmp_path):
    printed, spec = done
    namespace = running.namespace.name
    assert "LDS " in printed and "verdict " in printed
    assert printed.splitlines()[-1] == f"next       datamodels report {spec.run} --namespace {namespace}"
    page = tmp_path / "report.html"
    said = running.namespace.datamodels("report", spec.run, "--output", page, "--json").stdout
    assert json.loads(said)["bytes"] == page.stat().st_size and spec.run in page.read_text(encoding="utf-8")


def test_analyses_read_the_run_through_the_cluster(running, done, tmp_path):
    _, spec = done
    ask = running.namespace.datamodels
    assert json.loads(ask("review", spec.run, "--json").stdout)["run"] == spec.run
    assert "LDS" in ask("curve", spec.run).stdout
    compared = ask("compare", spec.run, "--targets", "0", "--baselines", "feldman_zhang", "--quiet").stdout
    assert "feldman_zhang" in compared
    assert json.loads(ask("query", "top", spec.run, "0", "--json").stdout.splitlines()[0])
    ask("export", spec.run, "--output", tmp_path / "all.npz", "--format", "npz")
    with np.load(tmp_path / "all.npz") as arrays:
        assert len(arrays["model_index"]) == spec.m
