"""`python -m datamodels.services.sampler` serves until SIGTERM."""

import sys

from datamodels.rpc.serve import main

from .service import service

if __name__ == "__main__":
    sys.exit(main("sampler", lambda: [service()]))
