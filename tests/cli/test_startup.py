"""What commands import before they do anything: modules are counted, and not seconds."""

import json
import re
import subprocess
import sys

from datamodels.testing import fitted
from tests.helpers.waiting import LIMIT

SCRIPT = """
import json, sys
before = set(sys.modules)
from datamodels.cli.main import main
for line in sys.argv[1:]:
    try:
        main(line.split())
    except SystemExit:
        pass
print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)
"""
HEAVY = ("scipy", "torch", "numba", "sklearn", "boto3", "kubernetes", "cupy", "pyarrow", "grpc", "tqdm", "structlog")
LIGHT = ("numpy", "pydantic", "yaml", "google")
"""What a command may need, but not its declaration."""


def imported(*lines):
    """(names of the modules that a process imports for some commands, what it prints)"""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *lines], capture_output=True, text=True, timeout=LIMIT, check=True
    )
    return json.loads(done.stderr), done.stdout


def test_help_imports_declarations_alone():
    modules, out = imported("--help", "--version", "run --help", "query similar --help", "compare --help")
    assert out.count("usage: datamodels") == 4 and re.search("^datamodels [0-9]", out, re.M)
    assert not {name.split(".")[0] for name in modules} & {*HEAVY, *LIGHT}
    assert len(modules) < 150, "a declaration imports more than it used to: 55 modules, 102 for the version"


def test_parts_and_weights_are_written_and_read_without_pandas(tmp_path):
    """Arrow imports it when it converts arrays."""
    script = f"""
import sys
from datamodels.fit.job import fits
from datamodels.testing import committed, fitted
store, run, _ = fitted.make_store({str(tmp_path)!r})
assert fits.load(store, fits.read_newest_fit(store, run.name)).n == run.n
run = committed.make_run(name="other")
assert len(list(committed.commit(store, run).outputs(store))) > 1
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], timeout=LIMIT, check=True)


def test_status_imports_no_solver_and_no_client(tmp_path):
    _, run, _ = fitted.make_store(tmp_path / "store")
    modules, out = imported(f"status --home {tmp_path}")
    assert out.startswith(run.name) and "fit 0" in out
    assert not {name.split(".")[0] for name in modules} & set(HEAVY)
    assert len(modules) < 400, "reading records imports more than it used to: 308 modules"
