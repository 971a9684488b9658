"""`python -m datamodels.services.trainer --run NAME [--chunks 0,2,4]` trains chunks of a run, then exits."""

import os
import signal
import sys

from datamodels.errors import ExitCode

if __name__ == "__main__":
    # The first process of a container ignores SIGTERM unless it handles it, and the imports below take a while.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(ExitCode.TERMINATED))

    from .service import main

    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is committed and logged. A regular exit of torch would take most of a second.
    os._exit(code)
