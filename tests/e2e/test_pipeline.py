"""The whole pipeline as a user runs it: the command, real processes, real sockets, a real folder.

The command is a process of its own only if the test needs that: to start one takes a second of CPU time.
"""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from datamodels.aggregate import manifest
from datamodels.cli.main import main
from datamodels.errors import ExitCode
from datamodels.fit.job import fits
from datamodels.run import examples, specs
from datamodels.storage import keys
from datamodels.storage.local import LocalStore
from tests.helpers.waiting import LIMIT, eventually

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds child processes through /proc")


def small(**fields):
    """Digits, cut down: 100 training examples, 12 targets and 300 models, some seconds of work."""
    base = yaml.safe_load(examples.text("digits"))
    base["dataset"]["options"] = {"train": 100, "test": 12}
    base["trainer"]["options"] = {"hidden": 16}  # its gradients are compared in a tenth of the time
    return base | {"m": 200, "chunk": 100, "sub_chunk": 20, "evaluate": {"subsets": 20, "models": 5}} | fields


def linear(targets=100, pause=0.0):
    """Fields of a pipeline whose processes start fast, since they import little; training takes `pause` s a model.

    The fit is not the default one either, which compares many.
    """
    dataset = {"load": "datamodels.testing.linear:load", "options": {"targets": targets}}
    trainer = {"class": "datamodels.testing.linear:Linear", "options": {"pause": pause}}
    return {"dataset": dataset, "trainer": trainer, "fit": {"solver": "gram", "lambdas": 6}}


class Pipeline:
    """The command, run in a folder of its own."""

    def __init__(self, folder, environ=None, **fields):
        self.folder = folder
        path = [str(ROOT), str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environ = {"PYTHONPATH": os.pathsep.join(path)} | (environ or {})
        self.path = folder / "spec.yaml"
        self.path.write_text(yaml.safe_dump(small(**fields)))
        self.spec = specs.load(self.path)

    def start(self, verb="run", *options):
        command = [sys.executable, "-m", "datamodels", verb, str(self.path), *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environ = os.environ | self.environ
        return subprocess.Popen(command, cwd=self.folder, env=environ, text=True, **pipes)

    def finish(self, process):
        out, err = process.communicate(timeout=LIMIT)
        return process.returncode, out, err

    def run(self, verb="run", *options):
        return self.finish(self.start(verb, *options))

    def command(self, *arguments):
        """Run a command in this process, in the folder of the pipeline. Its services are processes as ever."""
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.chdir(self.folder)
            patch.syspath_prepend(self.folder)
            for name, value in self.environ.items():
                patch.setenv(name, value)
            code = main([str(argument) for argument in arguments])
        return code, out.getvalue(), err.getvalue()

    def status(self, *options):
        """Return what the command `status` prints of the run."""
        code, out, err = self.command("status", self.spec.run, *options)
        assert code == 0, err
        return out

    def store(self):
        return LocalStore(self.folder / ".datamodels" / "store")

    def committed(self):
        """Return the models in the newest manifest, with duplicates if there are any."""
        store = self.store()
        snapshot = manifest.read_newest(store, self.spec.run)
        return [model for outputs in snapshot.outputs(store) for model in outputs.model_index.tolist()]

    def children(self, module):
        """Return the ids of the processes of this pipeline that run a module."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                command = Path(f"/proc/{entry}/cmdline").read_bytes().decode().split("\0")
                if module in command and os.readlink(f"/proc/{entry}/cwd") == str(self.folder):
                    found.append(int(entry))
            except OSError:
                continue
        return found

    def kill(self, module, while_running):
        """Send SIGKILL to one process of a module as soon as there is one."""
        (victim, *_) = eventually(lambda: self.children(module), while_true=lambda: while_running.poll() is None)
        os.kill(victim, signal.SIGKILL)

    def parts(self):
        return len(list(self.store().list(keys.parts(self.spec.run))))

    def wait_for_more_parts(self, count, while_running):
        enough = self.parts() + count
        while while_running.poll() is None and self.parts() < enough:
            time.sleep(0.05)


def test_the_pipeline_runs_once_and_again_for_another_estimator(tmp_path):
    pipeline = Pipeline(tmp_path)
    code, out, err = pipeline.run("run", "--trainers", "1")
    assert code == 0, err
    assert sorted(pipeline.committed()) == list(range(300))
    lds = float(re.search(r"^LDS +([\d.]+)", out, re.M).group(1))
    assert lds > 0.5
    assert re.search(r"^models +300 trained at [\d.]+ models/s, 0 failed", out, re.M)
    assert len(re.findall(r"^target \d+ \(\d\)\n  helpful  #\d+ \(\d\) \+", out, re.M)) == 3
    report = tmp_path / ".datamodels" / "reports" / f"{pipeline.spec.run}.html"
    page = report.read_text()
    assert page.count('"picture":"') >= 100
    assert set(re.findall(r"https?://([\w.-]+)", page)) <= {"www.w3.org"}, "names of namespaces are no requests"

    shown = pipeline.status("--verify")
    assert "300 of 300 models committed" in shown and "300 models verified" in shown and f"LDS {lds:.3f}" in shown

    ridge = pipeline.spec.with_fit({"estimator": "ridge"})
    pipeline.path.write_text(yaml.safe_dump(ridge.document()))
    code, out, err = pipeline.command("run", pipeline.path, "--quiet")
    assert code == 0 and err == ""
    assert re.search(r"^models +300 committed before, 0 failed", out, re.M)
    assert sorted(pipeline.committed()) == list(range(300))
    assert float(re.search(r"^LDS +([\d.]+)", out, re.M).group(1)) > 0.5
    assert fits.read_newest_fit(LocalStore(tmp_path / ".datamodels" / "store"), pipeline.spec.run).estimator == "ridge"

    wrong = pipeline.command("query", "top", pipeline.spec.run, "9999")
    assert wrong == (ExitCode.CONFIG, "", "datamodels: target 9999: must be 0 to 11\n")


def test_training_ends_early_and_stays_ended(tmp_path):
    """A few hundred of many models satisfy the rule, and the decision holds when the pipeline runs again."""
    pipeline = Pipeline(tmp_path, until={"lds": 0.3}, m=30_000, **linear(pause=0.005))
    code, out, err = pipeline.command("run", pipeline.path, "--quiet", "--trainers", "1")
    assert code == 0, err
    stopped = re.search(r"^stopped    ([\d,]+) of 30,100 models saved: LDS (0\.\d+) .* is at least 0\.3$", out, re.M)
    committed = sorted(pipeline.committed())
    assert len(committed) == 30_100 - int(stopped[1].replace(",", "")) and len(set(committed)) == len(committed)
    assert set(range(30_000, 30_100)) <= set(committed), "the unseen subsets come first"
    assert float(stopped[2]) > 0.3 and float(re.search(r"^LDS +([\d.]+)", out, re.M)[1]) > 0.3

    code, again, err = pipeline.command("train", pipeline.path, "--quiet")
    assert code == 0, err
    assert f"{len(committed):,} committed before" in again and stopped[0] in again
    assert sorted(pipeline.committed()) == committed
    assert "stopped by until: LDS 0." in pipeline.status()


def test_every_process_can_be_killed_and_the_same_command_goes_on(tmp_path):
    """The same models are committed in the end, none missing and none twice."""
    pipeline = Pipeline(tmp_path, m=900, **linear(targets=300, pause=0.005))

    # A trainer is started again by itself. Ctrl-C commits what is whole.
    driver = pipeline.start("train", "--quiet")
    pipeline.wait_for_more_parts(2, driver)
    pipeline.kill("datamodels.services.trainer", driver)
    pipeline.wait_for_more_parts(3, driver)
    driver.send_signal(signal.SIGINT)
    code, _, err = pipeline.finish(driver)
    assert code == ExitCode.INTERRUPTED and "stopped; what is committed is kept" in err
    logs = {path.stem for path in (tmp_path / ".datamodels" / "logs").iterdir()}
    assert {"sampler", "aggregator"} < logs and not {"fitter", "query"} & logs, "which no stage has called"

    # The aggregator is not started again: the command ends, says so, and goes on when it is run again.
    driver = pipeline.start("train", "--quiet", "--trainers", "1")
    pipeline.wait_for_more_parts(3, driver)
    pipeline.kill("datamodels.services.aggregator", driver)
    code, _, err = pipeline.finish(driver)
    assert code == ExitCode.TRANSIENT and "run the same command again" in err

    # If the driver dies, so do its children.
    driver = pipeline.start("train", "--quiet")
    pipeline.wait_for_more_parts(3, driver)
    driver.kill()
    pipeline.finish(driver)
    eventually(
        lambda: (
            not any(pipeline.children(f"datamodels.services.{name}") for name in ("trainer", "aggregator", "sampler"))
        )
    )

    # Nor is any other service that dies, at its start or at work; see also `tests/runners/test_local.py`. The fit would
    # take minutes, so that it does not end before it is killed.
    quick = pipeline.path.read_text()
    slow = pipeline.spec.with_fit({"solver": "saga", "lambdas": 1000, "tolerance": 1e-6, "patience": 1000})
    pipeline.path.write_text(yaml.safe_dump(slow.document()))
    for verb, module, at_work in (
        ("train", "datamodels.services.sampler", False),
        ("fit", "datamodels.services.fitter", True),
    ):
        driver = pipeline.start(verb, "--quiet", "--trainers", "1")
        while at_work and driver.poll() is None and not any((tmp_path / ".datamodels" / "scratch").rglob("*")):
            time.sleep(0.01)
        pipeline.kill(module, driver)
        code, _, err = pipeline.finish(driver)
        assert code == ExitCode.TRANSIENT, f"{module} was killed: {err}"
    pipeline.path.write_text(quick)

    code, out, err = pipeline.command("run", pipeline.path, "--quiet")
    assert code == 0, err
    assert sorted(pipeline.committed()) == list(range(pipeline.spec.models))
    assert "LDS" in out


TRAINER = """
import numpy as np

class Hopeless:
    def __init__(self, dataset, targets):
        self.n = len(targets)
    def train(self, subset, seed):
        return None
    def outputs(self, model):
        return np.full(self.n, np.nan)
"""


def test_a_trainer_whose_models_all_fail_is_told_why(tmp_path):
    (tmp_path / "hopeless.py").write_text(TRAINER)
    mine = linear() | {"trainer": {"class": "hopeless:Hopeless", "options": {}}}
    pipeline = Pipeline(tmp_path, m=60, evaluate={"subsets": 0}, **mine)
    code, out, err = pipeline.command("aggregate", pipeline.path, "--quiet", "--trainers", "1")
    assert (code, out) == (ExitCode.CONFIG, "")
    assert "models on 6 of the 6 subsets so far failed, too many to be chance" in err
    assert "100 of 100 outputs are not finite" in err


def test_a_wrong_trainer_is_refused_before_anything_starts(tmp_path):
    pipeline = Pipeline(
        tmp_path, **linear() | {"trainer": {"class": "datamodels.testing.linear:Linear", "options": {"colour": "red"}}}
    )
    code, out, err = pipeline.command("run", pipeline.path)
    assert (code, out) == (ExitCode.CONFIG, "")
    assert err.startswith("datamodels: trainer.options.colour: unknown option of ")
    assert not (tmp_path / ".datamodels" / "logs").exists()


def test_a_wrong_spec_is_refused_before_anything_starts(tmp_path):
    pipeline = Pipeline(tmp_path)
    pipeline.path.write_text(yaml.safe_dump(small(alpha=2, m="many")))
    code, out, err = pipeline.command("run", pipeline.path)
    assert (code, out) == (ExitCode.CONFIG, "")
    assert err.splitlines() == [
        "datamodels: alpha = 2: must be less than 1",
        "datamodels: m = 'many': must be a valid integer",
    ]
    assert not (tmp_path / ".datamodels").exists()
