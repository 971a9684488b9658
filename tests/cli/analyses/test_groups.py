import json

import pytest
from datamodels.services.query.service import service

from datamodels.query.weights import WeightStore
from datamodels.rpc.serve import Server
from datamodels.settings import ServeSettings
from tests.cli.test_main import run_main
from tests.services.query.test_groups import make_store


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(arguments that say where the query service is, run)"""
    store, run = make_store(tmp_path_factory.mktemp("store"))
    with Server(ServeSettings(), [service(WeightStore(store))]) as server:
        yield ("--address", server.address), run


def ask(capsys, served, verb, *arguments):
    """(what --json gives, the lines for people)"""
    place, run = served
    code, out, err = run_main(capsys, verb, run.name, *arguments, *place, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["run"], found["fit"]) == (run.name, 0)
    code, out, err = run_main(capsys, verb, run.name, *arguments, *place)
    assert code == 0, err
    return found, out.splitlines()


def test_clusters_come_with_their_classes(capsys, served):
    found, lines = ask(capsys, served, "clusters")
    assert sum(row["size"] for row in found["clusters"]) == served[1].n - 1 and found["without"] == 1
    for row in found["clusters"]:
        assert len({int(label) % 2 for label in row["classes"]}) == 1
        assert sum(row["classes"].values()) == row["size"]
    assert found["rand_interval"][0] <= found["rand"] <= found["rand_interval"][1]
    assert lines[1] == "2 clusters; not in any, because they are similar to no other: 1"
    assert lines[2].startswith("compared with the classes: purity ")
    assert len(ask(capsys, served, "clusters", "--columns", "-k", "2")[0]["clusters"]) == 2


def test_components_come_with_their_ends(capsys, served):
    found, lines = ask(capsys, served, "components", "-k", "2", "--extremes", "3")
    assert [len(row["high"]["index"]) for row in found["components"]] == [3, 3]
    first = found["components"][0]
    assert first["interval"][0] <= first["share"] <= first["interval"][1]
    assert lines[1].startswith("component 0: ") and lines[2].startswith("  high targets ")


def test_conflicts_come_surest_first(capsys, served):
    found, lines = ask(capsys, served, "conflicts")
    assert found["pairs"] == 12 and all(row["effect"] < 0 for row in found["conflicts"])
    sure = [row for row in found["conflicts"] if row["sure"]]
    assert lines[1] == f"{len(sure)} of 12 pairs of groups are in conflict" and len(lines) == 2 + len(sure)


@pytest.mark.parametrize(
    "question, fault",
    [
        (["clusters", "-k", "1"], "-k 1: must be 2 to 45"),
        (["components", "-k", "0", "--extremes", "-1"], "--extremes -1"),
        (["conflicts", "--groups", "x"], "must be classes or clusters"),
    ],
)
def test_bad_questions_get_one_line_and_exit_code_2(capsys, served, question, fault):
    place, run = served
    verb, *rest = question
    code, out, err = run_main(capsys, verb, run.name, *rest, *place)
    assert (code, out) == (2, "") and fault in err and err.count("\n") == 1
