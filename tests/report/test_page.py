import base64
import hashlib
import json
import re

import pytest

from datamodels.report import page
from tests.report import made

EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>"


def data_of(parser):
    (found,) = (text for attributes, text in parser.scripts if attributes.get("id") == "data")
    return json.loads(found)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"data": made.dataset(image_shape=None)},
        {"data": made.dataset(image_shape=None, texts=["a"] * 30, texts_test=["b"] * 5)},
        {"data": made.dataset(label_names=())},
        {"data": None},
        {"targets": "both"},
        {"design": {"kind": "grouped"}},
        {"trainer": {"class": "a:B", "options": {"output": "squared_error"}}},
        {"stop": 100},
        {"fit": False},
    ],
    ids=lambda fields: next(iter(fields), "pictures") + str(len(str(fields))),
)
def test_the_page_is_whole_and_needs_nothing_else(tmp_path, fields):
    text = page.html(made.findings(tmp_path, **fields))
    found = made.parsed(text)
    assert "http" not in text.replace("http-equiv", "")
    assert ("explorer-body" in found.ids) == bool(data_of(found)) == fields.get("fit", True)
    for link in re.findall(r'href="#([\w-]+)"', text):
        assert link in found.ids


def test_only_the_pages_own_script_may_run(tmp_path):
    text = page.html(made.findings(tmp_path))
    ((_, script),) = (pair for pair in made.parsed(text).scripts if not pair[0])
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")


def test_nothing_of_a_run_is_taken_for_html(tmp_path):
    """Labels, names, texts and options as an attacker would write them come back as they are, and only as text."""
    data = made.dataset(image_shape=None, label_names=(EVIL,) * 4, texts=[EVIL] * 30, texts_test=[EVIL] * 5)
    found = made.findings(tmp_path, data=data, dataset={"load": "a:b", "options": {"path": EVIL}})
    text = page.html(found)
    parser = made.parsed(text)
    assert len(parser.scripts) == 2 and "<img" not in text and "alert(1)" in text
    shown = data_of(parser)
    assert shown["targets"][0]["label"] == EVIL and shown["targets"][0]["text"] == EVIL
    assert any(EVIL in words.replace("\n", " ").replace("  ", " ") or "alert(2)" in words for words in parser.texts)


def test_the_page_says_what_there_is(tmp_path):
    found = made.findings(tmp_path)
    text = "".join(made.parsed(page.html(found)).texts)
    low, high = found.evaluation.interval
    for words in (
        found.run.name,
        f"{found.evaluation.lds:.3f}",
        f"95% interval {low:.3f} to {high:.3f}",
        f"{found.evaluation.ceiling:.3f}",
        "218 models were trained",
        "2.0 s",
    ):
        assert words in text
    assert "Partial" not in text and "by number" not in text


def test_a_run_that_still_trains_is_marked(tmp_path):
    half = "".join(made.parsed(page.html(made.findings(tmp_path / "a", stop=100))).texts)
    assert "Partial: 100 of 218 models are committed. The newest fit uses 100 of them." in half
    assert "Not measured" in half
    none = "".join(made.parsed(page.html(made.findings(tmp_path / "b", stop=100, fit=False))).texts)
    assert "No fit is finished yet" in none and "(46%)" in none


def test_without_its_data_set_examples_have_numbers(tmp_path):
    found = made.findings(tmp_path, data=None)
    parser = made.parsed(page.html(found))
    assert "cannot be loaded here" in "".join(parser.texts)
    assert data_of(parser)["targets"][2]["name"] == "target 2"
