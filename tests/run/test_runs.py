import dataclasses
import json

import numpy as np
import pytest

from datamodels.errors import ConflictError, CorruptObjectError, RunNotFoundError, SpecError
from datamodels.outputs import LOSS, MARGIN, Output
from datamodels.run import designs, runs, specs
from datamodels.storage import keys, records
from datamodels.storage.local import LocalStore
from datamodels.train import Dataset
from datamodels.train.texts import Text, language_dataset


def dataset(examples=20, tests=6, **fields):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(examples + tests, 3)).astype("f4"), np.arange(examples + tests) % 4
    return Dataset(x[:examples], y[:examples], x[examples:], y[examples:], **fields)


def loads_something_else():
    return 3


def raises():
    raise OSError("no disk")


def make_spec(**fields):
    base = {"name": "try", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100}
    return specs.parse(base | fields)


@pytest.mark.parametrize(
    "targets, own", [("test", [-1] * 6), ("train", list(range(20))), ("both", [-1] * 6 + list(range(20)))]
)
def test_targets_know_which_training_example_they_are(targets, own):
    run = runs.resolve(make_spec(targets=targets), dataset())
    assert run.own.tolist() == own
    assert run.n == len(own) == len(run.target_labels)


@pytest.mark.parametrize("kind", ["uniform", "stratified", "grouped", "hadamard"])
def test_a_run_survives_the_store(tmp_path, kind):
    store = LocalStore(tmp_path)
    groups = np.array(["a", "b", "c", "d"])[np.arange(20) % 4] if kind == "grouped" else None
    run = runs.resolve(make_spec(design={"kind": kind, "pinned_out": [1]}, m=30), dataset(groups=groups))
    assert runs.create(store, run)
    again = runs.read(store, run.name)
    assert json.dumps(again.document()) == json.dumps(run.document())
    np.testing.assert_array_equal(designs.subsets(again.design, 0, 50), designs.subsets(run.design, 0, 50))


def test_creating_again_is_a_no_op_and_changed_data_under_the_same_spec_is_refused(tmp_path):
    store = LocalStore(tmp_path)
    run = runs.resolve(make_spec(), dataset())
    assert runs.create(store, run)
    assert not runs.create(store, run)
    with pytest.raises(ConflictError, match="design, labels, target_labels is not what the run was created with"):
        runs.create(store, runs.resolve(make_spec(), dataset(examples=30)))


def test_spans_are_kept_and_may_not_change_under_the_same_spec(tmp_path):
    texts = language_dataset([Text([1, 2])] * 4, [(Text([1, 2, 3]), 1, 2), (Text([4, 5]), 1, 2)])
    store, run = LocalStore(tmp_path), runs.resolve(make_spec(), texts)
    runs.create(store, run)
    found = runs.read(store, run.name)
    assert found.spans == run.spans and found.labels is None
    assert [found.target_name(target) for target in range(2)] == ["1 [[2]] 3", "4 [[5]]"]
    assert not runs.create(store, run)
    for other in ([(0, 1)] * 2, None):
        with pytest.raises(ConflictError, match=": spans is not what the run was created with"):
            runs.create(store, runs.resolve(make_spec(), dataclasses.replace(texts, spans_test=other)))


def test_a_run_keeps_the_type_of_outputs_that_it_was_created_with(tmp_path):
    store, run = LocalStore(tmp_path), runs.resolve(make_spec(), dataset())
    assert runs.create(store, dataclasses.replace(run, dtype="float16"))
    assert run.dtype == "float32" and not runs.create(store, run)
    assert runs.read(store, run.name).dtype == "float16"


def test_what_outputs_mean_comes_from_the_spec_else_from_the_trainer_else_from_the_labels():
    price = Output("price error", "euro", higher_is_better=False)
    assert runs.resolve(make_spec(), dataset()).output == MARGIN
    run = runs.resolve(make_spec(), dataset(), declared=price)
    assert run.output == run.declared == price
    run = runs.resolve(make_spec(output={"threshold": 50, "unit": "k€"}), dataset(), declared=price)
    assert run.output == Output("price error", "k€", higher_is_better=False, threshold=50)
    run = runs.resolve(make_spec(output={"threshold": None, "higher_is_better": None}), dataset())
    assert run.declared == Output("margin")
    with pytest.raises(SpecError, match=r"output.threshold = 0.0: needs output.higher_is_better"):
        runs.resolve(make_spec(output={"higher_is_better": None}), dataset())
    with pytest.raises(SpecError, match=r"fit.estimator = 'influence': counts models that are right; .* no threshold"):
        runs.resolve(make_spec(fit={"estimator": "influence"}), dataset(), declared=price)


def test_what_outputs_mean_may_be_declared_anew(tmp_path):
    store, silent = LocalStore(tmp_path), runs.resolve(make_spec(), dataset())
    price = Output("price error", "euro", higher_is_better=False, threshold=50.0)
    runs.create(store, silent)
    for run, expected, written in (
        (silent, MARGIN, 0),
        (runs.resolve(make_spec(), dataset(), declared=MARGIN), MARGIN, 0),  # what was assumed is now declared
        (runs.resolve(make_spec(), dataset(), declared=price), price, 1),
        (silent, price, 1),  # what is assumed replaces nothing
        (runs.resolve(make_spec(output={"threshold": 60.0}), dataset(), declared=price), price.judged(60), 2),
        (runs.resolve(make_spec(), dataset(), declared=MARGIN), MARGIN, 3),
        (runs.resolve(make_spec(), dataset(label_names=tuple("abcd")), declared=MARGIN), MARGIN, 4),
    ):
        assert not runs.create(store, run)
        assert runs.read(store, run.name).output == expected
        assert len([*store.list(f"runs/{run.name}/")]) == written == runs.newest_meaning(store, run.name) + 1
    assert runs.read(store, silent.name).label_names == ("a", "b", "c", "d")
    assert runs.names(store) == [silent.name]
    path = tmp_path / keys.meaning(silent.name, 3)
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"e"'))
    with pytest.raises(CorruptObjectError, match=r"meaning-000003\.json: sha256"):
        runs.read(store, silent.name)


def test_a_record_of_the_first_version_says_nothing_of_outputs(tmp_path):
    store, run = (
        LocalStore(tmp_path),
        runs.resolve(make_spec(trainer={"class": "a:B", "options": {"output": "loss"}}), dataset()),
    )
    document = run.document()
    del document["output"], document["label_names"]
    records.create(store, keys.run(run.name), document)
    found = runs.read(store, run.name)
    assert (found.declared, found.output, found.label_names) == (None, LOSS, ())
    assert found.label_name(3) == "3" and found.label_name(-1) == ""
    runs.create(store, run)
    assert runs.newest_meaning(store, run.name) == -1


def test_an_unknown_run_is_told_as_such(tmp_path):
    with pytest.raises(RunNotFoundError, match="no such run: 'nope' in "):
        runs.read(LocalStore(tmp_path), "nope")


def test_an_altered_record_is_found_and_named(tmp_path):
    store = LocalStore(tmp_path)
    run = runs.resolve(make_spec(), dataset())
    runs.create(store, run)
    path = tmp_path / keys.run(run.name)
    path.write_bytes(path.read_bytes().replace(b'"m":100', b'"m":101'))
    with pytest.raises(CorruptObjectError, match=rf"{run.name}\.json: sha256"):
        runs.read(store, run.name)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptObjectError, match="is not a record"):
        records.read(store, keys.run(run.name))


@pytest.mark.parametrize("name", ["", "a/b", "../x", "A" * 300, "try-xyz", "try-0e0dfed9811c\n"])
def test_what_is_no_name_of_a_run_names_none(tmp_path, name):
    with pytest.raises(RunNotFoundError, match="no such run"):
        runs.read(LocalStore(tmp_path), name)


@pytest.mark.parametrize("body", [3, {}, {"spec": {}}, {"spec": None, "design": {"pinned_in": 3}}])
def test_a_record_of_another_shape_is_told_as_such(tmp_path, body):
    store = LocalStore(tmp_path)
    records.create(store, keys.run("try-0e0dfed9811c"), body)
    with pytest.raises(CorruptObjectError, match="is not a run as this version"):
        runs.read(store, "try-0e0dfed9811c")


def test_a_data_set_may_be_of_lists():
    assert runs.resolve(make_spec(), Dataset([[1.0]] * 9, [0, 1, 2] * 3, [[2.0]], [1])).n == 1


def test_one_store_lists_its_runs(tmp_path):
    store = LocalStore(tmp_path)
    made = [runs.resolve(make_spec(seed=seed), dataset()) for seed in range(3)]
    for run in made:
        runs.create(store, run)
    assert sorted(map(keys.run_of, store.list(keys.RUNS))) == sorted(run.name for run in made)


@pytest.mark.parametrize(
    "fields, fault",
    [
        ({"alpha": 0.001}, "draws 0"),
        ({"design": {"kind": "grouped"}}, "the data set gives no groups"),
        ({"design": {"pinned_in": [20]}}, "pins column 20: must be 0 to 19"),
        ({"design": {"kind": "complement", "pinned_in": [3]}}, "an even number"),
        ({"design": {"kind": "complement"}, "alpha": 0.4}, "needs alpha = 0.5"),
    ],
)
def test_a_spec_that_does_not_fit_its_data_is_refused(fields, fault):
    with pytest.raises(SpecError, match=fault):
        runs.resolve(make_spec(**fields), dataset())


def needs_more():
    raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn.datasets")


@pytest.mark.parametrize(
    "load, options, fault",
    [
        ("no.such.module:load", {}, "cannot be imported"),
        ("datamodels.train.digits:nothing", {}, "has no nothing"),
        (
            "datamodels.train.digits:load",
            {"colour": 1},
            "dataset.options.colour: unknown option of datamodels.train.workloads.digits:load; its options are ",
        ),
        (f"{__name__}:loads_something_else", {}, "returned int, must be a Dataset"),
        (f"{__name__}:raises", {}, "raised OSError: no disk"),
        (f"{__name__}:needs_more", {}, r"sklearn.*which is not installed; pip install 'datamodels-ml\[trainer\]'"),
    ],
)
def test_a_data_set_that_does_not_load_is_refused(load, options, fault):
    with pytest.raises(SpecError, match=fault):
        runs.load_dataset(make_spec(dataset={"load": load, "options": options}))


def test_a_run_of_a_spec_that_meant_more_models_before_is_continued(tmp_path):
    store, given, old = LocalStore(tmp_path), make_spec(), make_spec(evaluate={"models": 20})
    assert given.evaluate.models == 2 and runs.continued(store, given) is given
    runs.create(store, runs.resolve(old, dataset()))
    assert runs.continued(store, given).run == old.run
    assert runs.continued(store, old) is old
    runs.create(store, runs.resolve(given, dataset()))
    assert runs.continued(store, given) is given


@pytest.mark.parametrize("models", [2, 20])
def test_a_run_that_was_created_when_the_lasso_was_the_default_keeps_it(tmp_path, models):
    store, given = LocalStore(tmp_path), make_spec()
    old = make_spec(evaluate={"models": models}, fit={"estimator": "lasso"})
    runs.create(store, runs.resolve(old, dataset()))
    assert given.fit.estimator == "prior"
    assert runs.continued(store, given).run == old.run and runs.continued(store, given).fit.estimator == "lasso"
    for asked in ("prior", "ridge"):
        assert runs.continued(store, make_spec(fit={"estimator": asked})).fit.estimator == asked


def test_a_run_of_another_estimator_takes_the_default_if_the_spec_names_none(tmp_path):
    store = LocalStore(tmp_path)
    runs.create(store, runs.resolve(make_spec(fit={"estimator": "ridge"}), dataset()))
    assert runs.continued(store, make_spec()).fit.estimator == "prior"
