import pytest

from datamodels.errors import ExitCode
from datamodels.run import runs
from datamodels.testing import linear
from tests.cli.test_main import run_main
from tests.report import made


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(home, run): its data set cannot be loaded."""
    home = tmp_path_factory.mktemp("home")
    return home, made.findings(home / "store").run.name


def test_a_report_of_a_run(capsys, run, tmp_path):
    home, name = run
    code, out, err = run_main(capsys, "report", name, "--home", str(home), "--trust", "a")
    path = home / "reports" / f"{name}.html"
    assert code == 0 and out == f"{path}  {path.stat().st_size / 1e6:.1f} MB\n"
    assert err.count("\n") == 1 and "cannot be imported" in err and "examples by number" in err
    assert name in path.read_text(encoding="utf-8")
    code, out, _ = run_main(capsys, "report", name, "--home", str(home), "--output", str(tmp_path / "b.html"))
    assert code == 0 and (tmp_path / "b.html").exists()


def test_what_cannot_be_written_or_found(capsys, run):
    home, name = run
    code, out, err = run_main(capsys, "report", name, "--home", str(home), "--output", str(home))
    assert (code, out) == (ExitCode.CONFIG, "") and "cannot be written" in err
    code, out, err = run_main(capsys, "report", "nope", "--home", str(home))
    assert (code, out) == (ExitCode.CONFIG, "") and "no such run" in err and err.count("\n") == 1


def test_lime_beside_the_examples_where_it_is_asked_for(capsys, tmp_path):
    store, run = linear.make_store(tmp_path / "store")
    code, _, err = run_main(capsys, "report", run.name, "--home", str(tmp_path), "--lime", "2")
    assert code == 0, err
    text = (tmp_path / "reports" / f"{run.name}.html").read_text(encoding="utf-8")
    assert text.count('"lime":{') == 2
    bare = linear.make_run(name="bare")
    runs.create(store, bare)
    code, _, err = run_main(capsys, "report", bare.name, "--home", str(tmp_path), "--lime", "2")
    assert code == ExitCode.CONFIG and "has no weights yet" in err and err.count("\n") == 1
