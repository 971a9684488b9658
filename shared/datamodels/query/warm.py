"""Read the newest fit before a query service says that it is ready, so that no caller waits for that."""

from __future__ import annotations

from datamodels.errors import DatamodelsError, StoreUnavailableError
from datamodels.query.weights import WeightStore
from datamodels.storage import keys
from datamodels.telemetry import logger

log = logger(__name__)

LOOKS = 20
"""Most runs that are looked at for a fit, the newest first."""


class Warm:
    """Checks whether a weight store can answer, and reads its newest fit during the first check."""

    def __init__(self, weights: WeightStore):
        self._weights = weights
        self._done = False

    def check(self) -> None:
        """Raises StoreUnavailableError if the store does not answer. The first check ends when the fit is in memory.

        A fit that cannot be read for another reason holds nobody up: calls about it say why.
        """
        self._weights.store.ping()
        if self._done:
            return
        try:
            self._read()
        except StoreUnavailableError:
            raise
        except DatamodelsError as error:
            log.warning("the newest fit is not read ahead", reason=str(error))
        self._done = True

    def _read(self) -> None:
        """Read the newest fit of the newest run that has one."""
        records = sorted(self._weights.store.entries(keys.RUNS, deep=False), key=lambda entry: -entry.modified)
        for entry in records[:LOOKS]:
            run = keys.run_of(entry.key)
            if self._weights.fits(run):
                log.info("reading the newest fit before the service is ready", run=run)
                self._weights.fitted(run)
                return
