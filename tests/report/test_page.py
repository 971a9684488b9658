import base64
import hashlib
import json
import re

import pytest

from datamodels.report import page
from tests.report import made

EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>"


def data_of(parser):
    (found,) = (text for attributes, text in parser.scripts if attributes.get("id") == "sample")
    return json.loads(found)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"data": made.dataset(image_shape=None)},
        {"data": made.dataset(image_shape=None, texts=["a"] * 30, texts_test=["b"] * 5)},
        {"data": made.dataset(label_names=())},
        {"data": None},
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
    hosts = set(re.findall(r"https?://([\w.-]+)", text))
    assert hosts <= {"www.w3.org"}, "names of namespaces are no requests"
    assert found.ids["app"] == "div" and bool(data_of(found)["targets"]) == fields.get("fit", True)
    without = re.search("<noscript>(.*)</noscript>", text, re.DOTALL)[1]
    assert all(f"<p>{value}: {what}</p>" in without for value, what in data_of(found)["findings"]["figures"])


def test_only_the_pages_own_script_and_style_may_be_used(tmp_path):
    text = page.html(made.findings(tmp_path))
    ((_, script),) = (pair for pair in made.parsed(text).scripts if "id" not in pair[0])
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    assert (
        policy == f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"
    )


def test_nothing_of_a_run_is_taken_for_html(tmp_path):
    """Labels, names, texts and options as an attacker would write them come back as they are, and only as text."""
    data = made.dataset(image_shape=None, label_names=(EVIL,) * 4, texts=[EVIL] * 30, texts_test=[EVIL] * 5)
    found = made.findings(tmp_path, data=data, dataset={"load": "a:b", "options": {"path": EVIL}})
    text = page.html(found)
    parser = made.parsed(text)
    assert len(parser.scripts) == 2 and "<img" not in text and "alert(1)" in text
    shown = data_of(parser)
    assert shown["looks"]["targets"]["0"] == {"label": 0, "label_name": EVIL, "text": EVIL} | {
        "label": int(found.run.target_labels[0])
    }
    assert "alert(2)" in shown["findings"]["spec"]


def test_without_its_data_set_examples_have_numbers(tmp_path):
    shown = data_of(made.parsed(page.html(made.findings(tmp_path, data=None))))
    assert any("by number" in text for text in shown["findings"]["text"])
    assert "picture" not in shown["looks"]["targets"]["2"]
