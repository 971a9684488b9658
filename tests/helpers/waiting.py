"""The one limit of everything that tests wait for, and how they wait."""

import time

LIMIT = 1200.0
"""Seconds after which a test gives up. Only a broken test waits so long: none takes a minute on quiet cores, and a
machine may be twenty times slower. pytest's own `timeout` is longer, so that a test that gives up can say why."""


def eventually(condition, *, while_true=lambda: True, detail=str):
    """Waits until a condition holds, and returns its value; for what another thread or process brings about.

    Fails as soon as `while_true` no longer holds, for instance because the process that is waited for has ended. Its
    message ends with what `detail` returns, for instance that process's log.
    """
    end = time.monotonic() + LIMIT
    while not (found := condition()):
        assert while_true(), f"it can no longer come about: {detail()}"
        assert time.monotonic() < end, f"it did not come about within {LIMIT:.0f} s: {detail()}"
        time.sleep(0.01)
    return found
