"""Code that a spec names is imported only if somebody who may run code here has agreed."""

import functools
import subprocess
import sys
from subprocess import check_output  # noqa: F401 - a module that imports it does not offer it to specs

import pytest

from datamodels.errors import ConfigError, SpecError
from datamodels.run import examples, runs, specs, trust
from datamodels.train import Dataset
from docs.generate import workloads

HERE = __name__
alias = functools.partial(subprocess.check_output, ["true"])


def load(x=1):
    return Dataset([[1.0]] * 9, [0, 1, 2] * 3, [[2.0]], [x])


class Caller:
    def __call__(self):
        return 1


caller = Caller()


def spec(load="datamodels.train.digits:load", cls="datamodels.train.mlp:MLP", features=None, **options):
    document = {"name": "a", "dataset": {"load": load, "options": options.pop("data", {})}, "m": 100}
    document["trainer"] = {"class": cls, "options": options}
    return specs.parse(document | ({"fit": {"features": features}} if features else {}))


def allows(reference):
    try:
        runs.reference("dataset.load", reference)
    except SpecError as error:
        assert trust.TrustSettings.prefix in str(error), error
        return False
    return True


pytestmark = pytest.mark.usefixtures("cautious")


@pytest.mark.parametrize(
    "reference",
    [
        "subprocess:check_output",
        "os:system",
        "builtins:eval",
        "builtins:__import__",
        "importlib:import_module",
        f"{HERE}:load",
        # Code of the package that does what its arguments say.
        "datamodels.cli.main:main",
        "datamodels.run.runs:reference",
        "datamodels.fit.estimators.base:_named",
        "datamodels.plan.trial:subprocess",
        "datamodels.runners.local:subprocess",
        "datamodels.services.trainer.service:main",
        # Modules of the package that specs may name, but not what these import.
        "datamodels.train.workloads.text:importlib",
        "datamodels.train.workloads.boosting:reference",
        "datamodels.train.images.load:np",
        "datamodels.train.texts:np",
    ],
)
def test_nothing_is_imported_that_nobody_trusts(reference):
    assert not allows(reference)


def test_a_module_that_nobody_trusts_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "bait.py").write_text("import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SpecError, match="add --trust bait to the command, or bait to DATAMODELS_TRUST_MODULES"):
        runs.load_dataset(spec("bait:load"))
    assert not (tmp_path / "bait.ran").exists() and "bait" not in sys.modules


def test_all_that_ships_with_the_package_is_trusted():
    shipped = {reference for reference, _ in workloads.found()}
    for name in examples.names():
        given = specs.load(name)
        found = trust._references_in([given.dataset.options, given.trainer.options])
        shipped |= {given.dataset.load, given.trainer.cls, given.fit.features, *found}
    assert shipped <= trust.BUILT_IN
    for reference in sorted(shipped):
        assert allows(reference)


@pytest.mark.parametrize(
    ("module", "reference", "trusted"),
    [
        (HERE, f"{HERE}:load", True),
        (HERE.partition(".")[0], f"{HERE}:load", True),
        (HERE, f"{HERE}:Caller", True),
        (HERE, f"{HERE}:caller", True),
        (HERE[:-1], f"{HERE}:load", False),
        (HERE, f"{HERE}:check_output", False),
        (HERE, f"{HERE}:subprocess", False),
        (HERE, f"{HERE}:alias", False),
        (f"{HERE}, subprocess", f"{HERE}:check_output", True),
        ("*", f"{HERE}:check_output", True),
    ],
)
def test_a_trusted_module_offers_what_is_defined_in_it(monkeypatch, module, reference, trusted):
    monkeypatch.setenv("DATAMODELS_TRUST_MODULES", module)
    assert allows(reference) == trusted
    monkeypatch.delenv("DATAMODELS_TRUST_MODULES")
    trust.trust_modules(name.strip() for name in module.split(","))
    assert allows(reference) == trusted


def test_a_spec_of_the_user_may_use_what_it_names_and_nothing_else():
    given = spec(f"{HERE}:load", "numpy:square", "numpy:ravel", build=["numpy:negative", {"a": f"{HERE}:check_output"}])
    named = [f"{HERE}:load", "numpy:square", "numpy:ravel", "numpy:negative", f"{HERE}:check_output"]
    assert not any(map(allows, named))
    trust.trust_training(given)
    assert [allows(name) for name in named] == [True, True, False, True, True]
    trust.trust_spec(given)
    assert all(map(allows, named)) and not allows("numpy:abs") and not allows(f"{HERE}:Caller")


def test_a_stored_run_may_use_what_it_names_if_its_spec_has_the_hash_that_was_given():
    given, other = spec(f"{HERE}:load", data={"x": 1}), spec(f"{HERE}:load", data={"x": 2})
    with pytest.raises(ConfigError, match="may not choose the code that runs here"):
        trust.trust_run("a", other, given.hash)
    assert not allows(f"{HERE}:load")
    trust.trust_run("a", given, given.hash)
    assert allows(f"{HERE}:load")
    assert not allows("numpy:ravel")


def test_a_stored_run_chooses_no_file_to_write():
    given = spec(cls="datamodels.train.images.trainer:ResNet9", ffcv_file="/tmp/anywhere")
    with pytest.raises(SpecError, match=r"trainer.options.ffcv_file = '/tmp/anywhere': .* --trust '\*'"):
        trust.require_files(given)
    trust.require_files(spec())
    trust.trust_spec(given)
    trust.require_files(given)
    with pytest.raises(SpecError):
        trust.require_files(spec(cls="datamodels.train.images.trainer:ResNet9", beton="/tmp/elsewhere"))


def test_features_are_not_in_the_hash_and_so_not_trusted_by_it():
    given = spec(features="numpy:ravel")
    trust.trust_run("a", given, given.hash)
    assert not allows("numpy:ravel")
