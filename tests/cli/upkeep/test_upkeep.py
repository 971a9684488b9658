"""The commands that keep runs, as users type them. What they do is tested in tests/lifecycle."""

import json
import shutil

import pytest
import yaml

from datamodels.aggregate import manifest
from datamodels.cli.main import main
from datamodels.errors import ExitCode
from datamodels.lifecycle import objects
from datamodels.run import runs
from datamodels.storage import keys
from datamodels.storage.local import LocalStore
from datamodels.testing import committed, fitted

SPEC = {
    "name": "linear",
    "dataset": {"load": "datamodels.testing.linear:load"},
    "trainer": {"class": "datamodels.testing.linear:Linear"},
    "m": 24,
    "chunk": 20,
    "sub_chunk": 4,
    "evaluate": {"subsets": 3, "models": 4},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A home with a finished run of 206 models in 21 parts, two manifests and two fits."""
    home = tmp_path_factory.mktemp("home")
    store, run = LocalStore(home / "store"), committed.make_run()
    runs.create(store, run)
    committed.commit(store, run, stop=100)
    committed.commit(store, run)
    for seed in range(2):
        fitted.commit_fit(store, run, fitted.make_theta(run, seed=seed), digest=f"{seed}" * 16)
    return home


@pytest.fixture
def home(made, tmp_path):
    shutil.copytree(made, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def call(home, capsys):
    """Function of a command line that returns its exit code, and the lines or the JSON values it prints."""

    def called(line, *more):
        code = main([*line.split(), *more, "--home", str(home)])
        out, err = capsys.readouterr()
        printed = [json.loads(text) for text in out.splitlines()] if "--json" in line else out.splitlines()
        return code, printed, err

    return called


@pytest.fixture
def store(home):
    return LocalStore(home / "store")


RUN = committed.make_run().name


@pytest.mark.parametrize(
    "line",
    [
        f"delete {RUN}",
        f"prune {RUN} --keep 1 --grace 1",
        "prune --older-than 0",
        "vacuum --compact",
        f"verify {RUN}",
        f"repair {RUN} --models 0:20",
        f"copy {RUN} --to file://{{home}}/other",
    ],
)
def test_a_dry_run_changes_nothing_and_says_what_would_be_done(home, store, call, line):
    def there():
        return {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}

    (home / "other").mkdir()
    before = there()
    code, printed, _ = call(f"{line.format(home=home)} --dry-run --json")
    assert code == 0 and printed[-1]["run"] == RUN and printed[-1]["dry_run"] is True
    code, printed, _ = call(f"{line.format(home=home)} --dry-run")
    assert code == 0 and "would be" in printed[-1]
    assert there() == before


def test_delete(store, call):
    size = objects.of_run(store, RUN).bytes()
    assert call(f"delete {RUN}") == (0, [f"{RUN}  28 objects ({size / 1e3:.1f} kB) deleted"], "")
    assert list(store.list("")) == []
    code, _, err = call(f"delete {RUN}")
    assert code == ExitCode.CONFIG and "no such run" in err


def test_prune_and_vacuum(store, call):
    code, (found,), _ = call(f"prune {RUN} --keep 1 --grace 0 --force --json")
    assert (code, found) == (0, {"run": RUN, "dry_run": False, "deleted": 2, "bytes": found["bytes"]})
    assert list(store.numbers(keys.fits(RUN))) == [1] and list(store.numbers(keys.manifests(RUN))) == [1]
    code, (merged, deleted), _ = call(f"vacuum {RUN} --compact --json")
    assert (merged["merged"], merged["into"], deleted["deleted"]) == (20, 1, 0)
    call(f"prune {RUN} --keep 1 --grace 0 --force")
    code, (deleted, waiting), _ = call(f"vacuum {RUN} --json")
    assert (deleted["deleted"], waiting["waiting"], waiting["hours"]) == (0, 20, 24.0)
    code, (deleted,), _ = call(f"vacuum {RUN} --grace 0 --force --json")
    assert deleted["deleted"] == 20 + 1  # the parts, and the block of fit 0, which was too young before
    assert call("verify --json")[1] == [{"run": RUN, "verified": 6, "earlier": 0, "faults": 0}]
    assert manifest.read_newest(store, RUN).committed == 206


def test_what_is_not_said_is_asked_for(call):
    assert "--keep N or --older-than DAYS is needed" in call(f"prune {RUN}")[2]
    assert "--grace 0.5: must be at least 1 hour" in call(f"vacuum {RUN} --grace 0.5")[2]
    assert call("vacuum --grace 0.5")[0] == ExitCode.CONFIG
    assert "models 190:300: must be a range FIRST:LAST within 0:206" in call(f"repair {RUN} --models 190:300")[2]


def test_a_working_run_is_left_alone_unless_told_otherwise(store, call):
    store.create(keys.weights(RUN, "a" * 16, 0, 5), b"of a fit that goes on")
    for line in (f"delete {RUN}", f"prune {RUN} --keep 1", f"vacuum {RUN}", f"repair {RUN} --models 0:9"):
        code, printed, err = call(line)
        assert code == ExitCode.FAILED and not printed
        assert f"run {RUN}: has a fit that is not finished" in err and "add --force" in err
    code, (found,), _ = call("vacuum --json")
    assert code == 0 and found.keys() == {"run", "skipped"}
    assert call(f"delete {RUN} --force")[0] == 0 and list(store.list("")) == []


def test_a_run_with_damaged_records_does_not_keep_others_from_being_pruned(home, store, call):
    damaged = "aaa-0123456789ab"
    store.create(keys.run(damaged), b"{}")
    code, (skipped, pruned), err = call("prune --keep 1 --json")
    assert code == ExitCode.FAILED and "1 run with damaged records left as they are" in err
    assert (skipped["run"], pruned["run"], pruned["deleted"]) == (damaged, RUN, 1)
    code, printed, err = call(f"delete {damaged}")
    assert code == ExitCode.FAILED and not printed and "is not a record" in err and "--force to delete" in err
    assert call(f"delete {damaged} --force")[0] == 0 and not store.exists(keys.run(damaged))


def test_verify_names_every_fault_and_resumes(home, store, call):
    parts = sorted((home / "store").rglob("parts/*"))
    parts[3].write_bytes(parts[3].read_bytes()[:-1] + b"?")
    parts[5].unlink()
    code, printed, err = call(f"verify {RUN} --json")
    keys_ = [str(parts[i].relative_to(home / "store")) for i in (3, 5)]
    assert code == ExitCode.FAILED and [found.get("key") for found in printed] == [*keys_, None]
    assert "sha256 is" in printed[0]["fault"] and "is gone" in printed[1]["fault"]
    assert printed[2] == {"run": RUN, "verified": 26, "earlier": 0, "faults": 2}
    assert "2 objects damaged or missing" in err and "--damaged" in err
    assert not list((home / "verify").iterdir())


def test_verify_resumes_after_a_kill(home, store, call, monkeypatch):
    reads = []

    class Killed(BaseException):
        pass

    def read(self, key, original=LocalStore.read):
        if "/parts/" in key:
            reads.append(key)
            if len(reads) == 10:
                raise Killed
        return original(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "read", read)
        with pytest.raises(Killed):
            call(f"verify {RUN}")
    (journal,) = (home / "verify").iterdir()
    journal.write_text(journal.read_text() + reads[-1][:20])
    (found,) = call(f"verify {RUN} --json")[1]
    assert found == {"run": RUN, "verified": 28, "earlier": found["earlier"], "faults": 0} and found["earlier"] >= 9
    assert not list((home / "verify").iterdir())


def test_copy_resumes_and_refuses_another_history(home, store, call):
    other = LocalStore(home / "other")
    code, (line,), err = call(f"copy {RUN} --to {other.url}")
    assert code == 0 and "|" not in err, "bars are for terminals"
    assert line.startswith(f"{RUN}  28 objects (") and line.endswith(") copied")
    assert sorted(other.list("")) == sorted(store.list(""))
    lost = keys.part(RUN, 0, 10)
    other.delete(lost)
    assert call(f"copy {RUN} --to {other.url} --json")[1][0]["copied"] == 1
    assert other.read(lost) == store.read(lost)
    other.delete(keys.fit(RUN, 1))
    other.create(keys.fit(RUN, 1), b"another fit")
    code, _, err = call(f"copy {RUN} --to {other.url}")
    assert code == ExitCode.CONFIG and "differs from the object of the same name" in err


def test_a_run_is_not_copied_to_where_it_is(home, store, call):
    (home / "link").symlink_to(home / "store")
    for name in ("store", "link", "link/../store"):
        for more in ("", " --dry-run"):
            code, _, err = call(f"copy {RUN} --to file://{home}/{name}{more}")
            assert code == ExitCode.CONFIG and "is the store that the run is in" in err
    assert call(f"copy {RUN} --to file://{home}/new --dry-run --json")[1][0]["copied"] == 28
    assert not (home / "new").exists()


def test_repair_trains_again_what_it_took_out_of_use(tmp_path, capsys):
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(SPEC | {"m": 28}))
    at = ["--home", str(tmp_path / "home"), "--quiet", "--trainers", "1"]
    assert main(["aggregate", str(tmp_path / "spec.yaml"), *at]) == 0
    store = LocalStore(tmp_path / "home" / "store")
    (name,) = runs.names(store)
    first = keys.part(name, 4, 8)
    before = manifest.read_newest(store, name)
    capsys.readouterr()
    line = ["repair", name, "--models", "5:6", *at, "--force", "--spec"]
    assert main([*line, str(tmp_path / "other.yaml")]) == ExitCode.CONFIG
    assert "describes run linear-" in capsys.readouterr().err and manifest.read_newest(store, name) == before
    assert main([*line, str(tmp_path / "spec.yaml")]) == 0
    newest = manifest.read_newest(store, name)
    assert newest.committed == 36 and dict(newest.retired) == {4: 1}
    assert newest.find(5).key == keys.part(name, 4, 8, 1) != first and store.exists(first)
    assert "models 4 to 7  asked for" in (out := capsys.readouterr().out) and "4 trained" in out
