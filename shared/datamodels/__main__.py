"""python -m datamodels"""

import sys

from datamodels.cli.main import main

sys.exit(main())
