import http.client
import json
import socket

import numpy as np
import pytest
from datamodels.services.explorer import __main__ as process
from datamodels.services.explorer import lists
from prometheus_client import REGISTRY

from datamodels.aggregate import manifest
from datamodels.analyze.findings import gather
from datamodels.analyze.patterns import components
from datamodels.analyze.what_if import pool
from datamodels.analyze.what_if.counterfactual import counterfactual
from datamodels.fit.job import fits
from datamodels.query.weights import WeightStore
from datamodels.settings import ServeSettings
from tests.helpers.waiting import LIMIT, eventually
from tests.report import made
from tests.services.explorer.conftest import MARKUP, TOKEN


@pytest.fixture(scope="module")
def fitted(served):
    return WeightStore(served.store).fitted(served.run.name)


def test_parts_of_an_answer_do_not_wait_for_acknowledgements():
    with (
        process._listen(ServeSettings()) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_runs_are_listed_page_by_page(served):
    found = served.ask("/api/v1/runs?limit=1").json()
    assert [one["run"] for one in found["runs"]] == [served.run.name] and found["next"] is None
    assert found["runs"][0]["output"]["effects"] == ["helpful", "harmful"] and found["runs"][0]["looks"]
    assert served.ask(f"/api/v1/runs?page={served.run.name}").json()["runs"] == []


def test_answers_are_counted_by_call_and_status(served):
    def counted(route, status):
        labels = {"route": route, "status": status}
        return REGISTRY.get_sample_value("datamodels_explorer_requests_total", labels) or 0

    expected = {
        ("/api/v1/runs", "200"): served.ask("/api/v1/runs").status,
        ("/api/v1/runs/{run}", "200"): served.ask(f"/api/v1/runs/{served.run.name}").status,
        ("other", "401"): served.ask("/api/v1/runs", token="").status,
        ("other", "404"): served.ask("/api/v1/nothing").status,
    }
    assert [str(found) for found in expected.values()] == [status for _, status in expected]
    eventually(lambda: all(counted(*labels) >= 1 for labels in expected))  # they are counted after they are sent


def test_a_run_is_described(served):
    found = served.get("")
    assert found["committed"] == manifest.read_newest(served.store, served.run.name).committed == found["models"]
    assert found["label_names"] == list(made.NAMES) and found["spec"]["m"] == served.run.spec.m
    assert [fit["fit"] for fit in found["fit_list"]] == [0] and served.get("/progress")["committed"] == found["models"]


def test_targets_are_filtered_sorted_and_searched(served, fitted):
    solution = fitted.solution
    found = served.get("/targets?sort=-strongest&limit=2")
    strongest = [np.abs(solution.row(t)[1]).max(initial=0) for t in range(5)]
    assert [row["target"] for row in found["rows"]] == np.argsort(strongest)[::-1][:2].tolist()
    assert (found["total"], found["next"], set(found["fields"])) == (5, 2, set(found["rows"][0]))
    rest = served.get("/targets?sort=-strongest&limit=9&offset=2")
    assert len(rest["rows"]) == 3 and rest["next"] is None
    row = served.get("/targets?search=%232")["rows"][0]
    assert row["target"] == 2 and row["nonzeros"] == len(solution.row(2)[0])
    assert row["predicted"] == pytest.approx(solution.intercept[2] + solution.row(2)[1].sum(), rel=1e-5)
    assert row["helpful"] - row["harmful"] == pytest.approx(solution.row(2)[1].sum(), rel=1e-5)
    assert [one["target"] for one in served.get("/targets?search=TEST-3")["rows"]] == [3]
    assert [one["target"] for one in served.get("/targets?where=nonzeros=0")["rows"]] == [1]
    named = served.get("/targets?where=label_name=" + made.NAMES[int(served.run.target_labels[4])])
    assert 4 in [one["target"] for one in named["rows"]]
    assert served.get("/targets?where=lds%3E=2")["total"] == 0


@pytest.mark.parametrize(
    "query, why",
    [
        ("sort=evil", "has no field 'evil'"),
        ("where=target", "must be FIELD"),
        ("where=target=1)OR(1=1", "is a number"),
        ("where=status;DROP=1", "must be FIELD"),
        ("limit=1001", "limit"),
        ("offset=-1", "offset"),
    ],
)
def test_wrong_lists_are_refused(served, query, why):
    found = served.get(f"/targets?{query}", status=400)
    assert why in found["detail"] and found["code"] == "INVALID_ARGUMENT"
    assert served.get("/targets?where=status='; DROP TABLE facts; --".replace(" ", "%20"))["total"] == 0


@pytest.mark.parametrize(
    "query", ["clusters?k=99999999999999", "components?extremes=99999999999999", "components?k=-1"]
)
def test_numbers_that_no_analysis_takes_are_refused(served, query):
    assert served.get(f"/analyses/{query}", status=400)["code"] == "INVALID_ARGUMENT"


def test_pages_are_bounded_in_bytes(served, monkeypatch):
    monkeypatch.setattr(lists.views, "MOST_BYTES", 1000)
    found = served.get("/targets")
    assert 0 < len(found["rows"]) < 5 and found["next"] == len(found["rows"])


def test_a_target_shows_its_strongest_columns(served, fitted):
    found = served.get("/targets/0?k=3")
    helpful, harmful = fitted.top(0, 3)
    assert [(one["index"], one["weight"]) for one in found["helpful"]] == helpful
    assert [(one["index"], one["weight"]) for one in found["harmful"]] == harmful
    assert all(one["measured"] == one["weight"] / 4 for one in found["helpful"]), "the rest is the prior"
    first, path = found["helpful"][0], f"/api/v1/runs/{served.run.name}/counterfactual"
    removed = served.ask(path, {"targets": [0], "remove": [first["index"]]}).json()["changes"][0]
    assert first["interval"] == pytest.approx([-end for end in removed["change_interval"][::-1]], rel=1e-5)
    assert first["interval"][0] < first["weight"] < first["interval"][1]
    (same,) = (one for one in served.get(f"/columns/{first['index']}")["raises"] if one["index"] == 0)
    assert same["interval"] == first["interval"]
    assert found["look"]["title"] == "test-0" and found["helpful"][0]["look"]["title"].startswith(MARKUP)
    picture = served.ask(found["helpful"][0]["look"]["picture"])
    assert picture.headers["content-type"] == "image/png" and picture.body[:4] == b"\x89PNG"
    assert "immutable" in picture.headers["cache-control"]


def test_findings_are_those_of_a_report(served, fitted):
    found, expected = served.get("/findings"), gather(served.store, served.run, None)
    assert found["quality"]["lds"] == expected.evaluation.lds and found["fragility"]["removed"]
    assert found["spec"].startswith("name: small") and found["fit"] == 0 and found["baselines"] is None
    said, target = served.get("/targets/2/findings"), expected.fitted.targets[2]
    assert said["unseen"]["means"] == pytest.approx(target.unseen.means, rel=1e-3)
    assert said["removal"]["mean"] == pytest.approx(target.removal.mean, rel=1e-3)
    assert served.get("/targets/9/findings", status=404)["code"] == "OUT_OF_RANGE"


def test_an_example_shows_the_targets_that_it_moves(served, fitted):
    weights = fitted.theta.toarray()[:, 4]
    found = served.get("/columns/4")
    shown = {one["index"]: one["weight"] for one in (*found["raises"], *found["lowers"])}
    assert shown == {target: weight for target, weight in enumerate(weights.tolist()) if weight}
    assert found["facts"]["targets"] == np.count_nonzero(weights)
    assert found["facts"]["mean"] == pytest.approx(weights.mean(), rel=1e-5)
    assert found["facts"]["helped"] == (weights > 0).sum() and found["facts"]["title"] == f"{MARKUP}4.png"


def test_what_the_weights_predict(served, fitted):
    run, asked = served.run, {"columns": [0, 2, 5], "targets": [3, 0]}
    found = served.ask(f"/api/v1/runs/{run.name}/predict", asked).json()
    expected = fitted.solution.intercept + fitted.theta.toarray()[:, [0, 2, 5]].sum(axis=1)
    assert found["targets"] == [3, 0] and found["predictions"] == pytest.approx(expected[[3, 0]], rel=1e-5)
    changed = served.ask(f"/api/v1/runs/{run.name}/counterfactual", {"targets": [0], "remove": [1, 2]}).json()
    solution = fits.load(served.store, fitted.record)
    mine = counterfactual(
        fitted.run, solution, fitted.noise, fitted.record.rows, targets=np.array([0], dtype=np.int32),
        base=pool.whole(fitted.run), remove=np.array([1, 2], dtype=np.int32), add=pool.NO_COLUMNS,
    )  # fmt: skip
    assert changed["changes"][0]["change"] == mine.change[0]
    assert changed["changes"][0]["after_interval"] == pytest.approx(mine.after_interval[0])
    other = served.ask(f"/api/v1/runs/{run.name}/counterfactual", {"targets": [0], "relabel": [1, 2]}).json()
    assert other["changes"][0]["change"] == pytest.approx(2 * mine.change[0])
    back = {"targets": [0], "add": [1, 2], "left_out": [1, 2]}
    added = served.ask(f"/api/v1/runs/{run.name}/counterfactual", back).json()["changes"][0]
    assert added["change"] == pytest.approx(-mine.change[0]) and added["after"] == pytest.approx(mine.before[0])
    assert served.get("/targets/0")["predicted_interval"] == pytest.approx(mine.before_interval[0])


def test_every_question_has_an_answer(served):
    support = served.get("/targets/0/support")
    assert support["status"] in ("found", "none", "wrong") and len(support["curve"]) == len(support["columns"]) + 1
    assert served.get("/targets/0/support?mislabel=true")["target"] == 0
    assert served.get("/targets/0/similar?k=2")["neighbours"][0]["look"]["role"] == "target"
    assert served.get("/columns/0/similar?k=2")["neighbours"][0]["look"]["role"] == "pool"
    assert all(leak["measured"] == leak["weight"] / 4 for leak in served.get("/leakage?k=3")["leaks"])
    assert served.get("/mislabel?k=3")["examples"]
    quality = served.get("/analyses/quality")
    assert quality["result"]["evaluation"]["subsets"] == 6 and not quality["partial"]
    found = served.ask(f"/api/v1/comparison?one={served.run.name}&other={served.run.name}@0").json()
    assert found["cosine"] == pytest.approx([1] * 5, abs=1e-6) and found["shared"] == 1 and found["targets"] == 4


def test_a_map_has_the_scores_of_two_components_and_any_field(served, fitted):
    drawn = served.get("/analyses/map")
    expected = components.components(fitted.theta, k=2, seed=served.run.spec.seed)
    np.testing.assert_allclose([drawn["result"]["x"], drawn["result"]["y"]], expected.scores.T, rtol=1e-3)
    assert drawn["result"]["share"] == pytest.approx(expected.share)
    assert len(served.get("/analyses/map?columns=true")["result"]["x"]) == 30
    rows = served.get("/targets")["rows"]
    for field in ("predicted", "lds", "label_name"):
        found = served.get(f"/targets/values?field={field}&fit=0")
        shown = [
            row[field] if field == "label_name" or row[field] is None else float(f"{row[field]:.4g}") for row in rows
        ]
        assert found["values"] == pytest.approx(shown) if field != "label_name" else found["values"] == shown
    assert served.get("/columns/values?field=targets")["values"][4] == np.count_nonzero(fitted.theta.toarray()[:, 4])
    assert "has no field" in served.get("/columns/values?field=haystack", status=400)["detail"]


@pytest.mark.parametrize(
    "path, status, code",
    [
        ("/targets/5", 404, "OUT_OF_RANGE"),
        ("/targets/x", 400, "INVALID_ARGUMENT"),
        ("/columns/30", 400, "INVALID_ARGUMENT"),
        ("/examples/30/picture", 404, "OUT_OF_RANGE"),
        ("/targets?fit=9", 404, "NOT_FOUND"),
        ("/analyses/dance", 400, "INVALID_ARGUMENT"),
        ("/analyses/clusters?k=99", 400, "INVALID_ARGUMENT"),
        ("/nothing", 404, "NOT_FOUND"),
    ],
)
def test_errors_are_problems(served, path, status, code):
    found = served.get(path, status=status)
    assert (found["status"], found["code"]) == (status, code) and found["detail"] and found["title"]


def test_a_run_that_is_not_there_is_not_found(served):
    for name in ("nothing-0123456789ab", "..%2Fx", "a"):
        found = served.ask(f"/api/v1/runs/{name}")
        assert found.status == 404 and found.json()["code"] == "NOT_FOUND"


def events(served, path):
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=LIMIT)
    connection.request("GET", f"/api/v1/runs/{served.run.name}{path}", headers={"authorization": f"Bearer {TOKEN}"})
    response = connection.getresponse()
    assert response.headers["content-type"].startswith("text/event-stream")
    text = response.read().decode()
    connection.close()
    blocks = [block.split("\n") for block in text.split("\n\n") if block.startswith("event:")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_progress_and_analyses_are_sent_as_events(served):
    progress = events(served, "/events")
    assert [name for name, _ in progress] == ["progress", "ended"] and progress[0][1]["ended"]
    *_, (name, answer) = events(served, "/analyses/components/events?k=2&extremes=2")
    assert name == "answer" and len(answer["result"]["share"]) == 2
    assert events(served, "/analyses/components/events?k=99")[-1][0] == "problem"


def test_the_api_describes_itself(served):
    described = served.ask("/api/v1/openapi.json").json()
    calls = [call for path in described["paths"].values() for call in path.values()]
    assert len(calls) > 25 and all(call.get("description") for call in calls)
    for schema in described["components"]["schemas"].values():
        assert schema.get("description"), schema["title"]


def test_no_code_that_a_run_names_is_imported(served):
    """Its data set and its trainer are of module `a`, which does not exist."""
    assert served.get("/queue")["left_out"] is not None and served.run.spec.dataset.load == "a:b"
