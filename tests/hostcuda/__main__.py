"""Run the tests of the fit that need a GPU on the host device: python -m tests.hostcuda FOLDER [options of pytest].

FOLDER keeps what is built. If it cannot be built here, this says why and succeeds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.hostcuda import build

TESTS = ("tests/fit", "tests/hostcuda")


def main(folder: Path, options: list[str]) -> int:
    try:
        build.build(folder)
    except build.Impossible as error:
        print(f"skipped: the host device cannot be built: {error}", file=sys.stderr)
        return 0
    pytest = ["-m", "pytest", "-p", "tests.hostcuda.device", "-m", "gpu", "-rs", *(options or TESTS)]
    environment = os.environ | {"HOSTCUDA": str(folder)}
    failed = subprocess.run([sys.executable, *pytest], env=environment, check=False).returncode
    return failed or subprocess.run([sys.executable, "-m", "tests.hostcuda.nvrtc", str(folder)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
