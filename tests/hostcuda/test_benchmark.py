"""The benchmark for a GPU machine runs, at tiny size."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "fit" / "gpu.py"


@pytest.mark.gpu
def test_it_measures_the_card_and_fits(device):
    command = [sys.executable, SCRIPT, "--host-device", device.folder, "--parts", "peak", "fit", "leave_out"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "the host" in printed and "TFLOP/s" in printed
    assert "24 ok" in printed or "for all" in printed  # a busy machine may reach the limit
    assert "failed" not in printed
