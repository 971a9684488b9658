"""The file in a browser, if one is installed: what a person does with it. The explorer's tests look at each page."""

import re

import pytest

from datamodels.report import page
from tests.baselines.test_compare import ROWS
from tests.report import made
from tests.services.explorer import browser as browsers

pytestmark = pytest.mark.skipif(browsers.PATH is None, reason="there is no Chromium to open the page in")

EVIL = "</script><img src=x onerror=alert(2)>"
WIDTHS = (390, 1024, 1920)
CONTRAST = 3
"""Of marks in a chart with what is behind them (WCAG 1.4.11)."""
CUT = """[...document.querySelectorAll("main *:not(svg *)")].filter((one) => one.getClientRects().length).filter(
  (one) => one.getBoundingClientRect().right > window.innerWidth + 1 || one.matches(":not(svg)") &&
    [["X", "Width"], ["Y", "Height"]].some(([axis, size]) => getComputedStyle(one)["overflow" + axis] !== "visible"
      && one["scroll" + size] > one["client" + size] + 1)
).map((one) => one.outerHTML.slice(0, 120))"""
"""Elements that reach beyond the paper, or hide a part of what is in them."""
FAINT = """(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c / 255 <= .03928 ? c / 255 / 12.92 : ((c / 255 + .055) / 1.055) ** 2.4);
  const light = (colour) => colour.reduce((sum, c, i) => sum + linear(c) * [.2126, .7152, .0722][i], 0);
  const found = {};
  for (const one of document.querySelectorAll("svg :is(.cloud, .dot, .place, .mark)")) {
    const style = getComputedStyle(one), back = numbers(getComputedStyle(document.body).backgroundColor);
    const contrasts = ["fill", "stroke"].filter((part) => style[part] !== "none").map((part) => {
      const a = Number(style[part + "Opacity"]);
      const front = numbers(style[part]).slice(0, 3).map((c, i) => a * c + (1 - a) * back[i]);
      const [low, high] = [light(front), light(back)].sort((x, y) => x - y);
      return (high + .05) / (low + .05);
    });
    found[one.getAttribute("class")] = Math.max(...contrasts);
  }
  return found;
})()"""
"""Contrast of the marks of charts with the page, by class."""


OVERLAPS = """(() => {
  const all = [...document.querySelectorAll(".suspects li, .suspects li a, .suspects li table")];
  const box = (one) => one.getBoundingClientRect();
  const inside = (x, y) => y.right <= x.right + 1 && y.bottom <= x.bottom + 1;
  const before = (x, y) => x.right <= y.left + 1 || x.bottom <= y.top + 1;
  const apart = (x, y) => before(x, y) || before(y, x);
  const fits = (a, b) => b.contains(a) || (a.contains(b) ? inside : apart)(box(a), box(b));
  const bad = all.flatMap((one) => all.filter((other) => one !== other && !fits(one, other)));
  const root = document.documentElement;
  return [all.length, bad.length, root.scrollWidth - root.clientWidth];
})()"""
"""Number of boxes of suspects, how many overlap or stick out, and by how much the page is wider than the window."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsers.opened(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the page of a run, at a path of the run, and returns the browser. Nothing may be on its console."""
    browser.look(1024, 900)

    def open_page(found, place="/findings", until="document.querySelector('main section, main a')", **more):
        path = tmp_path / "page.html"
        path.write_text(page.html(found, **more), encoding="utf-8")
        browser.visit("about:blank", "true")
        browser.visit(f"{path.as_uri()}#/runs/{found.run.name}{place}", until)
        return browser

    yield open_page
    assert not browser.errors
    assert all(url.startswith(("file:", "data:", "about:")) for url in browser.requests)


LOADED = "document.querySelector('#expected') && document.querySelector('.cards.small')"
"""Whether all of a target is shown."""


def text(browser, selector):
    """Return the text of the first element that a selector matches."""
    return browser.run(f"document.querySelector({selector!r})?.textContent ?? ''")


def dom(browser):
    return browser.run("document.documentElement.outerHTML")


def title(browser):
    """Return the number of the target that is shown."""
    return int(re.match(r"Target (\d+)", text(browser, "h1"))[1])


def test_it_opens_on_its_findings_and_leads_to_every_page(opened, browser, tmp_path):
    found = made.findings(tmp_path)
    there = opened(found, "")
    browser.visit("about:blank", "true")
    browser.visit((tmp_path / "page.html").as_uri(), "document.querySelector('.first a')")
    assert found.run.name in dom(there) and f"{found.evaluation.lds:.3f}" in text(there, ".figures")
    for name in ("quality", "fragility", "seconds", "spec"):
        assert text(there, f"#{name} h2")
    first = text(there, ".first a")
    assert "models get it right" in text(there, ".first")
    browser.run("document.querySelector('.first a').focus()")
    browser.press("Enter")
    browser.wait(LOADED)
    assert text(there, "h1") == f"Target {first}" == browser.run("document.activeElement.textContent")
    for place, until in {
        "": "document.querySelector('.ways')",
        "/columns": "document.querySelector('.all .line a')",
        "/clusters": "document.body.innerText.includes('Fit 0')",
        "/components": "document.querySelector('.cards img')",
        "/map": "document.querySelector('.legend li')",
        "/map?by=cluster": "document.querySelector('.legend li')",
        f"/columns/{found.fitted.targets[2].helpful[0][0]}": "document.body.innerText.includes('it lowers most')",
    }.items():
        browser.run(f"location.hash = '#/runs/{found.run.name}{place}'")
        browser.wait(f"{until} && !document.querySelector('[role=alert]')")
    browser.run(f"location.hash = '#/runs/{found.run.name}/map?of=columns'")
    browser.wait("document.querySelector('[role=alert]')?.innerText.includes('datamodels explore')")


def test_a_target_by_its_address(opened, tmp_path):
    """Also: no script of a text runs, and none of the page's breaks."""
    found = made.findings(tmp_path, data=made.dataset(label_names=(EVIL,) * 4))
    there = opened(found, "/targets/2?k=2", LOADED)
    shown = dom(there)
    assert title(there) == 2 and EVIL in text(there, ".pair") and '<img src="x"' not in shown
    assert text(there, "#expected").startswith("2 of 30 removed: expected margin ")
    assert shown.count('class="card gone"') == 2
    assert "Predicted against true" in shown and "Targets that depend on the same examples" in shown
    prior = re.search(r"prior (\S+?)#", text(there, ".cards"))
    assert float(prior[1]) == pytest.approx(0.75 * found.fitted.targets[2].helpful[0][1], rel=1e-3)


def test_a_span_is_marked_in_its_text(opened, tmp_path):
    """At the top and among similar targets; letters are counted as people do, and no text is code."""
    texts = [f"{'a' * 30}\U0001f600 of {EVIL} here {i}" for i in range(5)]
    data = made.dataset(image_shape=None, texts_test=texts, spans_test=[(35, 35 + len(EVIL))] * 5)
    shown = dom(opened(made.findings(tmp_path, data=data), "/targets/2", LOADED))
    marked = "\U0001f600 of <mark>&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;</mark> here"
    assert f'<p class="words large">{"a" * 30}{marked} 2</p>' in shown and '<img src="x"' not in shown
    assert shown.count(f"{marked} ") > 2


@pytest.mark.parametrize("shape", [(2, 2), None], ids=["pictures", "table"])
def test_what_lime_says_beside_the_examples(opened, tmp_path, shape):
    found = made.findings(tmp_path, data=made.dataset(image_shape=shape))
    there = opened(found, "/findings", "document.querySelector('.first')", explained=made.explained(found, 2))
    assert "LIME explains 2" in text(there, "main")
    there.run(f"location.hash = '#/runs/{found.run.name}/targets/2'")
    there.wait(LOADED)
    shown = dom(there)
    assert f"By {'pixels' if shape else 'features'}: the parts that matter" in shown and "+2.000" in shown
    label = re.search(r'aria-label="LIME over the picture of [^"]*Strongest: row 2, column 2: \+2\.000', shown)
    assert bool(label) == (shape is not None) and shown.count('<rect class="adds"') == (3 if shape else 0)


def test_tables_lie_beside_each_other(opened, browser, tmp_path):
    """Pairs that may have leaked, with long names of features: none reaches into another, nor out of the window."""
    names = tuple(f"standardised concentration of substance {i}" for i in range(4))
    found = made.findings(tmp_path, data=made.dataset(image_shape=None, feature_names=names))
    opened(found, "/review", "document.querySelector('.suspects table')")
    for width in WIDTHS:
        browser.look(width, 900)
        boxes, overlaps, beyond = browser.run(OVERLAPS)
        assert boxes > 20 and (overlaps, beyond) == (0, 0), width


def test_by_the_keyboard(opened, tmp_path):
    """Links to other targets keep the focus; any other puts it on the title of its page."""
    found = made.findings(tmp_path)
    there = opened(found, "/targets/1", "document.querySelectorAll('.steps a').length === 2")
    for name, expected in (("next target", (2, 3)), ("previous target", (2,))):
        there.run(f"""document.querySelector('[aria-label="{name}"]').focus()""")
        for number in expected:
            there.wait(f"document.activeElement.hash.endsWith('/targets/{number}')")
            there.press("Enter")
            there.wait(f"document.querySelector('h1').innerText === 'Target {number}'")
            assert there.run("document.activeElement.getAttribute('aria-label')") == name
    there.wait("document.querySelector('.cards.small a')")
    there.run("document.querySelector('.cards.small a').focus()")
    there.press("Enter")
    there.wait("document.querySelector('h1').innerText !== 'Target 2'")
    assert there.run("document.activeElement.textContent").startswith("Target ")


def test_the_slider_is_in_the_address_and_outlives_another_width(opened, browser, tmp_path):
    opened(made.findings(tmp_path), "/targets/2", LOADED)
    browser.run("document.getElementById('removed').focus()")
    for _ in range(2):
        browser.press("ArrowRight")
    state = "[location.hash.split('?')[1], document.getElementById('expected').textContent, document.activeElement.id]"
    browser.wait("document.getElementById('expected').textContent.startsWith('2 of 30 removed')")
    before = browser.run(state)
    assert before[0] == "k=2" and before[2] == "removed"
    browser.look(700, 900)
    browser.wait("document.querySelector('.chart svg').viewBox.baseVal.width < 700")
    assert browser.run(state) == before


def test_search_by_number_and_by_part_of_a_label(opened, tmp_path):
    found = made.findings(tmp_path)
    there = opened(found, "/targets", "document.querySelector('.all .line a')")
    there.run("globalThis.field = document.querySelector('input[type=search]')")
    asked = {"#3": [3], "3": [3], "target 3": [3], "#30": [], "nothing": [], "": list(range(found.run.n))}
    names = [found.run.target_name(target) for target in range(found.run.n)]
    for part in ("DOG", "<do", names[0].upper()):
        asked[part] = [target for target, name in enumerate(names) if part.lower() in name]
        assert asked[part]
    rows = "[...document.querySelectorAll('.all .line a')].map((one) => Number(one.innerText.slice(1)))"
    for words, shown in asked.items():
        there.run(f"field.value = {words!r}, field.dispatchEvent(new Event('input', {{bubbles: true}}))")
        there.wait(f"JSON.stringify({rows}.sort()) === '{str(shown).replace(' ', '')}'")
    there.run(f"location.hash = '#/runs/{found.run.name}/targets?sort=-strongest&where=nonzeros%3E0'")
    strongest = [abs(found.fitted.solution.row(i)[1]).max(initial=0) for i in range(found.run.n)]
    order = [i for i in sorted(range(found.run.n), key=lambda i: -strongest[i]) if strongest[i]]
    there.wait(f"JSON.stringify({rows}) === '{str(order).replace(' ', '')}'")


def test_marks_can_be_seen(opened, browser, tmp_path):
    found = made.findings(tmp_path)
    opened(found, "/findings", "document.querySelector('svg .cloud')", compared=ROWS)
    for place, until, marks in (
        ("/findings", "document.querySelector('svg .cloud')", {"cloud", "mark", "place"}),
        ("/targets/2", "document.querySelector('svg .dot')", {"dot"}),
    ):
        browser.run(f"location.hash = '#/runs/{found.run.name}{place}'")
        browser.wait(until)
        for scheme in ("light", "dark"):
            browser.look(1024, 900, scheme)
            shown = browser.run(FAINT)
            assert marks <= set(shown) and not {k: v for k, v in shown.items() if v < CONTRAST}, scheme


def test_a_baseline_that_wins_is_shown_winning(opened, browser, tmp_path):
    below = {"value": -0.004, "interval": [-0.12, 0.1]}
    rows = [*ROWS, ROWS[1] | {"method": "random", "figures": ROWS[1]["figures"] | {"lds": below}}]
    there = opened(made.findings(tmp_path), "/findings", "document.querySelector('#baselines circle')", compared=rows)
    shown = text(there, "#baselines")
    assert "<trac in>" in shown and "0.70* 0.60 to 0.80" in shown and "0.60 0.50 to 0.70" in shown
    assert "0.00 \u22120.12 to 0.10" in shown
    assert "80 removed" in shown and browser.run("document.querySelectorAll('#baselines circle').length") == 6


@pytest.mark.parametrize("shape", [(2, 2), None], ids=["pictures", "table"])
def test_nothing_is_cut_on_paper(opened, browser, tmp_path, shape):
    names = tuple(f"standardised concentration of substance {i}" for i in range(4))
    found = made.findings(tmp_path, data=made.dataset(image_shape=shape, feature_names=names))
    there = opened(found, "/findings", "document.querySelector('svg .cloud')", compared=ROWS)
    browser.look(718, 1000, media="print")
    for place, until in (
        ("/findings", "document.querySelector('svg .cloud')"),
        ("/targets/2", LOADED),
        ("/review", "document.querySelector('.suspects li')"),
    ):
        browser.run(f"location.hash = '#/runs/{found.run.name}{place}'")
        browser.wait(until)
        assert browser.run(CUT) == [], place
    assert there.run("getComputedStyle(document.querySelector('.suspects li')).breakInside") == "avoid"
    browser.run(f"location.hash = '#/runs/{found.run.name}/targets'")
    browser.wait("document.querySelector('.all .line')")
    browser.run("document.querySelector('.all').style.height = '100000px'")  # as of a list with many rows out of view
    assert browser.run("document.documentElement.scrollHeight") <= 1000, "no empty pages"


def test_a_suspect_comes_with_a_label_instead(opened, tmp_path):
    found = made.findings(tmp_path)
    labels = [found.run.label_name(label) for label in found.fitted.suggested if label is not None]
    there = opened(found, "/review", "document.querySelector('.suspects li')")
    shown = there.run("[...document.querySelectorAll('.rather')].map((one) => one.textContent)")
    assert labels and shown == [f"rather {label}?" for label in labels]
    assert not there.run("document.querySelector('button')"), "a file stores no verdicts"


@pytest.mark.parametrize("data", [made.dataset(image_shape=None), None], ids=["table", "numbers"])
def test_what_has_no_pictures(opened, tmp_path, data):
    found = made.findings(tmp_path, data=data, trainer={"class": "a:B", "options": {"output": "prediction"}})
    there = opened(found, "/targets/2", LOADED)
    shown = dom(there)
    assert "Most raising training examples" in shown and ('<th scope="row">x3</th>' in shown) == (data is not None)
    there.run(f"location.hash = '#/runs/{found.run.name}/findings'")
    there.wait("document.querySelector('.first a')")
    assert "best predicted" in text(there, ".first") and "right" not in text(there, ".first"), "nothing is wrong"


def test_numbers_of_rows_come_with_their_unit(opened, tmp_path):
    """If there are none, the page says whether the numbers look as if they were standardised."""
    data = made.dataset(image_shape=None)
    plain = opened(made.findings(tmp_path / "plain", data=data), "/targets/2", LOADED)
    assert "standardised" not in text(plain, ".pair")
    x = (data.x - data.x.mean(axis=0)) / data.x.std(axis=0)
    standard = opened(
        made.findings(tmp_path / "standard", data=made.dataset(image_shape=None, x=x)), "/targets/2", LOADED
    )
    assert "seem to be standardised" in text(standard, ".pair")
    units = made.dataset(image_shape=None, x=x, feature_units=("mm",) * 4)
    named = opened(made.findings(tmp_path / "units", data=units), "/targets/2", LOADED)
    assert "standardised" not in text(named, ".pair") and text(named, ".row td").endswith(" mm")


def test_a_run_without_a_fit(opened, tmp_path):
    assert "No fit is finished yet" in dom(opened(made.findings(tmp_path, fit=False)))
