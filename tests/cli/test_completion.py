"""Completion by the shells themselves. That of zsh needs a terminal; where zsh is not installed, it is not tested."""

import os
import pty
import select
import shutil
import subprocess
import time

import pytest

from datamodels.cli.main import main
from tests.cli.declared import endings
from tests.helpers.waiting import LIMIT

CASES = [
    (["datamodels", "comp"], {"compare", "components", "completion"}),
    (["datamodels", "query", "si"], {"similar"}),
    (["datamodels", "query", "similar", "r", "1", "--metric", ""], {"cosine", "rbf"}),
    (["datamodels", "leakage", "r", "--by", ""], {"inputs", "weights"}),
    (["datamodels", "conflicts", "r", "--groups", "cl"], {"classes", "clusters"}),
    (["datamodels", "compare", "r", "--t"], {"--targets", "--threshold", "--trainings", "--trust"}),
    (["datamodels", "run", "sp"], {"spec.yaml", "specs"}),
    (["datamodels", "plan", "dig"], {"digits", "digits32"}),
    (["datamodels", "examples", "dia"], {"diabetes"}),
    (["datamodels", "submit", "spec.yaml", "specs/d"], {"specs/digits.yaml"}),
    (["datamodels", "trainer", "check", "--spec", "specs/"], {"specs/digits.yaml"}),
    (["datamodels", "status", "--home", "s"], {"specs"}),
    (["datamodels", "completion", ""], {"bash", "zsh"}),
    (["datamodels", "--v"], {"--version"}),
]
BASH = """
source "$1"; shift
read -r -a registered <<< "$(complete -p datamodels)"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
"${registered[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "digits.yaml").touch()
    (tmp_path / "spec.yaml").touch()
    return tmp_path


@pytest.fixture
def script(capsys, tmp_path):
    """script(shell) writes the script of a shell and returns its path."""

    def write(shell):
        assert main(["completion", shell]) == 0
        path = tmp_path / "functions" / "_datamodels"
        path.parent.mkdir()
        path.write_text(capsys.readouterr().out)
        return path

    return write


def bash(script, folder, words):
    command = ["bash", "--norc", "-c", BASH, "bash", str(script), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes(script, folder):
    path = script("bash")
    assert {" ".join(words): bash(path, folder, words) for words, _ in CASES} == {
        " ".join(words): expected for words, expected in CASES
    }


def test_every_command_and_option_is_completed(script, folder):
    path = script("bash")
    for words, found in endings():
        shown = {
            option for action in found._actions if action.help != "==SUPPRESS==" for option in action.option_strings
        }
        options = bash(path, folder, ["datamodels", *words, "-"])
        assert options == shown, words


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes(script, folder):
    path = script("zsh")
    (folder / ".zshrc").write_text(f"PS1='> '\nfpath=({path.parent} $fpath)\nautoload -U compinit\ncompinit -u -D\n")
    ours, theirs = pty.openpty()
    environ = dict(os.environ, TERM="dumb", ZDOTDIR=str(folder))
    zsh = subprocess.Popen(
        ["zsh", "-i"], cwd=folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        wait_for(ours, "> ")
        for words, whole in (
            ("datamodels query si", "similar"),
            ("datamodels leakage r --by w", "weights"),
            ("datamodels query similar r 1 --metric c", "cosine"),
            ("datamodels compare r --base", "--baselines"),
            ("datamodels run specs/d", "digits.yaml"),
            ("datamodels run bo", "boosting"),
            ("datamodels examples dia", "diabetes"),
        ):
            os.write(ours, f"{words}\t".encode())
            wait_for(ours, whole)
            os.write(ours, b"\x15")  # clears the line
    finally:
        zsh.kill()
        zsh.wait()
        os.close(ours)


def wait_for(terminal, text):
    shown, end = "", time.monotonic() + LIMIT
    while text not in shown:
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
