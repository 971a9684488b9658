import csv
import dataclasses
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from datamodels.api import open_run
from datamodels.cli.main import main
from datamodels.exchange import importing, sources
from datamodels.exchange.contents import Contents
from datamodels.exchange.exporting import FORMATS
from datamodels.exchange.importing import Given
from datamodels.fit.job import fits
from datamodels.outputs import Output
from datamodels.run import runs
from datamodels.spans import Span
from datamodels.storage.local import LocalStore
from datamodels.testing import committed, fitted
from tests.exchange.conftest import D, M, N


@pytest.fixture
def home(tmp_path):
    """The home of a run with a fit; two of its models failed, and some of the unseen ones are not committed."""
    store = LocalStore(tmp_path / "home" / "store")
    run = committed.make_run(m=40, evaluate={"subsets": 8, "models": 3})
    runs.create(store, run)
    committed.commit(store, run, stop=51, failed=(3, 44))
    theta = committed.truth(run).T.astype(np.float32)
    fitted.commit_fit(store, run, theta, measured=0.25 * theta)
    return tmp_path / "home"


@pytest.fixture
def opened(home):
    store = LocalStore(home / "store")
    (name,) = runs.names(store)
    return open_run(store, name)


def export(home, opened, kind, folder, *more):
    path = folder / f"out{'.npz' if kind == 'npz' else ''}"
    assert main(["export", opened.name, "--format", kind, "--output", str(path), "--home", str(home), *more]) == 0
    return path


def numbers(path):
    """Masks and outputs of the fitted and of the unseen models, and dense weights, from any format."""
    if path.suffix == ".npz" or (path / "masks.npy").exists():
        read = (
            np.load(path) if path.suffix == ".npz" else {p.stem: np.load(p, mmap_mode="r") for p in path.glob("*.npy")}
        )
        n, d = read["outputs"].shape[1], read["masks"].shape[1]
        theta = np.zeros((n, d))
        for j in range(n):
            row = slice(read["indptr"][j], read["indptr"][j + 1])
            theta[j, read["columns"][row]] = read["weights"][row]
        unseen = np.repeat(read["unseen_masks"], read["unseen_outputs"].shape[1], axis=0)
        return read["masks"], read["outputs"], unseen, read["unseen_outputs"].reshape(-1, n), theta
    if (path / "masks.csv").exists():
        masks, outputs, unseen, said = (
            np.loadtxt(path / f"{name}.csv", delimiter=",", skiprows=1)[:, 1:]
            for name in ("masks", "outputs", "unseen_masks", "unseen_outputs")
        )
        weights = np.loadtxt(path / "weights.csv", delimiter=",", skiprows=1)
        theta = np.zeros((outputs.shape[1], masks.shape[1]))
        theta[weights[:, 0].astype(int), weights[:, 1].astype(int)] = weights[:, 2]
        return masks, outputs.astype(np.float32), unseen, said.astype(np.float32), theta
    models, unseen, weights = (parquet.read_table(path / name) for name in ("models", "unseen", "weights"))
    masks, outputs, left, said = (np.array(t[c].to_pylist()) for t in (models, unseen) for c in ("masks", "outputs"))
    theta = np.zeros((outputs.shape[1], masks.shape[1]))
    theta[weights["target"].to_numpy(), weights["column"].to_numpy()] = weights["weight"].to_numpy()
    return masks, outputs, left, said, theta


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_has_what_the_run_has(home, opened, tmp_path, kind):
    path = export(home, opened, kind, tmp_path)
    masks, outputs, unseen, said, theta = numbers(path)
    np.testing.assert_array_equal(masks, opened.masks)
    np.testing.assert_array_equal(outputs, opened.outputs)
    np.testing.assert_array_equal(unseen, np.repeat(opened.unseen.members, 3, axis=0))
    np.testing.assert_array_equal(said, opened.unseen.outputs.reshape(24, -1))
    assert np.isnan(said[4]).all() and np.isnan(said[20:]).all() and len(masks) == 39
    np.testing.assert_array_equal(theta.astype(np.float32), opened.weights().dense(range(opened.run.n)))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_says_how_much_of_each_weight_was_measured(home, opened, tmp_path, kind):
    path = export(home, opened, kind, tmp_path)
    if kind in ("npz", "npy"):
        found = np.load(path)["measured"] if kind == "npz" else np.load(path / "measured.npy")
    elif kind == "csv":
        found = np.loadtxt(path / "weights.csv", delimiter=",", skiprows=1)[:, 3]
    else:
        found = parquet.read_table(path / "weights")["measured"].to_numpy()
    np.testing.assert_allclose(found, opened.weights().weights / 4, rtol=1e-6)


def test_the_rest_of_the_facts(home, opened, tmp_path, capsys):
    folder = export(home, opened, "csv", tmp_path)
    assert f"{folder}  39 models, 30 columns, 5 targets, weights of fit 0" in capsys.readouterr().out
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["run"] == opened.name and facts["spec"] == opened.run.spec.document() and facts["fit"] == 0
    assert facts["output"] == facts["predicted"] == opened.run.output.document()
    with open(folder / "targets.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == opened.weights().status
    assert [int(row["label"]) for row in rows] == opened.run.target_labels.tolist()
    assert main(["export", opened.name, "--format", "csv", "--output", str(folder), "--home", str(home)]) != 0
    assert "exists; name another place with --output" in capsys.readouterr().err


def test_a_run_without_a_fit_is_exported_without_weights(tmp_path):
    store = LocalStore(tmp_path / "home" / "store")
    run = committed.make_run(evaluate={"subsets": 0})
    runs.create(store, run)
    committed.commit(store, run)
    for kind in FORMATS:
        export(tmp_path / "home", open_run(store, run.name), kind, tmp_path / kind)
    assert sorted(p.name for p in (tmp_path / "parquet" / "out").iterdir()) == ["README.md", "facts.json", "models"]


@pytest.mark.parametrize("kind", ["npz", "npy", "parquet"])
def test_what_was_exported_is_imported_as_the_same_run(saved, arrays, tmp_path, kind):
    store = LocalStore(tmp_path / "home" / "store")
    unseen = arrays.unseen_masks, arrays.unseen_outputs
    run = importing.import_run(store, "mine", Given(sources.open_all([saved("masks"), saved("outputs")]), unseen), {})
    path = export(tmp_path / "home", open_run(store, run.name), kind, tmp_path)
    files = (
        [path / "masks.npy", path / "outputs.npy"]
        if kind == "npy"
        else [path / "models" if kind == "parquet" else path]
    )
    given = Given(sources.open_all([str(file) for file in files]), unseen)
    again = importing.import_run(LocalStore(tmp_path / "other"), "mine", given, {})
    for field in ("masks", "outputs"):
        ours, theirs = (
            getattr(open_run(s, r.name), field) for s, r in ((store, run), (LocalStore(tmp_path / "other"), again))
        )
        np.testing.assert_array_equal(ours, theirs)
    assert (again.design.columns, again.n, again.spec.m) == (D, N, M)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_outputs_mean_goes_both_ways(saved, tmp_path, capsys, kind):
    """From options into a run, from the run into an export, and from the export into another run."""
    names = tmp_path / "classes.txt"
    names.write_text("cat\ndog\n")
    labels = ["--labels", saved("labels", np.arange(D) % 2), "--target-labels", saved("targets", np.array([1, 0, 1]))]
    meaning = "{name: price error, unit: euro, higher_is_better: false, threshold: 1e2}"
    home, other = (["--home", str(tmp_path / name)] for name in ("home", "other"))
    given = [saved("masks"), saved("outputs"), "--no-fit", "--label-names", str(names), "--output", meaning, *labels]
    assert main(["import", *given, *home]) == 0
    assert "output  price error (euro): lower is better, wrong above 100\n" in capsys.readouterr().out
    store = LocalStore(tmp_path / "home" / "store")
    first = runs.read(store, *runs.names(store))
    path = export(tmp_path / "home", open_run(store, first.name), kind, tmp_path)
    capsys.readouterr()
    if kind == "csv":
        facts = json.loads((path / "facts.json").read_text())
        assert (facts["output"], facts["label_names"]) == (first.output.document(), ["cat", "dog"])
        return
    path = path.rename(path.with_suffix(f".{kind}"))  # of a folder, too
    assert main(["import", str(path), "--no-fit", *other]) == 0
    assert "facts" in (told := capsys.readouterr().err) and "says what outputs, targets and classes are" in told
    store = LocalStore(tmp_path / "other" / "store")
    second = runs.read(store, *runs.names(store))
    assert second.declared == first.declared == Output("price error", "euro", False, 100.0)
    assert second.label_names == first.label_names == ("cat", "dog")
    np.testing.assert_array_equal(second.labels, first.labels)
    np.testing.assert_array_equal(second.target_labels, [1, 0, 1])


@pytest.mark.parametrize("kind", ["npz", "npy", "parquet"])
def test_an_export_is_imported_with_its_unseen_subsets_spans_and_own_examples(tmp_path, capsys, kind):
    store = LocalStore(tmp_path / "home" / "store")
    spans = tuple(Span(f"the{' long' * i}, odd … text {i}", 4, 7) for i in range(5))
    run = committed.make_run(m=40, evaluate={"subsets": 8, "models": 3})
    run = dataclasses.replace(run, spans=spans, own=np.array([-1, 3, -1, -1, 7], np.int32))
    runs.create(store, run)
    committed.commit(store, run, failed=(3, 44))
    path = export(tmp_path / "home", open_run(store, run.name), kind, tmp_path)
    files = {"npz": [path], "npy": [path / "masks.npy", path / "outputs.npy"], "parquet": [path / "models"]}[kind]
    capsys.readouterr()
    other = ["--home", str(tmp_path / "other")]
    assert main(["import", *map(str, files), "--fit", "lambdas=4", "--json", *other]) == 0
    told = capsys.readouterr()
    assert "the export's models on unseen subsets are imported, too: 3 on each of 8" in told.err
    found = json.loads(told.out)
    # The one that failed among those to fit is not in the export; the one on an unseen subset is there as NaN.
    assert (found["models"], found["failed"]) == (39 + 24, 1) and found["fit"]["lds"]["subsets"] == 8
    assert found["fit"]["lds"]["ceiling_interval"][0] <= found["fit"]["lds"]["ceiling"]
    before = open_run(store, run.name)
    again = open_run(LocalStore(tmp_path / "other" / "store"), found["run"])
    np.testing.assert_array_equal(again.unseen.members, before.unseen.members)
    np.testing.assert_array_equal(again.unseen.outputs, before.unseen.outputs)
    assert again.run.spans == spans and again.run.own.tolist() == run.own.tolist()
    assert main(["report", found["run"], *other]) == 0
    assert main(["import", *map(str, files), "--no-fit", *other]) == 0
    assert "63 models (1 failed: their outputs are NaN, and fits leave them out)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_of_targets_have_their_spans(home, opened, tmp_path, kind):
    spans = [Span(f'say "{i}", twice', 5, 6) for i in range(5)]
    run = dataclasses.replace(opened.run, spans=tuple(spans))
    path = tmp_path / "out"
    record = fits.read_newest_fit(opened.store, run.name)
    FORMATS[kind](Contents(opened.store, run, opened.snapshot, record, None), path)
    if kind == "csv":
        with open(path / "spans.csv", newline="", encoding="utf-8") as file:
            rows = [(row["text"], int(row["first"]), int(row["last"])) for row in csv.DictReader(file)]
    else:
        table = parquet.read_table(path / "targets").to_pydict()
        rows = list(zip(*(table[f"span_{name}"] for name in Span._fields), strict=True))
    assert rows == [tuple(span) for span in spans]


def test_hugging_face_datasets_loads_the_folder(home, opened, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    folder = export(home, opened, "parquet", tmp_path)
    found = datasets.load_dataset("parquet", data_dir=str(folder / "models"), cache_dir=str(tmp_path / "cache"))[
        "train"
    ]
    np.testing.assert_array_equal(np.array(found["outputs"], dtype=np.float32), opened.outputs)


def test_neither_way_holds_the_arrays_in_memory(tmp_path, monkeypatch):
    """Arrays of 20 MB pass in blocks of 1 MB; at most 8 of them are held at a time."""
    rng, m, d, n = np.random.default_rng(0), 2000, 400, 2400
    np.save(tmp_path / "masks.npy", rng.random((m, d)) < 0.5)
    outputs = np.lib.format.open_memmap(tmp_path / "outputs.npy", mode="w+", dtype=np.float32, shape=(m, n))
    for first in range(0, m, 100):
        outputs[first : first + 100] = rng.normal(size=(100, n))
    outputs.flush()
    for module, name in ((sources, "BLOCK_BYTES"), (importing, "BLOCK_BYTES"), (importing, "PART_BYTES")):
        monkeypatch.setattr(module, name, 2**20)
    store, before = LocalStore(tmp_path / "home" / "store"), pa.default_memory_pool().max_memory()
    pa.array(np.zeros(1))  # imports pandas, if it is installed, which takes more memory than all that follows
    tracemalloc.start()
    files = [str(tmp_path / f"{name}.npy") for name in ("masks", "outputs")]
    run = importing.import_run(store, "mine", Given(sources.open_all(files)), {})
    peaks = {"import": tracemalloc.get_traced_memory()[1]}
    for kind in ("npz", "npy", "parquet"):
        tracemalloc.reset_peak()
        (tmp_path / kind).mkdir()
        export(tmp_path / "home", open_run(store, run.name), kind, tmp_path / kind)
        peaks[kind] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(peaks.values()) < 10 * 2**20, peaks
    assert pa.default_memory_pool().max_memory() <= max(before, 10 * 2**20)
