"""Check what a run left in its store after kills: the invariants of the commit protocol, and that its fit is right."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from datamodels.aggregate import manifest, part
from datamodels.errors import DatamodelsError
from datamodels.fit.job import finished, fits
from datamodels.fit.job.job import FitJob
from datamodels.lifecycle import objects, verify
from datamodels.run.runs import Run
from datamodels.settings import FitterSettings
from datamodels.storage import ObjectStore, keys
from tests.helpers import protocol
from tests.helpers.memory import MemoryStore

BLOCK = 2
"""Targets in a block of a fit, so that it has several. Another number changes the last digits of the weights."""


def violations(store: ObjectStore, run: Run, acknowledged: Sequence[tuple[range, bool, bytes]]) -> Iterator[str]:
    """Yield what is wrong with a run that its driver left as finished.

    acknowledged  what trainers were told: models, whether the trainer was first, and the outputs that it sent
    """
    for check in (_protocol, _whole, _fit):
        try:
            yield from check(store, run, acknowledged)
        except AssertionError as error:
            yield str(error).partition("\n")[0] or f"{check.__name__} failed"
        except DatamodelsError as error:
            yield f"I3, I4: {type(error).__name__}: {error}"


def _protocol(store: ObjectStore, run: Run, acknowledged: Sequence[tuple[range, bool, bytes]]) -> Iterator[str]:
    told = []
    for models, was_first, sent in acknowledged:
        rows = np.frombuffer(sent, np.float32).reshape(len(models), run.n)
        told.append((part.validate(run, models, np.array(models, np.int32), rows), was_first))
    protocol.check_invariants(store, run, told)
    yield from ()


def _whole(store: ObjectStore, run: Run, _: object) -> Iterator[str]:
    snapshot = manifest.read_newest(store, run.name)
    if snapshot.committed != run.spec.models:
        yield f"I1: the driver ended well, and {snapshot.committed} of {run.spec.models} models are listed"
    for fault in verify.verify(store, objects.of_run(store, run.name)):
        yield f"I3: {fault}"


def _fit(store: ObjectStore, run: Run, _: object) -> Iterator[str]:
    """Fit the same outputs again, in memory, and compare the weights bit by bit."""
    record = finished.require_fit(store, run.name)
    if not store.exists(keys.evaluation(run.name, record.number)):
        yield f"the driver ended well, and fit {record.number} has no evaluation"
    copied = MemoryStore()
    for prefix in (keys.run(run.name), f"runs/{run.name}/", f"aggregate/{run.name}/"):
        for key in store.list(prefix):
            copied.create(key, store.read(key))
    with tempfile.TemporaryDirectory() as scratch:
        settings = FitterSettings(scratch=scratch, device="cpu", threads=1, block=BLOCK)
        again = FitJob(copied, run.name).solve(settings, progress=lambda *_: None, stop=threading.Event())
    assert again is not None
    kept, expected = fits.load(store, record), fits.load(copied, again)
    same = (np.array_equal(getattr(kept, of), getattr(expected, of)) for of in ("indptr", "columns", "weights"))
    if record.digest != again.digest or not all(same):
        yield f"fit {record.number} differs from a fit of the same outputs that nobody killed"
