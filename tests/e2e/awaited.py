"""A trainer that waits until Prometheus has scraped it: short trainings would end before Prometheus finds them."""

import os
import time
from pathlib import Path

from datamodels.testing import linear
from tests.helpers.waiting import LIMIT


class Linear(linear.Linear):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        served, end = os.environ.get("DATAMODELS_SERVE_ADDRESS_FILE"), time.monotonic() + LIMIT
        while served and not seen(Path(served)).exists() and time.monotonic() < end:
            time.sleep(0.05)


def seen(served):
    """Return the file that exists once the process with this address file has been scraped."""
    return served.with_suffix(".seen")
