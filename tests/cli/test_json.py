"""Every command that prints facts prints them as JSON, too: run one by one, on a small run, and read strictly."""

import contextlib
import dataclasses
import io
import json
import math
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml
from datamodels.services.query.service import service

from datamodels.cli.common.output import print_json
from datamodels.cli.main import main
from datamodels.errors import ExitCode
from datamodels.query.weights import WeightStore
from datamodels.rpc.serve import Server
from datamodels.run import runs
from datamodels.runners.cluster.templates import named
from datamodels.settings import ServeSettings
from datamodels.storage.local import LocalStore
from datamodels.testing.linear import Linear
from tests.cli.declared import endings
from tests.runners.cluster.conftest import api  # noqa: F401 - fixture

WITHOUT = {
    ("logs",): "prints the lines of a log, which are JSON already",
    ("drive",): "runs in a pod and writes logs",
    ("completion",): "prints a script",
    ("explore",): "serves until Ctrl-C; its API is JSON",
}
SPEC = {
    "name": "linear",
    "dataset": {"load": "datamodels.testing.linear:load"},
    "trainer": {"class": "datamodels.testing.linear:Linear"},
    "m": 120,
    "chunk": 80,
    "sub_chunk": 40,
    "evaluate": {"subsets": 10, "models": 4},
    "fit": {"lambdas": 6},
    "output": {"name": "margin", "higher_is_better": True, "threshold": 10.0},
}
PLAIN = re.compile(r"[a-z][a-z0-9_]*|[\d.]+")
"""Names of fields; numbers are classes and quantiles."""

LINES = [
    "trainer check --spec SPEC --seconds 0.05 --price 2",
    "examples",
    "examples digits",
    "plan SPEC --model-seconds 1 --price 2",
    "sample SPEC",
    "fit RUN --fit estimator=ridge",
    "status",
    "status RUN --verify",
    "report RUN --lime 1",
    "evaluate RUN ADDRESS --alpha 1 --models 3",
    "curve RUN --lds 0.9",
    "compare RUN --targets 6 --models 2 --retrain 2 --remove 1 --baselines random",
    "lime RUN 0 --models 2 --samples 20",
    "review RUN",
    "leakage RUN",
    "clusters RUN ADDRESS",
    "components RUN ADDRESS",
    "conflicts RUN ADDRESS",
    "support RUN 1 4 5 --verify 2 ADDRESS",
    "counterfactual RUN 0 --remove 3 ADDRESS",
    "query runs ADDRESS",
    "query run RUN ADDRESS",
    "query targets RUN ADDRESS",
    "query top RUN 0 ADDRESS",
    "query similar RUN 0 ADDRESS",
    "query weights RUN 0 ADDRESS",
    "query predict RUN 0-9 0 ADDRESS",
    "export RUN --format npy --output FOLDER",
    "import FOLDER/masks.npy FOLDER/outputs.npy",
    "prune RUN --keep 1 --dry-run",
    "vacuum RUN --compact",
    "verify RUN",
    "copy RUN --to file://FOLDER/copy",
    "repair RUN --damaged",
    "delete RUN --dry-run",
]
"""What users type: each command, without --json. `run` makes the run; test_cluster_commands has those of a cluster."""
CLUSTER = [
    *("submit SPEC", "list", "scale RUN 2", "suspend RUN", "resume RUN", "status RUN -n ns", "submit SPEC --watch"),
    "cancel RUN",
]


@dataclasses.dataclass
class Place:
    """A home with a run that `datamodels run --json` made, what that printed, and the address of its query service."""

    home: Path
    spec: Path
    run: str
    printed: str
    address: str

    def words(self, line):
        exchanged = {"SPEC": str(self.spec), "RUN": self.run, "ADDRESS": f"--address {self.address}"}
        exchanged["FOLDER"] = str(self.home / "exported")
        return re.sub("|".join(exchanged), lambda found: exchanged[found[0]], line).split()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["run", str(home / "spec.yaml"), "--json", "--quiet", "--home", str(home), "--trainers", "1"]) == 0
    store = LocalStore(home / "store")
    with Server(ServeSettings(), [service(WeightStore(store, refresh=0))]) as server:
        yield Place(home, home / "spec.yaml", *runs.names(store), printed.getvalue(), server.address)


def read(out):
    """Return the values on the lines of an output. Refuses NaN, infinity and names that are not plain."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    def named(pairs):
        assert all(PLAIN.fullmatch(name) for name, _ in pairs), [name for name, _ in pairs]
        return dict(pairs)

    return [json.loads(line, parse_constant=refuse, object_pairs_hook=named) for line in out.splitlines()]


def test_every_command_that_prints_facts_has_json():
    missing = {words for words, found in endings() if "--json" not in found._option_string_actions}
    assert missing == set(WITHOUT)
    tried = [line.split() for line in [*LINES, *CLUSTER, "run"]]
    functions = {words: found.get_default("command") for words, found in endings()}
    run = {functions[words] for words in functions if any(list(words) == line[: len(words)] for line in tried)}
    assert set(functions.values()) - {functions[words] for words in WITHOUT} == run


@pytest.mark.parametrize("line", LINES)
def test_each_prints_one_value_or_one_per_line(place, capsys, line):
    words = place.words(line)
    shown = next(found for begin, found in endings() if list(begin) == words[: len(begin)])
    at_home = ["--home", str(place.home)] if "--home" in shown._option_string_actions else []
    assert main([*words, "--json", *at_home]) == 0, capsys.readouterr().err
    found = read(capsys.readouterr().out)
    assert found and all(isinstance(value, dict) for value in found)
    assert len(found) == 1 or "one object per line" in shown.format_help()


def test_what_the_users_code_prints_is_no_part_of_it(place, capsys, monkeypatch):
    monkeypatch.setattr(Linear, "__init__", said(Linear.__init__))
    assert main(["lime", place.run, "0", "--models", "2", "--samples", "20", "--json", "--home", str(place.home)]) == 0
    out, err = capsys.readouterr()
    assert len(read(out)) == 1 and "hello" in err


def said(function):
    def wrapper(*arguments, **options):
        print("hello")
        return function(*arguments, **options)

    return wrapper


def test_a_run_prints_its_result(place):
    (found,) = read(place.printed)
    assert found["run"] == place.run and found["models"]["committed"] == 160 and found["output"]["threshold"] == 10
    assert found["lds"]["lds"] > 0.8 and found["verdict"]["word"] == "good" and Path(found["report"]).is_file()
    assert len(found["influences"]) == 3 and found["influences"][0].keys() >= {"target", "helpful", "harmful"}


def test_cluster_commands(place, api, capsys):  # noqa: F811
    for line in CLUSTER:
        if line.startswith("scale"):
            owner = api.objects["jobs"][named(place.run, "dm")]["metadata"]["uid"]
            labels = {"datamodels/run": place.run}
            metadata = {"name": "train", "labels": labels, "ownerReferences": [{"uid": owner}]}
            api.add("jobs", {"metadata": metadata, "spec": {"completionMode": "Indexed", "completions": 4}})
        ends = threading.Timer(0.5, api.finish, (named(place.run, "dm"), "Complete"))
        if "--watch" in line:
            ends.start()
        assert main([*place.words(line), "--kubeconfig", api.kubeconfig, "--json"]) == 0
        found = read(capsys.readouterr().out)
        assert found and all(value["run"] == place.run for value in found), line
        assert all({"state", "note"} & value.keys() for value in found), line


def test_failures_and_nothing_print_no_json(place, tmp_path, capsys):
    """Errors go to standard error, and the exit code tells; a list of nothing has no lines."""
    assert main(["status", "nope", "--json", "--home", str(place.home)]) == ExitCode.CONFIG
    assert main(["lime", place.run, "99", "--json", "--home", str(place.home)]) == ExitCode.CONFIG
    LocalStore(tmp_path / "store")
    assert main(["status", "--json", "--home", str(tmp_path)]) == 0
    assert main(["leakage", place.run, "-k", "0", "--json", "--home", str(place.home)]) == ExitCode.CONFIG
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 4


def test_a_damaged_run_has_its_error_and_the_others_are_told(tmp_path, capsys):
    LocalStore(tmp_path / "store").create("runs/bad-000000000000.json", b"{}")
    assert main(["status", "--json", "--home", str(tmp_path)]) == ExitCode.FAILED
    (found,) = read(capsys.readouterr().out)
    assert found["run"] == "bad-000000000000" and "is not a record" in found["error"]


def test_numbers_that_json_lacks_are_null_and_types_of_numpy_are_plain(capsys):
    @dataclasses.dataclass
    class Found:
        value: float
        rows: np.ndarray

    print_json({"a": Found(math.inf, np.array([1.5, np.nan])), "b": (np.int32(3), np.float32("nan"), "é")})
    assert json.loads(capsys.readouterr().out) == {"a": {"value": None, "rows": [1.5, None]}, "b": [3, None, "é"]}


def test_only_one_place_prints_json():
    folder = Path(print_json.__code__.co_filename).parents[1]
    printing = [path.name for path in folder.rglob("*.py") if "json.dumps" in path.read_text()]
    assert printing == ["output.py"]
