"""What a fit asks of a GPU: bounds on launches, waits and bytes."""

import numpy as np
import pytest

from datamodels.fit.data.rows import Rows
from datamodels.fit.estimators.base import solver_of
from datamodels.fit.lasso.fista import Fista
from datamodels.fit.lasso.saga import Saga
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
    made, rows = made_problem(203, 1500, 8), None
    from datamodels.fit.contract.targets import Targets
    from datamodels.fit.lasso.base import L1
    from datamodels.fit.lasso.shared_gram import GramIteration, Standardised

    rows = rows_of(made)
    data = Standardised.of(rows, Targets.read(rows, 0, 8).columns(rows.whole)[0])
    iteration = GramIteration(rows, data, L1(), whole=False)
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
