"""What a fit asks of a GPU: bounds on launches, waits and bytes."""

import dataclasses
import threading

import numpy as np
import pytest
import structlog

from datamodels.errors import SettingsError
from datamodels.fit import device as on_device
from datamodels.fit import memory, solve
from datamodels.fit.contract.targets import Targets
from datamodels.fit.data import moments
from datamodels.fit.data.rows import Rows
from datamodels.fit.estimators.base import solver_of
from datamodels.fit.lasso import leave_out
from datamodels.fit.lasso.base import L1
from datamodels.fit.lasso.fista import Fista
from datamodels.fit.lasso.saga import Saga
from datamodels.fit.lasso.shared_gram import GramIteration, Standardised
from datamodels.plan.fit import made_up
from datamodels.run.estimators import SOLVERS
from datamodels.run.specs import FitSpec
from tests.hostcuda.problems import made_problem

pytestmark = pytest.mark.gpu

SPEC = FitSpec(lambdas=6, lambda_ratio=0.1, tolerance=1e-3, batch_size=256)


def rows_of(made, **options):
    """The rows on a GPU that keeps no masks as floats."""
    import cupy

    return Rows(made, xp=cupy, cache=0, **options)


@pytest.mark.parametrize("own", [0, 8])
@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_masks_and_outputs_cross_once(device, solver, own):
    """However many blocks and passes there are; outputs as they are stored, in 2 bytes."""
    made = made_problem(203, 1500, 24, own)
    spec, rows, steps = SPEC.model_copy(update={"solver": solver}), rows_of(made), []
    for first in (0, 8, 16):
        solver_of(spec).solve(rows, spec, first, first + 8, seed=0, tick=steps.append)
    assert device.counts()["uploaded"] <= made.masks.nbytes + made.outputs.nbytes + 2500 * len(steps)


def between(device, steps, call):
    """What one of `steps` calls asks for."""
    call(0)
    device.reset()
    for number in range(steps):
        call(1 + number)
    return {name: count / steps for name, count in device.counts().items()}


def test_a_step_on_the_gram_is_a_product_and_few_kernels(device):
    rows = rows_of(made_problem(203, 1500, 8))
    data = Standardised.of(rows, Targets.read(rows, 0, 8).columns(rows.whole)[0])
    iteration = GramIteration(rows, data, L1(), moments.of_masks(rows), whole=False)
    state, top = iteration.start()
    iteration.set_lambda(state, np.arange(8), top / 3)
    found = between(device, 5, lambda number: iteration.epoch(state, number, np.full(8, 1e-3)))
    assert found["products"] == 1
    assert found["launches"] <= 6
    assert found["syncs"] <= 2
    assert found["uploaded"] + found["downloaded"] <= 8 * 80  # a few numbers for each target


def method_and_state(method, rows, **options):
    made = method(rows, rows.whole, seed=[0], **options)
    state = made.start(rows.outputs(0, 8), rows.keep(0, 8), np.arange(8))
    made.set_lambda(state, made.measure(state).dual_norm / 3)
    return made, state


@pytest.mark.parametrize("own", [0, 8])
def test_an_epoch_of_saga_waits_once(device, own):
    """However many batches it has."""
    rows = rows_of(made_problem(203, 1500, 8, own))
    for batch in (500, 100):
        saga, state = method_and_state(Saga, rows, batch=batch)
        found = between(device, 3, lambda number, saga=saga, state=state: saga.epoch(state, number))
        batches = -(-1500 // batch)
        assert found["syncs"] == 1
        assert found["products"] == 2 * batches
        assert found["launches"] <= 10 * batches + 10
        assert found["uploaded"] + found["downloaded"] <= 8 * 24


@pytest.mark.parametrize("own", [0, 8])
def test_a_step_of_fista_copies_no_rows(device, own):
    """A batch is unpacked, multiplied twice, and its residuals are taken in one kernel."""
    rows = rows_of(made_problem(203, 1500, 8, own))
    launches = {}
    for batches in (3, 15):
        fista, state = method_and_state(Fista, rows, pass_bytes=1500 // batches * 204 * 4)
        assert len(fista.batches) == batches
        found = between(device, 3, lambda number, fista=fista, state=state: fista.epoch(state, number))
        assert found["products"] == 2 * batches
        assert found["syncs"] <= 4
        assert found["uploaded"] + found["downloaded"] <= 8 * 64
        launches[batches] = found["launches"]
    assert (launches[15] - launches[3]) / 12 <= 3


def sized(solver, m, d, n, own=0, **options):
    return made_problem(d, m, n, own), FitSpec(solver=solver, lambdas=3, lambda_ratio=0.3, tolerance=1e-2, **options)


def test_a_block_is_solved_in_the_parts_that_memory_holds(device, monkeypatch):
    """The blocks of a card of 80 GB are those of a card of 24 MB."""
    made, spec = sized("gram", 600, 100, 600)
    asked = []
    read = Rows.outputs
    monkeypatch.setattr(Rows, "outputs", lambda rows, a, b, span=None: asked.append((a, b)) or read(rows, a, b, span))
    assert solve.blocks(made, spec, device="cuda") == [(0, 600)]
    whole = solve.fit(made, spec, 0, device="cuda")
    assert asked == [(0, 600)]
    asked.clear()
    device.set(memory=9 << 20)
    parts = solve.fit(made, spec, 0, device="cuda")
    assert asked[0][0] == 0 and 1 < len(asked) < 12 and asked[-1][1] == 600
    assert device.counts()["live"] == 0
    np.testing.assert_allclose(parts.dense(range(600)), whole.dense(range(600)), atol=1e-5)


def test_out_of_memory_halves_the_part_and_says_so(device, monkeypatch):
    made, spec = sized("stream", 600, 100, 64)
    solve.fit(made, spec, 0, device="cuda")
    device.set(memory=int(0.8 * device.counts()["peak"]))
    monkeypatch.setattr(on_device.Phases, "most", lambda phases, room: 1000)  # a plan that is far too low
    with structlog.testing.capture_logs() as logs:
        found = solve.fit(made, spec, 0, device="cuda")
    assert found.status == ["ok"] * 64
    said = [(entry["before"], entry["targets"]) for entry in logs if "ran out of memory" in entry["event"]]
    assert said[0] == (64, 32) and all(after == (before + 1) // 2 for before, after in said)
    device.set(memory=1 << 18)
    with pytest.raises(SettingsError, match=r"too little to fit one target of 600 models on 100 columns"):
        solve.fit(made, spec, 0, device="cuda")


def test_memory_is_given_back_after_a_fit(device):
    import cupy

    made, spec = sized("gram", 300, 50, 8)
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(cupy.get_default_memory_pool().malloc):
        solve.fit(made, spec, 0, device="cuda")
    assert device.counts()["peak"] > 100_000
    assert device.counts()["live"] == 0 == pool.total_bytes()


def test_the_next_block_is_read_while_this_one_is_solved(device):
    made, spec = sized("gram", 300, 50, 24)
    read, done = [], {first: threading.Event() for first in (0, 8, 16)}

    class Outputs(np.ndarray):
        def __getitem__(self, key):
            if len(self) == 300 and isinstance(key, tuple):  # all rows, of the targets of a block
                read.append((key[1].start, threading.current_thread().name.startswith("outputs")))
                done[key[1].start].set()
            return super().__getitem__(key).view(np.ndarray)

    def tick(progress):
        following = 8 * (progress.targets_done // 8 + 1)
        if progress.stage == "path" and following < 24:
            assert done[following].wait(60)

    made = dataclasses.replace(made, outputs=made.outputs.view(Outputs))
    solve.fit(made, spec, 0, device="cuda", block_targets=8, progress=tick)
    assert sorted(read) == [(0, True), (8, True), (16, True)]


@pytest.mark.parametrize(
    "solver, m, d, n, own",
    [
        ("gram", 3000, 500, 256, 0),
        ("gram", 4000, 300, 512, 0),
        ("gram", 800, 600, 512, 0),
        ("stream", 4000, 300, 256, 0),
        ("stream", 1500, 600, 256, 256),
        ("saga", 4000, 300, 256, 0),
    ],
)
def test_the_plan_is_what_the_gpu_holds(device, solver, m, d, n, own):
    made, spec = sized(solver, m, d, n, own)
    solve.fit(made, spec, 0, device="cuda")
    planned = memory.memory(memory.Size(m, d, n, own), spec, device="cuda")
    taken = device.counts()["peak"]
    print(solver, m, d, n, own, planned, planned.peak / memory.HEAP / taken)
    assert planned.peak / memory.HEAP == pytest.approx(taken, rel=0.25)
    assert planned.gram == (solver == "gram") * d * d * 20


@pytest.mark.parametrize("m, d, n, own", [(300, 80, 48, 0), (200, 60, 24, 24)])
def test_a_choice_on_a_gpu_is_that_of_numpy_within_its_plan(device, monkeypatch, m, d, n, own):
    """What it holds depends on labels and on what is chosen, so the plan is an upper bound."""
    monkeypatch.setattr(leave_out, "LEAVE_OUT_BYTES", 0)  # this solver of training examples has no twin
    spec, size = FitSpec(estimator="prior", lambdas=4), memory.Size(m, d, n, own)
    made = made_up(size, d, n, spec)
    ours = solve.fit(made, spec, 0, threads=1)
    device.reset()
    theirs = solve.fit(made, spec, 0, device="cuda")
    assert theirs.choice["way"] == ours.choice["way"]
    assert theirs.choice["errors"] == pytest.approx(ours.choice["errors"], abs=5e-3)
    np.testing.assert_allclose(theirs.dense(range(n)), ours.dense(range(n)), atol=0.03)
    planned, taken = memory.memory(size, spec, device="cuda").peak / memory.HEAP, device.counts()["peak"]
    print(m, d, n, own, planned / taken, device.counts())
    assert taken < planned < 4 * taken
    assert device.counts()["live"] == 0
