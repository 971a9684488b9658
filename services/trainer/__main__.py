"""`python -m services.trainer --run NAME [--chunks 0,2,4]` trains chunks of a run, and ends."""

import sys

from services.trainer.service import main

if __name__ == "__main__":
    sys.exit(main())
