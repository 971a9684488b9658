import csv
import io

from datamodels.run import documents, specs


def post(served, **fields):
    verdict = {"kind": "label", "index": 2, "other": -1, "verdict": "keep"} | fields
    return served.ask(f"/api/v1/runs/{served.run.name}/verdicts", verdict)


def test_a_verdict_is_stored_shown_in_the_queue_and_exported(served):
    first = next(one for one in served.get("/queue?k=3")["suspects"] if one["kind"] == "label")
    assert first["suggested"] != first["look"]["label"] and first["look"]["picture"]
    given = {"index": first["index"], "verdict": "fix", "label": first["suggested"], "note": "=1+1"}
    stored = post(served, **given)
    assert stored.status == 201 and stored.json()["when"] > 0 and stored.json()["who"] == ""
    again = next(one for one in served.get("/queue?k=3")["suspects"] if one["index"] == first["index"])
    assert again["verdict"]["label"] == first["suggested"]
    assert [one["index"] for one in served.get("/verdicts")["verdicts"]].count(first["index"]) == 1
    text = served.ask(f"/api/v1/runs/{served.run.name}/verdicts.csv")
    rows = {row["index"]: row for row in csv.DictReader(io.StringIO(text.body.decode()))}
    row = rows[str(first["index"])]
    assert row["note"] == "'=1+1" and row["label_name"] == served.run.label_names[first["suggested"]]
    following = served.ask(f"/api/v1/runs/{served.run.name}/next.yaml")
    assert following.headers["content-disposition"].endswith(f'"{served.run.name}-next.yaml"')
    spec = specs.parse(documents.load(following.body.decode()))
    assert spec.dataset.relabel == {first["index"]: first["suggested"]} and spec.run != served.run.name
    assert post(served, index=first["index"], verdict="open").status == 201
    assert first["index"] not in [one["index"] for one in served.get("/verdicts")["verdicts"]]


def test_verdicts_that_say_nothing_are_refused(served):
    before = served.get("/verdicts")
    for fields in (
        {"verdict": "burn"},
        {"verdict": "fix"},
        {"verdict": "fix", "label": 99},
        {"label": 1},
        {"kind": "leak"},
        {"index": 30},
        {"kind": "fragile", "index": 5},
        {"other": 3},
        {"note": "x" * 1001},
        {"extra": 1},
    ):
        found = post(served, **fields)
        assert found.status == 400 and found.json()["code"] == "INVALID_ARGUMENT", fields
    assert served.get("/verdicts") == before
