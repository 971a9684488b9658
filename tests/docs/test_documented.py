"""Commands that the documentation shows: each target of make and each command line of datamodels exists."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from datamodels.cli.parser import parser
from tests.cli.declared import commands

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(p for p in (ROOT / "docs").rglob("*.md") if p.parent.name != "reference"),
    *(ROOT / "services").rglob("*.md"),
    *(ROOT / "helm").rglob("*.md"),
]
CODE = re.compile(r"^ {4,}(?![-*\d|] )(.+)$|^```.*\n((?:(?!```).*\n)*)```|`([^`\n]+)`", re.MULTILINE)
"""Indented lines, fenced blocks and code in a sentence."""
SHELL = re.compile(r"(?:^|\n)(?:\w+=\S+ )*(?:\.venv/bin/)?(datamodels|make) ([a-z-].*)")
COMMANDS = {words for words, _ in commands()}


def shown():
    """Yields (page, program, arguments, whether in a sentence) of each command line."""
    for page in PAGES:
        for match in CODE.finditer(page.read_text()):
            for program, rest in SHELL.findall(next(filter(None, match.groups()), "")):
                words = shlex.split(rest, comments=True)
                end = next((i for i, word in enumerate(words) if word in (">", "|", "&&", "...")), len(words))
                yield page.relative_to(ROOT), program, words[:end], bool(match[3])


SHOWN = list(shown())


def targets():
    makefile = (ROOT / "Makefile").read_text()
    return {name for name in re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)}


def test_make_lists_all_its_targets_and_the_documentation_names_no_other():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert dict(re.findall(r"^([a-z-]+) +(\S.*)$", listed, re.MULTILINE)).keys() - {"usage"} == targets()
    named = {(str(page), word) for page, program, words, _ in SHOWN for word in words if program == "make"}
    assert len(named) > 10
    assert not [(page, word) for page, word in named if "=" not in word and word not in targets()]


@pytest.mark.parametrize(
    "page, words",
    [(page, words) for page, program, words, inline in SHOWN if program == "datamodels" and not inline],
    ids=lambda value: str(value) if isinstance(value, Path) else " ".join(value)[:40],
)
def test_a_command_line_is_accepted(page, words):
    try:
        parser().parse_args(words)
    except SystemExit as ended:
        assert not ended.code, f"{page}: datamodels {' '.join(words)}"


def test_a_command_in_a_sentence_exists():
    """A sentence may show a command without its arguments."""
    found = [(str(page), words) for page, program, words, inline in SHOWN if program == "datamodels" and inline]
    assert len(found) > 10
    assert not [
        (page, words)
        for page, words in found
        if not words[0].startswith("-") and not any(tuple(words[:k]) in COMMANDS for k in (1, 2))
    ]
