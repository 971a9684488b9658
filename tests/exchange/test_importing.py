import dataclasses
import json
import pickle

import numpy as np
import pytest

from datamodels.aggregate import manifest
from datamodels.analyze.quality.unseen import Unseen
from datamodels.api import open_run
from datamodels.cli.main import main
from datamodels.errors import CorruptObjectError, InputError, SpecError
from datamodels.exchange import importing, sources
from datamodels.exchange.importing import Given
from datamodels.run import runs
from datamodels.run.designs import masks as run_masks
from datamodels.storage import keys
from datamodels.storage.local import LocalStore
from tests.exchange.conftest import D, M, N

FIT = {"lambdas": 6}


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


def given(saved, *, unseen=True, **fields):
    models = sources.open_all([saved("masks"), saved("outputs")])
    pair = (np.load(saved("unseen_masks")), np.load(saved("unseen_outputs"))) if unseen else None
    return Given(models, pair, **fields)


def test_what_was_imported_is_what_the_run_has(store, saved, arrays, monkeypatch):
    """In small blocks and parts, so that rows are cut at different places."""
    monkeypatch.setattr(sources, "BLOCK_BYTES", 7 * (D + 8 * N))
    monkeypatch.setattr(importing, "BLOCK_BYTES", 50 * 3)
    monkeypatch.setattr(importing, "PART_BYTES", 4 * N * 11)
    run = importing.import_run(store, "mine", given(saved), FIT)
    opened = open_run(store, run.name)
    np.testing.assert_array_equal(opened.masks, arrays.masks)
    np.testing.assert_array_equal(opened.outputs, arrays.outputs.astype(np.float32))
    np.testing.assert_array_equal(opened.unseen.members, arrays.unseen_masks)
    np.testing.assert_array_equal(opened.unseen.outputs, arrays.unseen_outputs.astype(np.float32))
    assert len(manifest.read_newest(store, run.name).parts) == -(-(M + 16) // 11)
    assert len(run.design.masks.blocks) == 3 and run.spec.design.kind == "imported"
    np.testing.assert_allclose(run.design.inclusion, arrays.masks.mean(axis=0))


def test_importing_again_changes_nothing_and_other_arrays_are_another_run(store, saved, arrays):
    run = importing.import_run(store, "mine", given(saved), FIT)
    before, said = sorted(store.list("")), []
    assert importing.import_run(store, "mine", given(saved), FIT, said.append).name == run.name
    assert sorted(store.list("")) == before
    assert said == [f"run {run.name} is in the store already, of the same arrays: nothing of it is stored again"]
    arrays.outputs[5, 1] += 1
    assert importing.import_run(store, "mine", given(saved), FIT).name != run.name


def test_what_is_doubtful_about_labels_is_said(store, saved):
    said = []
    labels = {"labels": np.arange(D) % 2, "target_labels": np.array([0, 2, 1]), "label_names": ("a", "b", "c")}
    importing.import_run(store, "mine", given(saved, **labels), FIT, said.append)
    assert len(said) == 1 and said[0].startswith("1 of 3 targets are of classes that the training examples lack: c (1 ")


def test_outputs_beyond_their_bounds_are_refused_before_anything_is_stored(store, saved):
    declared = {"name": "loss", "higher_is_better": False, "lowest": 1e6}
    with pytest.raises(InputError, match="outputs: 360 of 360 outputs are beyond what is declared, lowest 1e\\+06 and"):
        importing.import_run(store, "mine", given(saved, output=declared), FIT)
    assert not [*store.list("")]


def test_bounds_cost_no_reading(store, saved, arrays):
    """Outputs are within them; the lowest, of a model on an unseen subset, is at the bound."""
    source, passes = given(saved).models[0], []

    def blocks():
        passes.append(0)
        return source.blocks()

    arrays.unseen_outputs[2, 1, 0] = 0
    models, unseen = [dataclasses.replace(source, blocks=blocks)], (arrays.unseen_masks, arrays.unseen_outputs)
    for output in ({"name": "loss"}, {"name": "loss", "higher_is_better": False, "lowest": 0}):
        importing.import_run(store, "mine", Given(models, unseen, output=output), FIT)
    assert len(passes) == 2 * 4  # sums, checksums, masks and outputs
    with pytest.raises(InputError, match="1 of 6 outputs are beyond what is declared, lowest 1 and"):
        importing.import_run(store, "mine", Given(models, unseen, output=output | {"lowest": 1}), FIT)


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet", "half"])
def test_a_file_whose_models_are_given_already_is_refused_in_any_format(store, saved, arrays, tmp_path, kind):
    """The outputs differ by what float32 rounds away; the second file has them all, or the first ones."""
    if kind == "half":
        again = [saved("m2", arrays.masks[:60].astype(np.uint8)), saved("o2", arrays.outputs[:60].astype(np.float32))]
    else:
        again = (
            [saved("m2", arrays.masks), saved("o2", arrays.outputs)]
            if kind == "npy"
            else written(tmp_path, saved, arrays, kind)
        )
    models = sources.open_all([saved("masks"), saved("outputs"), *again])
    first, second = (source.name for source in models)
    held = (
        f"{second}: all of its 60 models are in {first}"
        if kind == "half"
        else f"{first}: all of its {M} models are in {second}"
    )
    with pytest.raises(InputError) as refused:
        importing.import_run(store, "mine", Given(models), FIT)
    assert str(refused.value) == (
        f"{held}, too, with equal masks and outputs, so each of its models would count twice; give it once"
    )
    assert not [*store.list("")]


def test_models_that_are_there_twice_are_counted_and_named(store, saved, arrays):
    """Models that failed are no repeats, and neither are other outputs for the same masks."""
    arrays.outputs[[5, 70]] = np.nan
    paths = [
        saved(f"{name}{i}", getattr(arrays, name)[rows] + (add if name == "outputs" else False))
        for i, (rows, add) in enumerate(((slice(0, 80), 0), (slice(60, M), 0), (slice(0, 80), 1)))
        for name in ("masks", "outputs")
    ]
    models = sources.open_all(paths)
    unseen = np.concatenate([arrays.masks[:2], arrays.unseen_masks[2:]]), arrays.unseen_outputs
    again, seen = importing.survey(Given(models, unseen)).notes()
    assert again == (
        f"19 of 215 models have the same mask and outputs as one before them, first row 0 of {models[1].name}, as row "
        f"60 of {models[0].name}: each counts again; if it is the same model, leave it out"
    )
    assert seen == (
        "2 of 8 unseen subsets are those of models to fit, too, so fits see them and the LDS is too high; leave them "
        "out of either"
    )


@pytest.mark.parametrize("kind", ["npz", "parquet", "folder", "twice"])
def test_every_kind_of_file_makes_the_same_run(store, saved, arrays, tmp_path, kind):
    expected = importing.make_run("mine", g := given(saved, unseen=False), importing.survey(g), FIT).name
    paths = written(tmp_path, saved, arrays, kind)
    found = importing.import_run(store, "mine", Given(sources.open_all(paths)), FIT)
    assert found.name == expected
    np.testing.assert_array_equal(open_run(store, found.name).masks, arrays.masks)


def written(folder, saved, arrays, kind):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    if kind == "twice":
        halves = (slice(0, 50), slice(50, M))
        return [saved(f"{n}{i}", getattr(arrays, n)[s]) for i, s in enumerate(halves) for n in ("masks", "outputs")]
    if kind == "npz":
        np.savez(folder / "a.npz", masks=arrays.masks.astype(np.uint8), outputs=arrays.outputs)
        return [str(folder / "a.npz")]
    table = pa.table({"masks": arrays.masks.astype(int).tolist(), "outputs": arrays.outputs.tolist(), "id": range(M)})
    if kind == "parquet":
        parquet.write_table(table, folder / "a.parquet", row_group_size=50)
        return [str(folder / "a.parquet")]
    (folder / "parts").mkdir()
    for i in range(2):
        parquet.write_table(table.slice(50 * i, 50 if i == 0 else M), folder / "parts" / f"{i}.parquet")
    return [str(folder / "parts")]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"masks": lambda a: a.masks.astype(int) * 2}, r"masks.npy: row 0, column \d+: is 2: must be 0 or 1"),
        ({"masks": lambda a: np.where(a.masks, np.nan, 0)}, r"masks.npy: row 0, column \d+: is nan: must be 0 or 1"),
        ({"masks": lambda a: a.masks[1:]}, "masks have 119 rows and outputs 120: must be equal"),
        (
            {"masks": lambda a: a.masks[0]},
            r"masks.npy: has 1 dimension, \[24\]: must have 2, a row for each model and a column for each tr",
        ),
        (
            {"masks": lambda a: a.masks & (np.arange(D) != 7)},
            "do not vary in 1 column: column 7 is in no mask, .* --constant",
        ),
        ({"masks": lambda a: a.masks | (np.arange(D) == 0)}, "column 0 is in every mask"),
        ({"masks": lambda a: a.masks.astype("U1")}, "masks have type <U1 and outputs float64: must be bool or 0/1"),
        (
            {"outputs": lambda a: a.outputs[:, :0]},
            "outputs.npy: has 120 rows and 0 columns, so it is empty: must have a row for each model and a c",
        ),
        (
            {"outputs": lambda a: with_nan(a.outputs, [(3, 1)])},
            "/outputs.npy: row 3, column 1: is nan; of this model, 1 of 3 .* all outputs must be NaN",
        ),
        (
            {"outputs": lambda a: a.outputs * 1e37},
            "outputs.npy: row 0, column 0: is .* beyond float32, .* rescale the outputs",
        ),
        ({"outputs": lambda a: np.ones((M, N))}, "the outputs of all 3 targets are the same for each model"),
        ({"outputs": lambda a: a.outputs * np.nan}, "0 models have outputs: at least 10 are needed"),
        (
            {"unseen_outputs": lambda a: a.unseen_outputs[:, :1]},
            r"must be \(s, 24\) and \(s, r, 3\), for r >= 2 models",
        ),
        ({"unseen_masks": lambda a: a.unseen_masks[:, 1:]}, r"unseen masks have shape \(8, 23\)"),
        (
            {"unseen_outputs": lambda a: with_nan(a.unseen_outputs, [(5, 1, 2)])},
            "unseen outputs: subset 5, model 1, target 2: is nan; of this model, 1 of 3",
        ),
        ({"outputs": lambda a: a.outputs * 1e-50}, "float32 rounds away what varies .* of 3 of 3 targets; rescale"),
    ],
)
def test_bad_arrays_are_refused_by_name(store, saved, arrays, change, fault):
    ((name, make),) = change.items()
    setattr(arrays, name, make(arrays))
    with pytest.raises(InputError, match=fault):
        importing.import_run(store, "mine", given(saved), FIT)
    assert not list(store.list(""))


def with_nan(outputs, places):
    found = outputs.copy()
    for place in places:
        found[place] = np.nan
    return found


def test_a_row_of_nan_is_a_model_that_failed(store, saved, arrays):
    arrays.outputs[3] = np.nan
    run = importing.import_run(store, "mine", given(saved), FIT)
    assert list(manifest.read_newest(store, run.name).failed) == [3]
    np.testing.assert_array_equal(open_run(store, run.name).masks, np.delete(arrays.masks, 3, axis=0))


def test_constant_columns_that_are_allowed_are_pinned(store, saved, arrays):
    arrays.masks[:, 7], arrays.unseen_masks[:, 7], arrays.masks[:, 2], arrays.unseen_masks[:, 2] = (
        False,
        False,
        True,
        True,
    )
    run = importing.import_run(store, "mine", given(saved, constant=True), FIT)
    assert run.design.pinned_out == (7,) and run.design.pinned_in == (2,)
    assert run.design.stratum[[2, 7]].tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"labels": np.zeros(D - 1, int)}, "labels: has 23 entries for 24 examples"),
        ({"target_labels": np.zeros(N)}, r"target_labels: have shape \(3,\) and type float64: must be one integer"),
        (
            {"labels": np.arange(D) - 1},
            "labels: has -1 at example 0: integers are classes, from 0 to 2147483647; number",
        ),
        ({"target_labels": np.full(N, 10**12)}, "target_labels: has 1000000000000 at example 0: integers are classes"),
        ({"names": ["x" * 50_000] * D}, "names: have 1,200,000 characters, at most 1,000,000"),
        ({"label_names": ["cat"]}, "label_names: name classes, and no example has a label; give --labels"),
        (
            {"labels": np.arange(D) % 2, "label_names": ["cat"]},
            "label_names: has 1 names, and a label is 1: each class needs one",
        ),
        ({"output": {"threshold": 1.0}}, "output.threshold = 1.0: needs output.higher_is_better"),
        ({"targets": "train"}, "targets = 'train': outputs have 3 targets and masks 24 columns"),
        (
            {"data": ("datamodels.testing.linear:load", {})},
            "masks have 24 columns and the outputs 3 .* has 40 training",
        ),
    ],
)
def test_labels_and_data_must_fit(store, saved, fields, fault):
    with pytest.raises((InputError, SpecError), match=fault):
        importing.import_run(store, "mine", given(saved, **fields), FIT)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_objects_in_an_array_are_refused_without_advice_to_run_them(saved, arrays, tmp_path, capsys, kind):
    rows = np.array([[1.0], [1.0, 2.0]] * 60, dtype=object)
    path = tmp_path / "bad.npy"
    np.save(path, rows, allow_pickle=True)
    files = [saved("masks"), str(path)]
    if kind == "npz":
        np.savez(tmp_path / "bad.npz", masks=arrays.masks, outputs=rows)
        files = [str(tmp_path / "bad.npz")]
    assert main(["import", *files, "--home", str(tmp_path / "home")]) == 2
    said = capsys.readouterr().err
    assert "allow_pickle" not in said and "holds Python objects, and not numbers; make it an array of one" in said
    assert ("bad.npz: outputs: holds" if kind == "npz" else "bad.npy: holds") in said


@pytest.mark.parametrize("content", [pickle.dumps([1.0]), b"0.5, 0.3", b"PK\3\4 cut off", b""])
def test_files_of_other_programs_are_refused(saved, tmp_path, capsys, content):
    path = tmp_path / "bad.npy"
    path.write_bytes(content)
    assert main(["import", saved("masks"), str(path), "--home", str(tmp_path / "home")]) == 2
    said = capsys.readouterr().err
    assert "bad.npy: cannot be read as NumPy arrays: " in said and "pickle" not in said and said.count("\n") == 1


def test_facts_that_are_no_exports_are_ignored_and_damaged_ones_refused(saved, arrays, tmp_path, capsys):
    path, place = tmp_path / "mine.npz", ["--no-fit", "--home", str(tmp_path / "home")]
    for facts, code in (("hello", 0), (np.array({"a": 1}), 0), ('{"run": 1, "spec": 2, "output": 3}', 2)):
        np.savez(path, masks=arrays.masks, outputs=arrays.outputs, facts=facts)
        assert main(["import", str(path), *place]) == code
    assert "mine.npz: facts: is not what `datamodels export` writes (TypeError" in capsys.readouterr().err


def test_masks_that_are_gone_or_altered_are_noticed(store, saved, tmp_path):
    run = importing.import_run(store, "mine", given(saved), FIT)
    key = keys.masks(run.name, 0, M + 8)
    path = tmp_path / "store" / key
    path.write_bytes(b"\\0" + path.read_bytes()[1:])
    with pytest.raises(CorruptObjectError, match="masks"):
        Unseen.read(runs.read(store, run.name), manifest.read_newest(store, run.name), store)
    store.delete(key)
    with pytest.raises(CorruptObjectError, match="is gone"):
        open_run(store, run.name).masks.sum()


def test_masks_that_change_between_the_two_passes_are_not_stored(store, saved):
    """The first pass computes the checksums that the run's record has, the second one writes."""
    source, passes = given(saved).models[0], []

    def blocks():
        passes.append(0)
        for masks, outputs in source.blocks():
            masks = np.array(masks)
            masks[3, 1] ^= len(passes) == 3  # one pass each for sums, checksums, and writing
            yield masks, outputs

    changing = Given([dataclasses.replace(source, blocks=blocks)])
    with pytest.raises(InputError, match=f"masks 0 to {M}: changed while they were read"):
        importing.import_run(store, "mine", changing, FIT)
    assert len(passes) == 3 and not list(store.list("aggregate/"))


def test_subsets_that_were_not_imported_are_refused():
    block = run_masks.Block(0, 5, "")
    found = run_masks.Masks(np.full(9, 0.5, np.float32), (block,), lambda block: bytes(10))
    assert found.read(1, 4).shape == (3, 2)
    with pytest.raises(InputError, match="subset 5: the run was imported with 5 subsets"):
        found.read(4, 6)


def test_what_a_user_types(saved, arrays, tmp_path, capsys):
    labels = saved("labels", np.arange(D) % 2)
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"example {i}" for i in range(D)))
    place = ["--home", str(tmp_path / "home")]
    unseen = ["--unseen", saved("unseen_masks"), saved("unseen_outputs")]
    given = [saved("masks"), saved("outputs"), *unseen, "--labels", labels, "--names", str(names), "--fit", "lambdas=6"]
    assert main(["import", *given, *place]) == 0
    first, output, second, verdict = capsys.readouterr().out.splitlines()
    run = first.split()[0]
    assert first == f"{run}  136 models, 24 columns, 3 targets"
    assert output.startswith("output  margin: higher is better, wrong below 0 (assumed; if it is not so, declare it as")
    assert (
        "fit 0 (prior) of 120 models" in second and "; LDS 0." in second and verdict.startswith("nothing yet: 8 unseen")
    )
    for verb in ("evaluate", "report", "review", "counterfactual", "leakage"):
        asked = ["0", "--remove", "3"] if verb == "counterfactual" else []
        assert main([verb, run, *asked, *place]) == 0, verb
    assert "example 3" in (tmp_path / "home" / "reports" / f"{run}.html").read_text()
    capsys.readouterr()
    assert main(["query", "predict", run, "0-11", "--json", *place]) == 0
    found = [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()]
    np.testing.assert_allclose(found, arrays.theta[:, :12].sum(axis=1) + 100, atol=0.5)
    for verb in (["compare", run], ["lime", run, "0"], ["support", run, "0", "--verify", "2"]):
        assert main([*verb, *place]) != 0, verb
        assert "Traceback" not in capsys.readouterr().err
    assert main(["import", *given, *place, "--fit", "estimator=ridge"]) == 0
    assert "fit 1 (ridge) of 120 models" in capsys.readouterr().out
    assert main(["fit", run, "--fit", "tolerance=1e-4", *place]) == 0
    assert "fit 2 (prior) of 120 models" in capsys.readouterr().out
    assert main(["run", run, *place]) == 2
    assert f"`datamodels fit {run}` fits what the run has committed" in capsys.readouterr().err
