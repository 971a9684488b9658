"""Specs in old and in today's spelling: the same runs, under the names that they had before anything was renamed."""

import importlib
import inspect

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from datamodels.errors import SpecError
from datamodels.run import examples, specs, spellings
from datamodels.run.specs import FitSpec
from datamodels.storage import records

NAMES = {
    "boosting": "boosting-594b8d8ca87a",
    "breast-cancer": "breast-cancer-5cba6b319544",
    "diabetes": "diabetes-28140ba65286",
    "digits": "digits-cc19e373bce7",
    "digits32": "digits32-cc486b008719",
    "cifar10": "cifar10-25605369a208",
    "text": "text-0053a847127c",
}
"""Names of the runs of the shipped specs, at commit 2e23676: before anything was renamed."""
FIT_DIGEST = "3d2ef6175945f5aa"
"""Digest of the default fit settings as they were stored at that commit."""

FIRST = {new: old for old, new in spellings.MODULES.items()}
values = st.one_of(st.integers(-(2**40), 2**40), st.booleans(), st.text(max_size=5), st.floats(-1e9, 1e9))


def old_spelling(document):
    """Return the document as it was written before anything was renamed."""

    def reference(text):
        module, _, name = text.partition(":")
        return f"{FIRST.get(module, module)}:{name}"

    trainer, fit = document["trainer"], document.get("fit", {})
    first = {new: old for old, new in spellings.OPTIONS.get(trainer["class"], {}).items()}
    options = {first.get(name, name): value for name, value in trainer.get("options", {}).items()}
    written = {"class": reference(trainer["class"])} | ({"options": options} if "options" in trainer else {})
    fit = {"batch" if name == "batch_size" else name: value for name, value in fit.items()}
    if "features" in fit:
        fit["features"] = reference(fit["features"])
    load = document["dataset"] | {"load": reference(document["dataset"]["load"])}
    return document | {"dataset": load, "trainer": written} | ({"fit": fit} if fit else {})


@st.composite
def documents(draw):
    """Draw complete documents in today's spelling, of trainers with renamed options and of others."""
    cls = draw(st.sampled_from([*spellings.OPTIONS, "datamodels.train.workloads.tabular:Tabular", "mine:Trainer"]))
    names = [*spellings.OPTIONS.get(cls, {}).values(), "epochs", "hidden", "colour"]
    module = draw(st.sampled_from([*spellings.MODULES.values(), "mine"]))
    return {
        "name": "drawn",
        "dataset": {
            "load": f"{module}:load",
            "options": draw(st.dictionaries(st.text(max_size=4), values, max_size=2)),
        },
        "trainer": {"class": cls, "options": draw(st.dictionaries(st.sampled_from(names), values))},
        "targets": "test",
        "alpha": draw(st.sampled_from([0.25, 0.5])),
        "m": draw(st.integers(20, 5000)),
        "seed": draw(st.integers(0, 2**63 - 1)),
        "design": {"kind": "uniform", "pinned_in": [], "pinned_out": draw(st.lists(st.integers(0, 9), max_size=2))},
        "chunk": 1000,
        "sub_chunk": 100,
        "evaluate": {"subsets": 10, "models": 2},
        "fit": {"batch_size": draw(st.integers(1, 999)), "features": "datamodels.fit.data.prior:flat"},
    }


BEFORE = FitSpec(estimator="lasso")
"""The defaults before 0.3."""


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_spec_names_the_run_that_it_always_did_in_both_spellings(name):
    document = yaml.safe_load(examples.text(name))
    today, old = specs.load(name), old_spelling(document)
    assert today.run == NAMES[name] and specs.parse(old) == today
    assert old != document and today.document()["trainer"]["class"] == old["trainer"]["class"]
    assert records.digest(today.fit.model_dump(mode="json") | BEFORE.model_dump(mode="json"))[:16] == FIT_DIGEST


def test_no_spec_that_was_shipped_is_gone():
    assert set(NAMES) <= set(examples.names())


@given(documents())
def test_both_spellings_of_a_spec_are_one_spec_and_name_one_run(document):
    """A spec is written, hashed and stored in the first spelling, and has today's in memory."""
    old = old_spelling(document)
    today = specs.parse(document)
    assert today == specs.parse(old) == specs.parse(today.document())
    assert today.trainer.options == document["trainer"]["options"] and today.trainer.cls == document["trainer"]["class"]
    assert today.fit.batch_size == document["fit"]["batch_size"]
    shown = spellings.today_document(today.document())
    assert {name: shown[name] for name in document} == document | {"fit": shown["fit"]}
    assert document["fit"].items() <= shown["fit"].items() and "batch" not in shown["fit"]
    hashed = {field: value for field, value in old.items() if field != "fit"}
    assert today.hash == records.digest(hashed)
    stored = records.plain(today.document())
    assert {field: value for field, value in stored.items() if field != "fit"} == records.plain(hashed)
    for written in (stored["fit"], records.plain(today.fit.model_dump()), yaml.safe_load(today.fit.model_dump_json())):
        assert written == FitSpec().model_dump(mode="json") | old["fit"] and "batch_size" not in written
        assert FitSpec(**written) == today.fit


@pytest.mark.parametrize("cls", spellings.OPTIONS)
def test_an_option_in_both_spellings_is_refused(cls):
    for old, new in spellings.OPTIONS[cls].items():
        document = {"name": "a", "dataset": {"load": "a:b"}, "m": 100}
        with pytest.raises(SpecError) as caught:
            specs.parse(document | {"trainer": {"class": cls, "options": {old: 1, new: 1}}})
        assert str(caught.value) == f"trainer.options: {old} and {new} are two spellings of one option; give {new} only"


def test_a_fit_setting_in_both_spellings_is_refused():
    document = {"name": "a", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100}
    with pytest.raises(SpecError) as caught:
        specs.parse(document | {"fit": {"batch": 1, "batch_size": 1}})
    assert str(caught.value) == "fit: batch and batch_size are two spellings of one option; give batch_size only"


def test_every_renamed_module_and_option_is_there():
    for module in spellings.MODULES.values():
        importlib.import_module(module)
    for reference, names in spellings.OPTIONS.items():
        module, _, name = reference.partition(":")
        accepted = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        assert set(names.values()) <= set(accepted) and not set(names) & set(accepted), reference
    assert set(spellings.FIT.values()) <= set(FitSpec.model_fields)


@pytest.mark.parametrize("table", [spellings.MODULES, spellings.FIT, *spellings.OPTIONS.values()])
def test_a_name_has_one_first_spelling_and_none_is_renamed_twice(table):
    assert len(set(table.values())) == len(table) and not set(table.values()) & set(table)
