"""The page in a browser, if one is installed: what the script draws."""

import re
import shutil
import subprocess

import pytest

from datamodels.report import page
from tests.report import made
from tests.waiting import LIMIT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")

EVIL = "</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Opens the page of a run, at an address behind #, and returns the document as its scripts left it."""
    folder = tmp_path_factory.mktemp("pages")

    def open_page(found, place="", script="", **more):
        text = page.html(found, **more)
        if script:  # what a person would do; our policy lets no script in but the page's own
            text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
            text = text.replace("</body>", f"<script>{script}</script></body>")
        path = folder / f"{len(list(folder.iterdir()))}.html"
        path.write_text(text, encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=2000"]
        flags += [f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--dump-dom"]
        command = [CHROMIUM, *flags, f"{path.as_uri()}{place}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            pytest.skip("Chromium did not answer within 90 s, which says nothing of the page")
        assert done.returncode == 0, done.stderr[-2000:]
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        assert not console, console
        return done.stdout

    return open_page


def test_a_target_by_its_address(opened, tmp_path):
    """Also: no script of a text runs, and none of the page's breaks."""
    found = made.findings(tmp_path, data=made.dataset(label_names=(EVIL,) * 4))
    dom = opened(found, "#target=2&k=2")
    assert re.search(r"<h3>Target 2: &lt;/script&gt;&lt;img", dom) and '<img src="x"' not in dom
    assert len(re.findall(r'role="option"', dom)) == found.run.n
    taken = re.search(r'<output id="expected"[^>]*>(\d+) of 30 removed: expected margin <strong>', dom)
    assert int(taken[1]) == 2 and dom.count('figure class="helpful gone"') == 2
    assert "Predicted against true margin of all targets" in dom


def test_a_span_is_marked_in_its_text(opened, tmp_path):
    """In the list, at the top and among similar targets; letters are counted as people do, and no text is code."""
    texts = [f"{'a' * 30}\U0001f600 of {EVIL} here {i}" for i in range(5)]
    data = made.dataset(image_shape=None, texts_test=texts, spans_test=[(35, 35 + len(EVIL))] * 5)
    dom = opened(made.findings(tmp_path, data=data), "#target=2")
    marked = "\U0001f600 of <mark>&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;</mark> here"
    assert f'<p class="text">{"a" * 30}{marked} 2</p>' in dom and '<img src="x"' not in dom
    option = rf'role="option"[^>]*><span>… {"a" * 19}{re.escape(marked)} \d</span></button>'
    assert len(re.findall(option, dom)) == 5
    assert dom.count(f"{marked} ") > 6


@pytest.mark.parametrize("shape", [(2, 2), None], ids=["pictures", "table"])
def test_what_lime_says_beside_the_examples(opened, tmp_path, shape):
    found = made.findings(tmp_path, data=made.dataset(image_shape=shape))
    dom = opened(found, explained=made.explained(found, 2))
    assert "<h3>Target 2: " in dom and "By data: the examples that matter" in dom and 'figure class="helpful"' in dom
    assert f"By {'pixels' if shape else 'features'}: the parts that matter" in dom and "+2.000" in dom
    label = re.search(r'aria-label="LIME over the picture of [^"]*Strongest: row 2, column 2: \+2\.000', dom)
    assert bool(label) == (shape is not None) and dom.count('<rect class="adds"') == (3 if shape else 0)


def test_long_names_of_features_stay_in_their_column(opened, tmp_path):
    """Tables lie side by side in pairs, clusters and components; none reaches past its card."""
    script = """
      const over = [...document.querySelectorAll("figure table")].filter((table) =>
        table.getBoundingClientRect().right > table.closest("figure").getBoundingClientRect().right + 1);
      document.title = `${over.length} of ${document.querySelectorAll(".couple table").length} are too wide`;
    """
    names = tuple(f"standardised concentration of substance {i}" for i in range(4))
    found = made.findings(tmp_path, data=made.dataset(image_shape=None, feature_names=names))
    title = re.search(r"<title>(\d+) of (\d+) are too wide", opened(found, script=script))
    assert title[1] == "0" and int(title[2]) > 0


def test_long_words_stay_in_the_list_of_targets(opened, tmp_path):
    script = """
      const list = document.getElementById("targets");
      document.title = `${list.scrollWidth - list.clientWidth} too wide, ${list.children.length} targets`;
    """
    texts = [f"scipy.interpolate.{'InterpolatedUnivariateSpline' * 2} {i}" for i in range(5)]
    found = made.findings(tmp_path, data=made.dataset(image_shape=None, texts_test=texts))
    assert "<title>0 too wide, 5 targets" in opened(found, script=script)


def test_by_the_keyboard(opened, tmp_path):
    """An arrow key moves to the next target, and the slider takes examples out."""
    script = """
      document.getElementById("order").value = "by number";
      document.getElementById("order").dispatchEvent(new Event("change"));
      explorer.pick(explorer.byId.get(0));
      document.getElementById("targets").dispatchEvent(new KeyboardEvent("keydown", { key: "End" }));
      document.getElementById("targets").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
    """
    found = made.findings(tmp_path)
    dom = opened(found, script=script)
    last = found.run.n - 1
    assert f"<h3>Target {last - 1}: " in dom
    assert re.search(rf'id="option-{last - 1}"[^>]*tabindex="0"|tabindex="0"[^>]*id="option-{last - 1}"', dom)


@pytest.mark.parametrize("data", [made.dataset(image_shape=None), None], ids=["table", "numbers"])
def test_what_has_no_pictures(opened, tmp_path, data):
    found = made.findings(tmp_path, data=data, trainer={"class": "a:B", "options": {"output": "prediction"}})
    dom = opened(found)
    assert "Examples that raise it most" in dom and ('<th scope="row">x3</th>' in dom) == (data is not None)


def test_a_run_without_a_fit(opened, tmp_path):
    assert "No fit is finished yet" in opened(made.findings(tmp_path, fit=False))
