"""`python -m services.fitter` serves until SIGTERM, then stops the running fit at a checkpoint."""

import sys

from datamodels.fit.fit import array_module
from datamodels.fit.fitter import Fitter
from datamodels.rpc.serve import Service, main
from datamodels.settings import FitterSettings, ServeSettings, StoreSettings
from datamodels.storage import open_store
from services.fitter.service import service


def build() -> list[Service]:
    settings = FitterSettings.load()
    array_module(settings.device)  # a device that is not there is a wrong setting, and is said at once
    fitter = Fitter(open_store(StoreSettings.load()), settings)
    return [service(fitter, watches=max(1, ServeSettings.load().workers // 2))]


if __name__ == "__main__":
    sys.exit(main("fitter", build))
