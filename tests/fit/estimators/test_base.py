import dataclasses
import inspect

import numpy as np
import pytest

from datamodels.errors import SpecError
from datamodels.fit.contract.block import Solve
from datamodels.fit.estimators.base import solve_of, solver_of, uses_sums
from datamodels.run import specs
from datamodels.run.estimators import DEFAULT, ESTIMATORS, GRAM, OF_ARRAYS, SOLVERS, TARGETS
from datamodels.run.specs import FitSpec

CONTRACT = inspect.signature(Solve.__call__).parameters.keys() - {"self"}


@pytest.mark.parametrize(
    "settings", [{"estimator": name} for name in ESTIMATORS] + [{"solver": name} for name in SOLVERS]
)
def test_every_name_has_code_that_keeps_the_contract(settings):
    settings = FitSpec(**settings)
    for solve in (solve_of(settings), solver_of(settings).solve):
        taken = inspect.signature(solve).parameters
        assert taken.keys() >= CONTRACT
        assert all(p.default is not p.empty for name, p in taken.items() if name not in CONTRACT), "others are optional"


def test_the_defaults_are_declared():
    assert (FitSpec().estimator, FitSpec().solver) == ("prior", "gram")
    assert FitSpec(solver=GRAM).estimator == "lasso", "a solver is that of the LASSO"
    assert FitSpec(solver=GRAM, estimator="pooled").estimator == "pooled"
    assert ESTIMATORS[DEFAULT].targets == TARGETS, "it is proposed for what others do not take"
    assert OF_ARRAYS == "lasso"


@pytest.mark.parametrize(("name", "targets"), [(name, targets) for name in ESTIMATORS for targets in TARGETS])
def test_a_spec_may_ask_for_the_targets_that_the_estimator_takes(name, targets):
    document = {"name": "a", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100}
    document |= {"targets": targets, "fit": {"estimator": name}}
    if targets in ESTIMATORS[name].targets:
        assert specs.parse(document).fit.estimator == name
    else:
        with pytest.raises(
            SpecError, match=f"fit.estimator = '{name}': takes targets: .*, and not '{targets}'; or take"
        ):
            specs.parse(document)


def test_sums_are_used_by_the_lasso_from_its_gram_alone(made_problem):
    made, _ = made_problem(d=20, m=60, n=3, own=[-1, 2, 3])
    used = {
        (estimator, solver)
        for estimator in ESTIMATORS
        for solver in SOLVERS
        if uses_sums(made, FitSpec(estimator=estimator, solver=solver))
    }
    assert used == {("lasso", "gram")}
    left_out = dataclasses.replace(made, own_column=np.array([1, 2, 3], dtype=np.int32))
    assert not uses_sums(left_out, FitSpec(solver=GRAM)), "each of its targets counts other rows"
    assert not uses_sums(dataclasses.replace(made, columns=30_000, **_wide(60, 30_000)), FitSpec(solver=GRAM)), (
        "too large"
    )


def _wide(rows: int, columns: int) -> dict:
    masks = np.zeros((rows, -(-columns // 8)), dtype=np.uint8)
    return {"masks": masks, "center": np.full(columns, 0.5, dtype=np.float32), "stratum": None}
