import json
import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from datamodels.services.fitter.__main__ import build
from datamodels.services.fitter.service import service

from datamodels.errors import ExitCode, NotReadyError, RunNotFoundError, SettingsError, SpecError, UnavailableError
from datamodels.fit.data import problem, scratch
from datamodels.fit.job import fits
from datamodels.fit.job.fitter import Fitter
from datamodels.fit.solve import fit
from datamodels.rpc.clients.fitter import FitState, FitterClient
from datamodels.rpc.serve import Server
from datamodels.run import designs, runs
from datamodels.run.specs import FitSpec
from datamodels.settings import ClientSettings, FitterSettings, ServeSettings, StoreSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import committed
from datamodels.v1 import fitter_pb2, fitter_pb2_grpc
from tests.helpers.waiting import LIMIT, eventually


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture
def client(store, tmp_path):
    settings = FitterSettings(scratch=str(tmp_path / "scratch"), device="cpu", threads=1)
    with (
        Server(ServeSettings(), [service(Fitter(store, settings))], "fitter") as server,
        FitterClient(server.address, ClientSettings(attempts=1)) as client,
    ):
        client.address = server.address
        yield client


def test_from_committed_outputs_to_committed_weights(store, client, tmp_path):
    """Targets are training and test examples."""
    run = committed.make_run(targets="both")
    runs.create(store, run)
    committed.commit(store, run, failed=(3, 4))
    started = client.fit(run.name)
    assert started.state is FitState.RUNNING and started.targets == run.n == 35 and started.fit == -1
    seen = list(client.watch(run.name, timeout=LIMIT))  # the first fit compiles its loops
    last = seen[-1]
    assert (last.state, last.fit, last.targets_done, last.fraction, last.error) == (FitState.DONE, 0, 35, 1.0, "")
    assert all(p.state is FitState.RUNNING for p in seen[:-1])
    assert last.remaining == 0 and started.remaining is None
    assert {p.digest for p in seen} == {started.digest}

    record = fits.read_newest_fit(store, run.name)
    assert (record.number, record.rows, record.manifest_version) == (0, 198, 0)
    assert (record.columns, record.targets, record.solver) == (30, 35, "gram")
    assert record.digest == last.digest and record.spec_hash == run.spec.hash
    solution = fits.load(store, record)
    assert solution.status == ["ok"] * 35
    theta = committed.truth(run)
    for j in range(run.n):
        weights = solution.dense([j])[0]
        own = run.own[j]
        if own >= 0:
            assert weights[own] == 0  # no row of its fit contains it
        others = np.arange(committed.D) != own
        assert np.corrcoef(weights[others], theta[others, j])[0, 1] > 0.8
    # Only what the next fit of the run can use is kept. The lock is never removed.
    assert sorted(path.name for path in (tmp_path / "scratch").iterdir()) == [run.name, f"{run.name}.lock"]
    assert sorted(path.name for path in (tmp_path / "scratch" / run.name).iterdir()) == ["shards", "sums.npz"]


def test_a_repeated_request_does_nothing_until_there_is_more_to_fit(store, client):
    run = committed.make_run()
    runs.create(store, run)
    committed.commit(store, run, stop=150)
    client.fit(run.name)
    assert list(client.watch(run.name, timeout=LIMIT))[-1].fit == 0
    assert client.fit(run.name).state is FitState.DONE
    assert client.fit(run.name).fit == 0
    committed.commit(store, run)
    assert client.fit(run.name).state is FitState.RUNNING
    assert list(client.watch(run.name, timeout=LIMIT))[-1].fit == 1
    assert fits.read_newest_fit(store, run.name).rows == 200


def test_one_run_is_fitted_in_several_ways(store, client):
    """A fit that was made before becomes the newest again without being fitted again."""
    run = committed.make_run(fit={"holdout": 0.2})
    runs.create(store, run)
    committed.commit(store, run)
    seen = []
    ridge, lasso = FitSpec(estimator="ridge", holdout=0.4), run.spec.fit
    for settings in (None, ridge, lasso, ridge):
        digest = client.fit(run.name, settings).digest
        (*_, last) = client.watch(run.name, digest, timeout=LIMIT)
        assert (last.state, last.digest) == (FitState.DONE, digest), last.error
        seen.append(fits.read_fit(store, run.name, last.fit))
    assert [record.number for record in seen] == [0, 1, 2, 3]
    assert [record.estimator for record in seen] == ["lasso", "ridge"] * 2
    assert seen[2].blocks == seen[0].blocks and seen[3].blocks == seen[1].blocks
    assert seen[0].of(run).spec == run.spec and seen[1].of(run).spec.fit == ridge
    index = np.arange(run.spec.m)
    masks, outputs = designs.subsets(run.design, 0, run.spec.m), committed.outputs_of(run, index)
    alone = fit(problem.of_run(seen[1].of(run), masks, outputs, index), ridge, run.spec.seed)
    np.testing.assert_allclose(fits.load(store, seen[1]).dense(range(run.n)), alone.dense(range(run.n)), rtol=1e-4)


def test_settings_that_a_run_cannot_be_fitted_with(store, client):
    run = committed.make_run()
    runs.create(store, run)
    committed.commit(store, run)
    stub = fitter_pb2_grpc.FitterServiceStub(client._channel)
    for settings, expected in (
        ('{"lambdas": 0}', "fit.lambdas = 0"),
        ('{"colour": 1}', "fit.colour"),
        ("[", "is not JSON"),
        ("[" * 100_000, "is not JSON, or is nested too deeply"),
        ('{"holdout": 0.001}', "holds out less than 2"),
    ):
        with pytest.raises(SpecError, match=re.escape(expected)):
            stub.Fit(fitter_pb2.FitRequest(run=run.name, settings=settings))


def test_more_evaluation_models_do_not_cause_a_new_fit(store, client):
    run = committed.make_run()
    runs.create(store, run)
    committed.commit(store, run, stop=200)
    client.fit(run.name)
    assert list(client.watch(run.name, timeout=LIMIT))[-1].fit == 0
    committed.commit(store, run)
    assert client.fit(run.name).state is FitState.DONE


def test_a_fit_of_an_earlier_fitter_is_recognised(store, client, tmp_path):
    run = committed.make_run()
    runs.create(store, run)
    committed.commit(store, run)
    earlier = Fitter(store, FitterSettings(scratch=str(tmp_path / "earlier"), device="cpu", threads=1))
    earlier.fit(run.name)
    assert list(earlier.watch(run.name))[-1].fit == 0
    earlier.close()
    (only,) = client.watch(run.name, timeout=LIMIT)
    assert (only.state, only.fit) == (FitState.DONE, 0)


def test_a_run_that_does_not_exist(client):
    with pytest.raises(RunNotFoundError, match="nothing-0123"):
        client.fit("nothing-0123")
    with pytest.raises(RunNotFoundError, match="nothing-0123"):
        list(client.watch("nothing-0123", timeout=LIMIT))


def test_nothing_committed_yet(store, client):
    run = committed.make_run()
    runs.create(store, run)
    with pytest.raises(NotReadyError, match="train some"):
        client.fit(run.name)
    committed.commit(store, run, stop=10, failed=range(10))
    with pytest.raises(NotReadyError, match="train some"):
        client.fit(run.name)


def test_watching_a_fit_that_was_never_requested(store, client):
    run = committed.make_run()
    runs.create(store, run)
    committed.commit(store, run)
    with pytest.raises(NotReadyError, match="call Fit first"):
        list(client.watch(run.name, timeout=LIMIT))


def test_a_failed_fit_gives_the_reason_and_can_be_requested_again(store, client):
    run = committed.make_run()
    runs.create(store, run)
    snapshot = committed.commit(store, run)
    part = snapshot.parts[4]
    whole = store.read(part.key)
    store.delete(part.key)
    client.fit(run.name)
    last = list(client.watch(run.name, timeout=LIMIT))[-1]
    assert last.state is FitState.FAILED
    assert part.key in last.error and last.exit_code == ExitCode.FAILED
    store.create(part.key, whole)
    assert client.fit(run.name).state is FitState.RUNNING
    assert list(client.watch(run.name, timeout=LIMIT))[-1].state is FitState.DONE


def test_two_fitters_on_one_scratch_folder_take_turns(store, tmp_path):
    run = slow_run()
    runs.create(store, run)
    committed.commit(store, run)
    fitters = [Fitter(store, FitterSettings(scratch=str(tmp_path / "scratch"), device="cpu")) for _ in range(2)]
    try:
        for fitter in fitters:
            fitter.fit(run.name)
        reports = [list(fitter.watch(run.name)) for fitter in fitters]
    finally:
        for fitter in fitters:
            fitter.close()
    assert [(progress[-1].state, progress[-1].fit) for progress in reports] == [(FitState.DONE, 0)] * 2
    assert fits.read_newest_fit(store, run.name).number == 0
    assert [path.name for path in (tmp_path / "scratch").glob("*/*")] == ["shards"]


def test_a_fitter_that_waits_for_another_can_be_stopped(store, tmp_path):
    run = slow_run()
    runs.create(store, run)
    committed.commit(store, run)
    scratch_folder = tmp_path / "scratch"
    fitter = Fitter(store, FitterSettings(scratch=str(scratch_folder), device="cpu"))
    with scratch.alone(scratch_folder / run.name, waiting=lambda: None):
        fitter.fit(run.name)
        fitter.close()
    assert fitter.progress(run.name).state is FitState.FAILED
    assert fitter.progress(run.name).exit_code == ExitCode.TRANSIENT
    assert fits.read_newest_fit(store, run.name) is None


def slow_run():
    """A run whose fit takes long enough to kill it in the middle."""
    return committed.make_run(
        m=1000,
        chunk=200,
        sub_chunk=100,
        targets="both",
        fit={"solver": "saga", "lambdas": 200, "batch": 20, "tolerance": 1e-5, "patience": 200},
    )


def start_fitter(tmp_path, attempts=1):
    address = tmp_path / "address.json"
    address.unlink(missing_ok=True)
    environ = dict(os.environ)
    for settings in (
        StoreSettings(url=f"file://{tmp_path / 'store'}"),
        FitterSettings(scratch=str(tmp_path / "scratch"), device="cpu", threads=1),
        ServeSettings(address_file=str(address)),
    ):
        environ |= settings.environ()
    process = subprocess.Popen(
        [sys.executable, "-m", "datamodels.services.fitter"], env=environ, stderr=subprocess.DEVNULL
    )
    eventually(address.exists, while_true=lambda: process.poll() is None)
    return process, FitterClient(json.loads(address.read_text())["address"], ClientSettings(attempts=attempts))


def test_a_stopped_and_then_killed_fitter_continues_after_a_restart(store, tmp_path):
    run = slow_run()
    runs.create(store, run)
    committed.commit(store, run)
    for how, far in ((signal.SIGTERM, 0.2), (signal.SIGKILL, 0.4)):
        process, client = start_fitter(tmp_path)
        client.fit(run.name)
        for progress in client.watch(run.name, timeout=LIMIT):
            if progress.fraction > far:
                break
        assert progress.state is FitState.RUNNING
        process.send_signal(how)
        assert process.wait(timeout=LIMIT) == (0 if how == signal.SIGTERM else -how)
        client.close()
        assert fits.read_newest_fit(store, run.name) is None
        if how == signal.SIGTERM:
            assert list((tmp_path / "scratch" / run.name).glob("*/blocks/*.npz"))

    process, client = start_fitter(tmp_path)
    client.fit(run.name)
    seen = list(client.watch(run.name, timeout=LIMIT))
    process.terminate()
    assert process.wait(timeout=LIMIT) == 0
    client.close()
    assert seen[-1].state is FitState.DONE
    assert fits.load(store, fits.read_newest_fit(store, run.name)).status == ["ok"] * run.n


def test_a_device_that_is_none_is_refused_before_the_first_fit(monkeypatch):
    monkeypatch.setenv("DATAMODELS_FITTER_DEVICE", "abacus")
    with pytest.raises(SettingsError, match="abacus"):
        build()


def test_a_watch_of_a_fitter_that_is_killed_before_it_answers_ends(store, tmp_path):
    """With gRPC's own retries it would wait forever."""
    run = slow_run()
    runs.create(store, run)
    committed.commit(store, run)
    process, client = start_fitter(tmp_path, attempts=5)
    client.fit(run.name)
    process.send_signal(signal.SIGSTOP)
    killer = threading.Timer(0.3, process.kill)
    killer.start()
    with pytest.raises(UnavailableError):
        list(client.watch(run.name))
    killer.join()
    process.wait(timeout=LIMIT)
    client.close()
