import functools
import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from datamodels import extras

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OPTIONAL = ("boosting", "transformers", "lightning")
"""Extras that the extra `test` leaves out, because they are large."""


def names(dependencies):
    """Distributions of requirements, without our own."""
    found = {re.match(r"[\w.-]+", d).group().lower().replace("_", "-") for d in dependencies}
    return found - {extras.DISTRIBUTION}


@functools.cache
def distributions_of_modules():
    return importlib.metadata.packages_distributions()


@pytest.mark.parametrize("extra", extras.MODULES)
def test_the_advice_knows_the_modules_of_an_extra(extra):
    owners = distributions_of_modules()
    missing = [module for module in extras.MODULES[extra] if module not in owners]
    if missing and extra in OPTIONAL:
        pytest.skip(f"needs {', '.join(missing)}, which the tests can do without")
    known = {owner.lower().replace("_", "-") for module in extras.MODULES[extra] for owner in owners[module]}
    assert names(EXTRAS[extra]) <= known
    assert not known & names(PROJECT["dependencies"])


def test_every_extra_for_users_brings_what_runs_need():
    alone = {"run", "docs", "test"}  # `test` includes others that include it
    base = f"{extras.DISTRIBUTION}[run]"
    assert {extra for extra, dependencies in EXTRAS.items() if base not in dependencies} == alone


def test_no_dependency_is_listed_twice():
    assert not names(PROJECT["dependencies"]) & names(EXTRAS["run"])


def test_only_modules_of_extras_are_advised_on():
    def missing(name):
        return ModuleNotFoundError(f"No module named {name!r}", name=name)

    assert extras.advice(missing("scipy.sparse")).endswith("pip install 'datamodels-ml[run]'")
    assert extras.advice(missing("torch")).endswith("pip install 'datamodels-ml[trainer]'")
    assert extras.advice(missing("lightgbm")).endswith("pip install 'datamodels-ml[boosting]'")
    assert extras.advice(missing("mine")) == ""
    assert extras.advice(ModuleNotFoundError("without a name")) == ""


def test_the_readme_names_the_version_of_pytorch_that_is_tested():
    (tested,) = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert re.findall(r"pip install torch==(\S+)", (ROOT / "README.md").read_text()) == [tested]
