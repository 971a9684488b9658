import argparse
import importlib
import tomllib
from pathlib import Path

import pytest

from datamodels.cli.main import main
from datamodels.cli.parser import parser
from datamodels.extras import DISTRIBUTION
from tests.cli.declared import commands, endings

ROOT = Path(__file__).parents[2]
SHARED = ("--home", "--store", "--address", "--namespace", "--context", "--kubeconfig", "--trainers", "--threshold")
WITHOUT = ("lds", "price", "verify", "alpha", "compared", "remove", "add", "relabel", "label")
"""Options without which less is done, so that they have no default to tell."""


def test_the_function_of_a_command_is_there():
    for words, found in endings():
        module, _, function = found.get_default("command").partition(":")
        assert callable(getattr(importlib.import_module(module), function, None)), words


def test_commands_and_their_arguments_say_what_they_are():
    """Each has help; what takes a value has a name for it, and says what is done without."""
    for words, found in commands():
        assert found.description and found.description.endswith("."), words
        for action in found._actions:
            if isinstance(action, argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
                continue
            assert action.help, (words, action.dest)
            if action.option_strings and action.nargs != 0:
                assert action.metavar or action.choices, (words, action.dest)
                assert "default" in action.help or action.dest in WITHOUT, (words, action.dest)


def test_an_option_of_several_commands_is_the_same_in_all():
    found = {}
    for words, command in endings():
        for action in command._actions:
            for name in set(action.option_strings) & set(SHARED):
                found.setdefault(name, {})[words] = (action.help, action.default, action.metavar, action.type)
    assert found.keys() == set(SHARED)
    for name, uses in found.items():
        assert len(set(uses.values())) == 1 and len(uses) > 1, name


def test_what_asks_the_query_service_says_where_the_store_is_too():
    """A service that is started for the command needs it."""
    for words, command in endings():
        options = set(command._option_string_actions)
        assert "--address" not in options or {"--home", "--store"} <= options, words


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    assert ended.value.code == 0 and capsys.readouterr().out == f"datamodels {project['version']}\n"


@pytest.mark.parametrize(
    "command, old, text, name, value",
    [
        ("compare", "--rivals", "trak,inputs", "baselines", ["trak", "inputs"]),
        ("review", "--brittle", "0.1", "fragile", 0.1),
    ],
)
def test_an_old_name_of_an_option_is_taken_and_not_shown(capsys, command, old, text, name, value):
    assert getattr(parser().parse_args([command, "r", old, text]), name) == value
    assert getattr(parser().parse_args([command, "r", f"--{name}", text]), name) == value
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert old not in capsys.readouterr().out


@pytest.mark.parametrize(
    "line, said",
    [
        ("runn digits", "argument COMMAND: unknown: 'runn'; did you mean run?"),
        ("query toop RUN 3", "argument QUESTION: unknown: 'toop'; did you mean top?"),
        ("query xyzzy", "argument QUESTION: unknown: 'xyzzy'; must be one of runs, run, "),
        ("--verson", "unknown option --verson; did you mean --version?"),
        ("run --quite", "unknown option --quite; did you mean --quiet?"),
        ("run digits --trainer=3", "unknown option --trainer; did you mean --trainers?"),
        ("compare RUN --rival trak", "unknown option --rival\n"),  # the old name --rivals is not offered
        ("completion fish", "argument SHELL: unknown: 'fish'; must be one of bash, zsh"),
        ("review RUN --fragile 3", "argument --fragile: '3': must be a number above 0 and at most 1"),
        ("review RUN --brittle=2", "argument --brittle: '2': must be a number above 0 and at most 1"),
        ("query top RUN -1 -x", "unknown option -x"),
    ],
)
def test_a_mistyped_word_is_named_first_with_what_it_may_mean(capsys, line, said):
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_what_looks_like_an_option_behind_two_dashes_is_none():
    assert parser().parse_args(["run", "--quiet", "--", "--mine.yaml"]).spec == "--mine.yaml"
    assert parser().parse_args(["support", "RUN", "-1", "--safety", "-0.5"]).targets == [-1]


@pytest.mark.parametrize(
    "line, said",
    [
        ("compare RUN --baselines foo", "--baselines 'foo': must be of feldman_zhang, "),
        ("counterfactual RUN 3 --remove 3-", "--remove '3-': must be columns or ranges of them"),
        ("report RUN --output no/such/page.html", "--output no/such/page.html: there is no folder no/such; create it"),
        ("run digits --report no/such/page.html", "--report no/such/page.html: there is no folder no/such; create it"),
    ],
)
def test_values_are_checked_before_the_store_is_opened(capsys, tmp_path, monkeypatch, line, said):
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
