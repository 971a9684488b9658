"""`python -m datamodels.services.trainer --run NAME [--chunks 0,2,4]` trains chunks of a run, and ends."""

import os
import signal
import sys

from datamodels.errors import ExitCode

if __name__ == "__main__":
    # The first process of a container ignores a SIGTERM that it does not handle, and the imports below take a while.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(ExitCode.TERMINATED))

    from .service import main

    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is committed and said, and to take torch down in order is most of a second of each trainer.
    os._exit(code)
