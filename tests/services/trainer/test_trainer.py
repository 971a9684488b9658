"""The trainer as a process, with the real sampler and aggregator on real sockets."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest
from datamodels.services.aggregator.service import service as aggregator_service
from datamodels.services.sampler.service import service as sampler_service
from datamodels.services.trainer import service as trainer
from datamodels.services.trainer.shares import Shares

from datamodels.aggregate import manifest
from datamodels.aggregate.committer import Committer
from datamodels.errors import ConfigError, DatamodelsError, ExitCode
from datamodels.rpc.clients.aggregator import AggregatorClient
from datamodels.rpc.serve import Server
from datamodels.run import designs, runs, specs
from datamodels.settings import ClientSettings, ServeSettings, TrainerSettings
from datamodels.storage.local import LocalStore
from datamodels.train.contract import model_seed
from tests.helpers.waiting import LIMIT, eventually

USERS_MODULE = '''
import pathlib
import time
import numpy as np
from datamodels.train import Dataset

def load(examples=8):
    x = np.arange(examples, dtype=float)[:, None]
    return Dataset(x=x, y=np.zeros(examples), x_test=x[:2], y_test=np.zeros(2))

class Sum:
    """Sums the examples of a subset, slowly if asked.

    Notes each training in a file, raises at model `bad` of this process, and before model `hold` of it waits for a
    file beside the note, named go. Diverges, if asked, with seeds divisible by 3.
    """
    def __init__(self, dataset, targets, seconds=0.0, note="", bad=-1, hold=-1, diverges=False):
        self.diverges = diverges
        self.x, self.targets, self.seconds, self.note, self.bad = dataset.x[:, 0], targets, seconds, note, bad
        self.hold, self.go = hold, pathlib.Path(note).parent / "go"
        self.trained = 0
    def train(self, subset, seed):
        time.sleep(self.seconds)
        while self.trained == self.hold and not self.go.exists():
            time.sleep(0.01)
        if self.trained == self.bad:
            raise ZeroDivisionError("no examples left")
        self.trained += 1
        if self.note:
            with open(self.note, "a") as note:
                note.write(f"{seed}\\n")
        return np.nan if self.diverges and seed % 3 == 0 else self.x[subset].sum()
    def outputs(self, model):
        return np.full(len(self.targets), model)
'''


@dataclasses.dataclass
class Pipeline:
    """A running sampler and aggregator, and trainers that use them."""

    folder: str
    address: str
    client: AggregatorClient

    def create(self, m=40, **options) -> runs.Run:
        document = {
            "name": "small",
            "dataset": {"load": "users_module:load"},
            "trainer": {"class": "users_module:Sum", "options": options},
            "m": m,
            "chunk": 20,
            "sub_chunk": 5,
            "evaluate": {"subsets": 0},
        }
        run = runs.resolve(specs.parse(document), runs.load_dataset(specs.parse(document)))
        self.client.create_run(run)
        return run

    def start(self, *arguments: str, executable: str | None = None, **environ: str) -> subprocess.Popen:
        clients = ClientSettings(sampler=self.address, aggregator=self.address, attempts=1)
        environ = {"DATAMODELS_TRUST_MODULES": "users_module"} | environ
        path = os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [sys.executable, "-m", "datamodels.services.trainer", *arguments],
            executable=executable,
            env=os.environ | clients.environ() | {"PYTHONPATH": path} | environ,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def train(self, *arguments: str, **environ: str) -> tuple[int, list[dict]]:
        """Run a trainer and return its exit code and log."""
        process = self.start(*arguments, **environ)
        _, log = process.communicate(timeout=LIMIT)
        return process.returncode, [json.loads(line) for line in log.splitlines()]

    def committed(self, run: runs.Run) -> list[range]:
        return self.client.progress(run.name).ranges


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    (tmp_path / "users_module.py").write_text(USERS_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    committer = Committer(LocalStore(tmp_path / "store"))
    with (
        Server(ServeSettings(grace=1), [sampler_service(), aggregator_service(committer)]) as server,
        AggregatorClient(server.address, ClientSettings()) as client,
    ):
        yield Pipeline(tmp_path, server.address, client)
    sys.modules.pop("users_module", None)


def test_chunks_are_trained_and_committed(pipeline):
    run = pipeline.create()
    code, log = pipeline.train("--run", run.name, "--chunks", "1,0", JOB_COMPLETION_INDEX="of another job")
    assert code == ExitCode.DONE
    assert pipeline.committed(run) == [range(40)]
    done = [line for line in log if line["event"] == "chunk done"]
    assert [line["chunk"] for line in done] == [1, 0]
    assert [line["models"] for line in done] == [20, 20]
    assert all(line["seconds_per_model"] > 0 and 0 < line["wait_share"] <= 1 for line in done)
    assert {line["service"] for line in log} == {"trainer"}


def test_kubernetes_says_which_chunk(pipeline):
    run = pipeline.create()
    code, _ = pipeline.train("--run", run.name, JOB_COMPLETION_INDEX="1")
    assert code == ExitCode.DONE
    assert pipeline.committed(run) == [range(20, 40)]


def test_a_model_that_diverges_is_trained_again_and_its_part_says_so(pipeline):
    run = pipeline.create(diverges=True)
    code, log = pipeline.train("--run", run.name, "--chunks", "0,1")
    assert code == ExitCode.DONE and pipeline.client.progress(run.name).complete
    store = LocalStore(pipeline.folder / "store")
    snapshot = manifest.read(store, run.name, pipeline.client.publish(run.name))
    bad = [{model for model in range(40) if model_seed(0, model, attempt) % 3 == 0} for attempt in (0, 1)]
    assert set(snapshot.failed) == bad[0] & bad[1]
    parts = list(snapshot.outputs(store))
    assert sorted(model for part in parts for model in part.retried) == sorted(bad[0] - bad[1]) != []
    assert sum(line["count"] for line in log if "second seed" in line["event"]) == len(bad[0])
    for part in parts:
        for model, row in zip(part.model_index.tolist(), part.outputs, strict=True):
            assert row[0] == designs.subset(run.design, model).sum()  # the mask is that of the index


def test_sigterm_commits_what_is_whole_and_the_next_trainer_does_the_rest(pipeline, tmp_path):
    note = tmp_path / "trained"
    run = pipeline.create(seconds=0.02, note=str(note), hold=12)
    process = pipeline.start("--run", run.name, "--chunks", "0,1")
    eventually(lambda: pipeline.committed(run) == [range(10)] and len(note.read_text().split()) == 12)
    process.send_signal(signal.SIGTERM)
    (tmp_path / "go").touch()
    _, log = process.communicate(timeout=LIMIT)
    assert process.returncode == ExitCode.TERMINATED, log
    (done,) = pipeline.committed(run)
    first = note.read_text().split()
    assert len(done) % 5 == 0 and len(done) < 40
    assert len(first) - len(done) < 5, "whole sub-chunks were thrown away"

    assert pipeline.train("--run", run.name, "--chunks", "0,1")[0] == ExitCode.DONE
    assert pipeline.committed(run) == [range(40)]
    again = note.read_text().split()[len(first) :]
    assert len(again) == 40 - len(done) and not set(again) & set(first[: len(done)])


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="asks /proc which signals a process handles")
def test_sigterm_while_it_still_imports_is_heeded(pipeline):
    """The first process of a container ignores signals that it does not handle."""
    run = pipeline.create(hold=0)
    process = pipeline.start("--run", run.name, "--chunks", "0", executable=sys.executable)

    def heeds():
        with open(f"/proc/{process.pid}/status") as status:
            (caught,) = [int(line.split()[1], 16) for line in status if line.startswith("SigCgt")]
        return caught >> (signal.SIGTERM - 1) & 1

    eventually(heeds)
    process.send_signal(signal.SIGTERM)
    out, log = process.communicate(timeout=LIMIT)
    assert process.returncode == ExitCode.TERMINATED and "Traceback" not in log, (out, log)
    assert pipeline.committed(run) == []


def test_a_killed_trainer_loses_no_more_than_a_sub_chunk_and_a_batch(pipeline, tmp_path):
    note = tmp_path / "trained"
    run = pipeline.create(seconds=0.01, note=str(note), hold=12)
    kept = trained = 0
    for _ in range(2):
        process = pipeline.start("--run", run.name, "--chunks", "0,1")
        eventually(lambda kept=kept: sum(map(len, pipeline.committed(run))) > kept)
        process.kill()
        process.communicate()
        lost = len(note.read_text().split()) - trained - (sum(map(len, pipeline.committed(run))) - kept)
        assert lost <= 5 + 1
        kept, trained = sum(map(len, pipeline.committed(run))), len(note.read_text().split())
    (tmp_path / "go").touch()
    assert pipeline.train("--run", run.name, "--chunks", "0,1")[0] == ExitCode.DONE
    progress = pipeline.client.progress(run.name)
    assert progress.ranges == [range(40)] and progress.failed == 0


def test_a_trainer_ends_with_its_parent(pipeline, tmp_path):
    run = pipeline.create(seconds=0.02, note=str(tmp_path / "trained"), hold=7)
    process = pipeline.start("--run", run.name, "--chunks", "0,1", DATAMODELS_SERVE_FOLLOW_STDIN="true")
    eventually(lambda: pipeline.committed(run))
    process.stdin.close()
    (tmp_path / "go").touch()
    assert process.wait(LIMIT) == ExitCode.TERMINATED
    process.stderr.close()


def test_metrics_are_there_while_it_trains(pipeline, tmp_path):
    run = pipeline.create(seconds=0.02, note=str(tmp_path / "trained"), hold=12)
    address = tmp_path / "address.json"
    beat, started = tmp_path / "beat", time.time()
    environ = {"DATAMODELS_SERVE_ADDRESS_FILE": str(address), "DATAMODELS_TRAINER_HEARTBEAT_FILE": str(beat)}
    process = pipeline.start("--run", run.name, "--chunks", "1", **environ)
    eventually(
        lambda: pipeline.committed(run) == [range(20, 30)] and len((tmp_path / "trained").read_text().split()) == 12
    )
    where = json.loads(address.read_text())["metrics_address"]
    with urllib.request.urlopen(f"http://{where}/metrics", timeout=LIMIT) as response:
        lines = response.read().decode().splitlines()
    process.kill()
    process.communicate(timeout=LIMIT)
    values = {line.split(" ")[0]: float(line.split(" ")[1]) for line in lines if line.startswith("datamodels_train")}
    assert values["datamodels_train_chunk"] == 1
    assert values["datamodels_train_models_total"] in (11, 12)  # the last may just have ended
    assert values["datamodels_train_sub_chunks_total"] == 2
    assert values["datamodels_train_failed_models_total"] == 0
    assert values["datamodels_train_model_seconds_count"] == values["datamodels_train_models_total"]
    assert values["datamodels_train_model_seconds_sum"] / values["datamodels_train_models_total"] >= 0.02
    assert values["datamodels_train_model_seconds_sum"] < values["datamodels_train_up_seconds"]
    assert values["datamodels_train_put_wait_seconds_total"] >= 0
    assert values["datamodels_train_subset_wait_seconds_total"] > 0
    assert values["datamodels_train_retried_models_total"] == values["datamodels_train_out_of_memory_total"] == 0
    assert values["datamodels_train_device_memory_peak_bytes"] == 0
    assert 0 < values["datamodels_train_up_seconds"] < time.time() - started
    assert started <= values["datamodels_train_heartbeat_timestamp_seconds"] <= time.time()
    assert os.stat(beat).st_mtime >= started - 1
    labels = {name.partition("{")[2].partition("=")[0] for name in values} - {""}
    assert labels == {"le"}


def test_a_users_class_that_always_raises_ends_the_process_with_its_line_and_loses_nothing(pipeline):
    run = pipeline.create(bad=7)
    code, log = pipeline.train("--run", run.name, "--chunks", "0")
    assert code == ExitCode.CONFIG
    assert re.search(
        r"users_module:Sum: models on \d+ of the \d+ subsets so far failed, too many to be chance; .*raised "
        r"ZeroDivisionError: no examples left \(/.*/users_module\.py:\d+ in train\)",
        log[-1]["event"],
    )
    assert any("Traceback (most recent call last)" in line.get("traceback", "") for line in log)
    (done,) = pipeline.committed(run)
    assert done.start == 0 and done.stop % 5 == 0


def test_a_trainer_that_is_done_takes_over_what_others_leave(pipeline):
    """Index 1 of 2 trains its share, chunks 2 and 3, and then chunk 1; chunk 0 is for index 0, which is not there."""
    run = pipeline.create(m=80)
    code, log = pipeline.train("--run", run.name, "--chunks", "0-3", "--indexes", "2", JOB_COMPLETION_INDEX="1")
    assert code == ExitCode.DONE
    assert [line["chunk"] for line in log if line["event"] == "chunk done"] == [2, 3, 1]
    assert pipeline.committed(run) == [range(20, 80)]


def test_what_cannot_be_run_ends_with_one_line(pipeline):
    run = pipeline.create()
    code, log = pipeline.train("--run", run.name)
    assert code == ExitCode.CONFIG
    assert "no chunks: give --chunks" in log[-1]["event"] and log[-1]["level"] == "error"


@pytest.mark.parametrize(
    ("name", "chunk", "aggregator", "heartbeat", "code", "reason"),
    [
        ("nobody-000000000000", 0, "", "", ExitCode.CONFIG, "nobody-000000000000"),
        ("", 2, "", "", ExitCode.CONFIG, "chunk = 2: must be 0 to 1"),
        ("", 0, "127.0.0.1:9", "", ExitCode.TRANSIENT, "127.0.0.1:9"),
        ("", 0, "", "/no/such/beat", ExitCode.CONFIG, "^DATAMODELS_TRAINER_HEARTBEAT_FILE=/no/such/beat: cannot be"),
    ],
    ids=["unknown run", "chunk out of range", "a service that may come back", "a file that cannot be written"],
)
def test_what_cannot_be_trained(pipeline, name, chunk, aggregator, heartbeat, code, reason):
    name = name or pipeline.create().name
    clients = ClientSettings(sampler=pipeline.address, aggregator=aggregator or pipeline.address, attempts=1)
    settings = TrainerSettings(heartbeat_file=heartbeat, patience=0.1)
    with pytest.raises(DatamodelsError, match=reason) as raised:
        trainer.train_chunks(name, Shares([chunk]), clients, settings, threading.Event())
    assert raised.value.exit_code == code


def test_other_data_than_the_run_was_created_with_is_refused(pipeline):
    run = pipeline.create()
    grown = dataclasses.replace(run, own=np.full(3, -1, dtype=np.int32))
    with pytest.raises(ConfigError, match="its data set gives another own here than when the run was created"):
        trainer.prepare(grown)
    assert trainer.prepare(run).models_at_once == 1


def test_a_stop_before_the_first_chunk_trains_nothing(pipeline):
    run = pipeline.create()
    stop = threading.Event()
    stop.set()
    clients = ClientSettings(sampler=pipeline.address, aggregator=pipeline.address)
    assert not trainer.train_chunks(run.name, Shares([0, 1]), clients, TrainerSettings(), stop)
    assert pipeline.committed(run) == []


def test_a_trainer_imports_only_what_is_trusted_or_in_the_spec_that_it_is_started_for(pipeline):
    run = pipeline.create(m=20, note=str(pipeline.folder / "note"))
    refused = [
        ({"DATAMODELS_TRUST_MODULES": ""}, "DATAMODELS_TRUST_MODULES"),
        ({"DATAMODELS_TRUST_MODULES": "", "DATAMODELS_TRAINER_SPEC": "0" * 64}, "may not choose the code"),
    ]
    for environ, fault in refused:
        code, log = pipeline.train("--run", run.name, "--chunks", "0", **environ)
        assert code == ExitCode.CONFIG and fault in log[-1]["event"], log
    assert not (pipeline.folder / "note").exists() and pipeline.committed(run) == []
    code, log = pipeline.train(
        *("--run", run.name, "--chunks", "0"), DATAMODELS_TRUST_MODULES="", DATAMODELS_TRAINER_SPEC=run.spec.hash
    )
    assert code == ExitCode.DONE and pipeline.committed(run) == [range(20)], log
