"""Standard streams that are closed, full, or ASCII only, in real processes of the smallest commands."""

import os
import subprocess
import sys

import pytest

from datamodels.errors import ExitCode

DATAMODELS = f"{sys.executable} -m datamodels"


def shell(command, **environ):
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": ""} | environ,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (
            "PYTHONUNBUFFERED=1 {dm} examples >/dev/full",
            ExitCode.FAILED,
            "datamodels: standard output: cannot be written",
        ),
        ("{dm} examples >/dev/full", ExitCode.FAILED, "datamodels: standard output: cannot be written: No space left"),
        (
            "{dm} run --help >/dev/full",
            ExitCode.FAILED,
            "datamodels: standard output: cannot be written: No space left",
        ),
        ("{dm} examples digits | head -1; exit ${{PIPESTATUS[0]}}", ExitCode.DONE, ""),
        ("{dm} --help | true; exit ${{PIPESTATUS[0]}}", ExitCode.DONE, ""),
        ("{dm} examples >&-", ExitCode.DONE, ""),
        ("{dm} examples --json >/dev/full", ExitCode.FAILED, "datamodels: standard output: cannot be written: No spac"),
        ("{dm} examples --json | true; exit ${{PIPESTATUS[0]}}", ExitCode.DONE, ""),
        ("{dm} examples --json >&-", ExitCode.DONE, ""),
        ("{dm} examples nope 2>/dev/full", ExitCode.CONFIG, ""),
        ("{dm} examples nope 2>&-", ExitCode.CONFIG, ""),
        ("{dm} fly 2>&-", ExitCode.CONFIG, ""),
        ("{dm} examples nope <&- >&- 2>&-", ExitCode.CONFIG, ""),
    ],
)
def test_a_stream_that_cannot_be_written_causes_no_traceback(command, code, said):
    done = shell(command.format(dm=DATAMODELS))
    assert done.returncode == code and done.stderr.startswith(said) and done.stderr.count("\n") == bool(said)
    assert "nope" not in done.stdout, "an error went to standard output"


@pytest.mark.parametrize(
    ("environ", "shown"),
    [({"PYTHONIOENCODING": "ascii"}, r"n\xe4me"), ({"LC_ALL": "C", "PYTHONUTF8": "0"}, r"n\ufffd\ufffdme")],
    ids=["stream", "locale"],
)
def test_a_terminal_of_ascii_shows_other_characters_escaped(environ, shown):
    """In the locale C, the name of an example is bytes that are no characters."""
    done = shell(f"{DATAMODELS} examples näme", PYTHONCOERCECLOCALE="0", **environ)
    assert done.returncode == ExitCode.CONFIG and f"datamodels: {shown}: " in done.stderr and done.stderr.isascii()
    script = "from datamodels.cli.common.streams import guarded\nguarded(lambda: print('n\\xe4me') or 0)"
    done = shell(f'{sys.executable} -c "{script}"', PYTHONCOERCECLOCALE="0", **environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "n\\xe4me\n", "")


def test_answers_are_alone_on_standard_output():
    """Not only what Python prints: libraries and child processes write to the file itself."""
    script = """
import os, subprocess
from datamodels.cli.common.output import print_json
from datamodels.cli.common.streams import answers_alone, guarded

def command():
    with answers_alone():
        print("user")
        os.write(1, b"library\\n")
        print_json({"a": "\xe4"})
        subprocess.run(["echo", "child"])
    print("after")
    return 0

guarded(command)
"""
    done = shell(f"{sys.executable} -c '{script}'")
    assert done.stdout == '{"a": "\\u00e4"}\nafter\n', done.stderr
    assert sorted(done.stderr.splitlines()) == ["child", "library", "user"]


def test_errors_that_are_not_of_the_streams_are_raised():
    script = "from datamodels.cli.common.streams import guarded\nguarded(lambda: open('/no/such/file'))"
    assert "FileNotFoundError" in shell(f'{sys.executable} -c "{script}"').stderr


VARIABLES = [
    "TQDM_NCOLS",
    "TQDM_MININTERVAL",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION",
    "GRPC_POLL_STRATEGY",
    "JOBLIB_MULTIPROCESSING",
    "LOKY_MAX_DEPTH",
    "SKLEARN_WORKING_MEMORY",
    "COLUMNS",
]


def test_variables_of_other_libraries_break_no_command():
    """These made imports fail, or ended processes."""
    script = (
        "import sys\nfrom datamodels.cli.main import main\n"
        "sys.argv = ['datamodels', 'examples']\nassert main() == 0\n"
        "import datamodels.runners.view, grpc, joblib, sklearn\ngrpc.insecure_channel('127.0.0.1:1').close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | dict.fromkeys(VARIABLES, "-nonsense"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stderr == ""
