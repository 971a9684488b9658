"""Torture the project: `make torture`, or

    python -m tests.torture [ROW ...] [--minutes 2 | --rounds N] [--seed SEED] [--folder FOLDER]

Each row does something many times, and counts what must never happen. Minutes are for each row; give hours to be surer.
A fault is printed with its seed, and the exit status is 1. `tests/torture/test_torture.py` runs a short version.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.torture import calls, files, lives, power
from tests.torture.faults import row as faults
from tests.torture.kills import row as kills
from tests.torture.rows import Budget, Row

ROWS = {
    "kills": Row("f1: SIGKILLs of all processes at their writes, alone and together", kills.run),
    "faults": Row("f2: faults at every storage call, and of networks", faults.run),
    "calls": Row("f3: wrong messages to every call of every service", calls.run),
    "lives": Row("f6: runs made, fitted, read, pruned and deleted beside each other under kills", lives.run),
    "power": Row("f5: power failures of a disk that loses what was not flushed", power.run),
    "files": Row("f3: damaged objects, read by every call and command", files.run),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help=f"rows (default: all): {', '.join(ROWS)}")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each row (default: 2)")
    parser.add_argument("--rounds", type=int, help="of each row, instead of minutes")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="repeats a torture")
    parser.add_argument("--folder", type=Path, help="keep what rows write here, and go on from what is there")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    failed = False
    for name in options.rows or ROWS:
        seconds = float("inf") if options.rounds else 60 * options.minutes
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.folder or Path(temporary)) / name
            folder.mkdir(parents=True, exist_ok=True)
            began = time.monotonic()
            result = ROWS[name].run(folder, options.seed, Budget(seconds, options.rounds))
        print(f"\n{name}: {ROWS[name].what}, {time.monotonic() - began:.0f} s")
        for title, figure in (*result.figures.items(), *sorted(result.outcomes.items())):
            print(f"  {title:<44}{figure:>24}")
        for fault in result.faults:
            print(f"  FAULT {fault[:3000]}")
        print(f"  faults: {len(result.faults)}", flush=True)
        failed |= bool(result.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
