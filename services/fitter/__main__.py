"""`python -m datamodels.services.fitter` serves until SIGTERM, then stops the running fit at a checkpoint.

`python -m datamodels.services.fitter --run NAME --block I --blocks K` solves and commits share I of K of a fit.
"""

import sys

from datamodels.fit.job.fitter import Fitter
from datamodels.fit.solve import array_module
from datamodels.rpc import serve
from datamodels.rpc.serve import Service
from datamodels.settings import FitterSettings, ServeSettings, StoreSettings
from datamodels.storage import open_store

from . import batch
from .service import service


def build() -> list[Service]:
    settings = FitterSettings.load()
    array_module(settings.device)  # refuses an unavailable device at once, as a wrong setting
    fitter = Fitter(open_store(StoreSettings.load()), settings)
    return [service(fitter, watches=max(1, ServeSettings.load().workers // 2))]


if __name__ == "__main__":
    sys.exit(batch.main(sys.argv[1:]) if sys.argv[1:] else serve.main("fitter", build))
