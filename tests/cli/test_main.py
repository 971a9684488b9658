import json
import re
import subprocess
import sys

import numpy as np
import pytest
from datamodels.services.query.service import service

from datamodels.analyze.quality import evaluate
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.cli.main import main
from datamodels.errors import ExitCode
from datamodels.query.weights import WeightStore
from datamodels.rpc.serve import Server
from datamodels.settings import ServeSettings
from datamodels.storage import keys, records
from datamodels.storage.local import LocalStore
from datamodels.testing import fitted as made
from tests.analyze.quality.test_curve import DIGITS, points_of
from tests.helpers.waiting import LIMIT

SPEC = "name: try\ndataset: {load: 'a:b'}\ntrainer: {class: 'a:B'}\nm: 100\n"


def run_main(capsys, *arguments):
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """(folder, run) of a home with one fitted run."""
    folder = tmp_path_factory.mktemp("home")
    _, fitted, _ = made.make_store(folder / "store")
    return folder, fitted.name


@pytest.fixture(scope="module")
def served(home):
    """(options that say where the query service of `home` is, run)"""
    folder, name = home
    with Server(ServeSettings(), [service(WeightStore(LocalStore(folder / "store")))]) as server:
        yield ("--address", server.address), name


@pytest.mark.parametrize(
    "verb",
    [
        [],
        ["run"],
        ["sample"],
        ["train"],
        ["aggregate"],
        ["fit"],
        ["query"],
        ["status"],
        ["plan"],
        ["trainer"],
        ["trainer", "check"],
    ],
)
def test_every_verb_has_help_that_names_its_arguments(capsys, verb):
    with pytest.raises(SystemExit) as ended:
        main([*verb, "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0 and out.startswith("usage: datamodels")
    assert len(out.splitlines()) > 5


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "s.yaml", "--trainers", "0"],
        ["curve", "r", "--lds", "2"],
        ["query", "top", "r", "9" * 11],
        ["support", "r", "--threshold", "x"],
        ["review", "r", "--fragile", "nan"],
        ["lime", "r", "x"],
    ],
)
def test_a_wrong_command_line_is_a_configuration_error(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == ExitCode.CONFIG
    err = capsys.readouterr().err
    assert "error: " in err and "invalid" not in err


def test_each_fault_of_a_spec_is_one_line(capsys, tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC + "alpha: 3\nfly: 1\n")
    code, out, err = run_main(capsys, "run", str(path), "--home", str(tmp_path / "home"))
    assert (code, out) == (ExitCode.CONFIG, "")
    first, second = err.splitlines()
    assert first == "datamodels: alpha = 3: must be less than 1"
    assert second.startswith("datamodels: fly: unknown field; fields here are name, dataset, trainer, ")
    assert not (tmp_path / "home").exists()


def test_a_data_set_that_does_not_load_starts_nothing(capsys, tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.replace("a:b", "no_such_module:load"))
    code, _, err = run_main(capsys, "run", str(path), "--home", str(tmp_path / "home"))
    assert code == ExitCode.CONFIG
    assert err.startswith("datamodels: dataset.load = 'no_such_module:load': cannot be imported")
    assert not (tmp_path / "home" / "logs").exists()


def test_status_lists_runs_and_describes_one(capsys, home):
    folder, name = home
    code, out, _ = run_main(capsys, "status", "--home", str(folder))
    assert code == 0 and out.count("\n") == 1 and out.startswith(name) and "fit 0 (lasso) of 100 models" in out
    code, out, _ = run_main(capsys, "status", name, "--verify", "--home", str(folder))
    assert code == 0 and out.splitlines()[0] == name and f"weights of {made.N} targets verified" in out


def test_status_judges_the_lds_of_a_fit(capsys, tmp_path):
    store, run, _ = made.make_store(tmp_path / "store")
    evaluate.record(store, run.name, 0, Evaluation(0.03, (-0.05, 0.11), 0.1, np.array([0.03]), 10, 2))
    code, out, _ = run_main(capsys, "status", "--home", str(tmp_path))
    assert code == 0 and "LDS 0.030 (-0.050 to 0.110), noise ceiling 0.100, at best 0.426  nothing yet" in out
    code, out, _ = run_main(capsys, "status", run.name, "--home", str(tmp_path))
    assert code == 0 and "nothing yet: the weights mean nothing yet, as an LDS of 0 is within the interval." in out


def test_status_goes_on_past_a_damaged_run(capsys, tmp_path):
    store, run, _ = made.make_store(tmp_path / "store")
    store.create("runs/README.txt", b"hello")
    store.create("runs/bad-000000000000.json", b"{}")
    code, out, err = run_main(capsys, "status", "--home", str(tmp_path))
    assert code == ExitCode.FAILED and "1 run with damaged objects" in err
    assert [line.split()[0] for line in out.splitlines()] == ["bad-000000000000", run.name]


def test_status_of_an_unknown_run(capsys, home):
    code, _, err = run_main(capsys, "status", "nope", "--home", str(home[0]))
    assert code == ExitCode.CONFIG and err.startswith("datamodels: no such run: 'nope' in file://")


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["report", "RUN"],
        ["review", "RUN"],
        ["curve", "RUN"],
        ["compare", "RUN"],
        ["lime", "RUN", "0"],
        ["evaluate", "RUN"],
        ["clusters", "RUN"],
        ["support", "RUN"],
        ["query", "runs"],
    ],
)
def test_commands_that_read_create_no_folder(capsys, tmp_path, arguments):
    code, out, err = run_main(capsys, *arguments, "--home", str(tmp_path / "typo"))
    assert (code, out) == (ExitCode.CONFIG, "") and err.count("\n") == 1
    assert f"{tmp_path}/typo/store: no such folder" in err and "--home" in err
    assert not (tmp_path / "typo").exists()


def test_the_curve_of_a_run(capsys, home, tmp_path):
    """tests/analyze measures a curve; here the command reads one, and says so if there is nothing to measure."""
    folder, name = home
    code, out, err = run_main(capsys, "curve", name, "--home", str(folder))
    assert (code, out) == (ExitCode.FAILED, "") and err.count("\n") == 1 and "manifest" in err
    store = LocalStore(folder / "store")
    points = points_of(DIGITS)
    records.create(store, keys.curve(name, 0), [point.document() for point in points])
    code, out, _ = run_main(capsys, "curve", name, "--home", str(folder), "--lds", "0.93")
    assert code == 0 and out.splitlines()[-1].startswith("LDS 0.93 takes ") and out.count("\n") == len(DIGITS) + 4
    code, out, _ = run_main(capsys, "curve", name, "--home", str(folder), "--json")
    assert [json.loads(line)["models"] for line in out.splitlines()] == [*DIGITS, 24_000, 48_000]


def test_a_store_that_is_no_store(capsys):
    code, _, err = run_main(capsys, "status", "--store", "ftp://x")
    assert code == ExitCode.CONFIG and "must be file://FOLDER or s3://BUCKET/PREFIX" in err


@pytest.mark.parametrize(
    "question, pattern",
    [
        (["runs"], r"^try-\w+  60 columns, 9 targets, 100 models, 1 fit$"),
        (["run", "RUN"], r"^targets    9$"),
        (["run", "RUN"], r"^output     margin: higher is better, wrong below 0 \(assumed\)$"),
        (["run", "RUN"], r"^classes    a, b, c, d$"),
        (["targets", "RUN", "--json"], r'^\{"target": 8, .*"status": "ok", "label_name": "a"\}$'),
        (["top", "RUN", "3", "-k", "2"], r"^harmful  #\d+ \([a-d]\)  -\d"),
        (["similar", "RUN", "3", "-k", "2"], r"^target \d \([a-d]\)  cosine -?\d"),
        (["weights", "RUN", "3", "-k", "1"], r"^3\t\d+\t-?[\d.]+$"),
        (["predict", "RUN", "0,2,5-9", "3", "4"], r"^target 4  margin "),
    ],
)
def test_questions_are_answered(capsys, served, question, pattern):
    place, name = served
    arguments = [name if word == "RUN" else word for word in question]
    code, out, err = run_main(capsys, "query", *arguments, *place)
    assert code == 0, err
    assert re.search(pattern, out, re.M), out


def test_a_target_without_weights_is_told(capsys, served):
    place, name = served
    code, out, err = run_main(capsys, "query", "top", name, "1", *place)
    assert (code, out, err) == (0, "", "datamodels: target 1: has no weights\n")


@pytest.mark.parametrize(
    "question, fault",
    [
        (["top", "nope", "3"], "no such run: 'nope'"),
        (["top", "RUN", "99"], "target 99: must be 0 to 8"),
        (["predict", "RUN", "7-3"], "SUBSET '7-3': is an empty range"),
        (["predict", "RUN", "a"], "SUBSET 'a': must be columns or ranges"),
        (["predict", "RUN", "60"], "column 60: must be 0 to 59"),
        (["predict", "RUN", "0-2000000000"], "beyond any column"),
        (["predict", "RUN", "@/no/such/file"], "cannot be read"),
    ],
)
def test_bad_questions_get_one_line_and_exit_code_2(capsys, served, question, fault):
    place, name = served
    arguments = [name if word == "RUN" else word for word in question]
    code, out, err = run_main(capsys, "query", *arguments, *place)
    assert (code, out) == (ExitCode.CONFIG, "")
    assert err.startswith("datamodels: ") and fault in err and err.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error(home):
    """The command starts a query service, too, since it is given no address."""
    folder, name = home
    command = [sys.executable, "-m", "datamodels", "query", "weights", name, "--home", str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(LIMIT)) == ("", ExitCode.DONE)
