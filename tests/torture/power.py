"""Row f5: power failures of a simulated disk, which keeps what was flushed and of everything else what chance decides.

Half of them happen during writes to a local store by two processes, and half while two aggregators commit and publish
the outputs of a run. Nothing that was acknowledged may be lost, and nothing may be half there. Null controls are stores
that flush too little; each must be found out.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from datamodels.settings import TelemetrySettings
from datamodels.telemetry import configure_logging
from tests.storage import power
from tests.torture.rows import Budget, Result

KINDS = {"of a store": power.once, "of commits": power.commit_without_power}
CONTROLS = 200
"""Power failures in which a null control may be found out."""


def run(folder: Path, seed: int, budget: Budget) -> Result:
    """Lose power in each round, once in each way."""
    configure_logging(TelemetrySettings(level="error"), "torture")
    result = Result()
    for number in budget:
        for name, lose in KINDS.items():
            result.outcomes[f"power failures {name}"] += 1
            if fault := _fault(lose, f"{seed} {number}"):
                result.faults.append(f"seed {seed}, round {number}, {name}: {fault}")
    for control, breaks in power.CONTROLS.items():
        for name, lose in KINDS.items():
            with pytest.MonkeyPatch.context() as patch:
                breaks(patch)
                wrong = next(filter(None, (_fault(lose, f"{seed} {number}") for number in range(CONTROLS))), "")
            if not wrong:
                result.faults.append(f"null control {name} that {control}: was not found out")
            result.outcomes["null controls that were found out"] += bool(wrong)
    return result


def _fault(lose, seed: str) -> str:
    try:
        lose(random.Random(seed))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
        return f"{type(error).__name__}: {error}"
    return ""
