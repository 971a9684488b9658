"""The page in a browser, if one is installed: what the script draws, and what a person does with it."""

import re

import pytest

from datamodels.report import page
from tests.report import made
from tests.services.explorer import browser as browsers

pytestmark = pytest.mark.skipif(browsers.PATH is None, reason="there is no Chromium to open the page in")

EVIL = "</script><img src=x onerror=alert(2)>"
WIDTHS = (390, 1024, 1920)
CONTRAST = 3
"""Of marks in a chart with what is behind them (WCAG 1.4.11)."""
OVERLAPS = """(() => {
  const all = [...document.querySelectorAll(".couple, .couple figure, .couple table")];
  const box = (one) => one.getBoundingClientRect();
  const inside = (x, y) => y.right <= x.right + 1 && y.bottom <= x.bottom + 1;
  const before = (x, y) => x.right <= y.left + 1 || x.bottom <= y.top + 1;
  const apart = (x, y) => before(x, y) || before(y, x);
  const fits = (a, b) => b.contains(a) || (a.contains(b) ? inside : apart)(box(a), box(b));
  const bad = all.flatMap((one) => all.filter((other) => one !== other && !fits(one, other)));
  const root = document.documentElement;
  return [all.length, bad.length, root.scrollWidth - root.clientWidth];
})()"""
"""Number of boxes of pairs, how many overlap or stick out, and by how much the page is wider than the window."""
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
  for (const one of document.querySelectorAll(".cloud, .dot, circle.place, rect.mark, circle.mark")) {
    const style = getComputedStyle(one), back = numbers(getComputedStyle(one.closest(".panel")).backgroundColor);
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
"""Contrast of the marks of charts with the panel behind them, by class."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsers.opened(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the page of a run, at an address behind #, and returns the browser. Nothing may be on its console."""
    browser.look(1024, 900)

    def open_page(found, place="", **more):
        path = tmp_path / "page.html"
        path.write_text(page.html(found, **more), encoding="utf-8")
        browser.visit("about:blank", "true")
        browser.visit(f"{path.as_uri()}{place}", "document.title")
        return browser

    yield open_page
    assert not browser.errors


def text(browser, selector):
    """Return the text of the first element that a selector matches."""
    return browser.run(f"document.querySelector({selector!r})?.textContent ?? ''")


def dom(browser):
    return browser.run("document.documentElement.outerHTML")


def title(browser):
    """Return the number of the target that is shown."""
    return int(re.match(r"Target (\d+)", text(browser, "#target h3"))[1])


def test_a_target_by_its_address(opened, tmp_path):
    """Also: no script of a text runs, and none of the page's breaks."""
    found = made.findings(tmp_path, data=made.dataset(label_names=(EVIL,) * 4))
    there = opened(found, "#target=2&k=2")
    shown = dom(there)
    assert text(there, "#target h3").startswith(f"Target 2: {EVIL}") and '<img src="x"' not in shown
    assert len(re.findall(r'role="option"', shown)) == found.run.n
    assert text(there, "#expected").startswith("2 of 30 removed: expected margin ")
    assert shown.count('figure class="helpful gone"') == 2
    assert "Predicted against true margin of all targets" in shown


def test_a_span_is_marked_in_its_text(opened, tmp_path):
    """In the list, at the top and among similar targets; letters are counted as people do, and no text is code."""
    texts = [f"{'a' * 30}\U0001f600 of {EVIL} here {i}" for i in range(5)]
    data = made.dataset(image_shape=None, texts_test=texts, spans_test=[(35, 35 + len(EVIL))] * 5)
    shown = dom(opened(made.findings(tmp_path, data=data), "#target=2"))
    marked = "\U0001f600 of <mark>&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;</mark> here"
    assert f'<p class="text">{"a" * 30}{marked} 2</p>' in shown and '<img src="x"' not in shown
    option = rf'role="option"[^>]*><span>… {"a" * 19}{re.escape(marked)} \d</span></button>'
    assert len(re.findall(option, shown)) == 5
    assert shown.count(f"{marked} ") > 6


@pytest.mark.parametrize("shape", [(2, 2), None], ids=["pictures", "table"])
def test_what_lime_says_beside_the_examples(opened, tmp_path, shape):
    found = made.findings(tmp_path, data=made.dataset(image_shape=shape))
    there = opened(found, explained=made.explained(found, 2))
    shown = dom(there)
    assert title(there) == 2 and "By data: the examples that matter" in shown and 'figure class="helpful"' in shown
    assert f"By {'pixels' if shape else 'features'}: the parts that matter" in shown and "+2.000" in shown
    label = re.search(r'aria-label="LIME over the picture of [^"]*Strongest: row 2, column 2: \+2\.000', shown)
    assert bool(label) == (shape is not None) and shown.count('<rect class="adds"') == (3 if shape else 0)


def test_tables_lie_beside_each_other(opened, browser, tmp_path):
    """Pairs that may have leaked, with long names of features: none reaches into another, nor out of the window."""
    names = tuple(f"standardised concentration of substance {i}" for i in range(4))
    found = made.findings(tmp_path, data=made.dataset(image_shape=None, feature_names=names))
    opened(found)
    for width in WIDTHS:
        browser.look(width, 900)
        boxes, overlaps, beyond = browser.run(OVERLAPS)
        assert boxes > 20 and (overlaps, beyond) == (0, 0), width


def test_long_words_stay_in_the_list_of_targets(opened, tmp_path):
    texts = [f"scipy.interpolate.{'InterpolatedUnivariateSpline' * 2} {i}" for i in range(5)]
    found = made.findings(tmp_path, data=made.dataset(image_shape=None, texts_test=texts))
    size = "((list) => [list.scrollWidth - list.clientWidth, list.children.length])(document.getElementById('targets'))"
    assert opened(found).run(size) == [0, 5]


def test_by_the_keyboard(opened, tmp_path):
    """Keys move to other targets and move the slider, and the focus stays where it was."""
    found = made.findings(tmp_path)
    there = opened(found, "#target=0")
    focused = "document.activeElement.getAttribute('aria-label') || document.activeElement.id"
    there.run("const o = document.getElementById('order'); o.value = 'by number'; o.dispatchEvent(new Event('change'))")
    there.run("document.querySelector('[aria-selected=true]').focus()")
    last = found.run.n - 1
    for key, expected in (("End", last), ("ArrowLeft", last - 1)):
        there.press(key)
        assert title(there) == expected and there.run("document.activeElement.id") == f"option-{expected}"
    for name, ids in (("previous target", (last - 2, last - 3)), ("next target", (last - 2,))):
        there.run(f"""document.querySelector('[aria-label="{name}"]').focus()""")
        for expected in ids:
            there.press("Enter")
            assert (title(there), there.run(focused)) == (expected, name)
    there.run("document.querySelector('#target figure button').focus()")
    there.press("Enter")
    assert title(there) != last - 2 and there.run("document.activeElement.textContent").startswith("Target ")


def test_the_slider_is_in_the_address_and_outlives_another_width(opened, browser, tmp_path):
    opened(made.findings(tmp_path), "#target=2")
    browser.run("document.getElementById('removed').focus()")
    for _ in range(2):
        browser.press("ArrowRight")
    state = "[location.hash, document.getElementById('expected').textContent, document.activeElement.id]"
    before = browser.run(state)
    assert before[0] == "#target=2&k=2" and before[1].startswith("2 of 30 removed") and before[2] == "removed"
    browser.look(700, 900)
    browser.wait("document.querySelector('#target svg').viewBox.baseVal.width < 700")
    assert browser.run(state) == before


def test_search_by_number_and_by_part_of_a_label(opened, tmp_path):
    found = made.findings(tmp_path)
    there = opened(found)
    there.run("globalThis.field = document.getElementById('find')")
    asked = {"#3": [3], "3": [3], "target 3": [3], "#30": [], "nothing": [], "": list(range(found.run.n))}
    names = [found.run.target_name(target) for target in range(found.run.n)]
    for part in ("DOG", "<do", names[0].upper()):
        asked[part] = [target for target, name in enumerate(names) if part.lower() in name]
        assert asked[part]
    for words, shown in asked.items():
        there.run(f"field.value = {words!r}, field.dispatchEvent(new Event('input'))")
        ids = there.run(
            "[...document.querySelectorAll('#targets [role=option]')].map((one) => Number(one.id.slice(7)))"
        )
        assert sorted(ids) == shown
        assert text(there, "#picked").startswith(str(len(shown)) if shown else "no target has this")


@pytest.mark.parametrize("output", ["margin", "loss"])
def test_it_opens_on_a_target_that_is_predicted_well_and_right(opened, tmp_path, output):
    found = made.findings(tmp_path, trainer={"class": "a:B", "options": {"output": output}})
    targets = [found.fitted.targets[i] for i in range(found.run.n)]
    usable = [one for one in targets if one.nonzeros and (one.unseen.wrong is None or one.unseen.wrong.value <= 0.5)]
    sure = {one.number: one.unseen.score.low if one.unseen.score else -2 for one in usable}
    assert sure[title(opened(found))] == pytest.approx(max(sure.values()), rel=1e-3)


def test_marks_can_be_seen(opened, browser, tmp_path):
    opened(made.findings(tmp_path))
    for scheme in ("light", "dark"):
        browser.look(1024, 900, scheme)
        found = browser.run(FAINT)
        assert {"cloud", "dot", "mark"} <= set(found) and any(name.startswith("place") for name in found)
        assert not {name: value for name, value in found.items() if value < CONTRAST}, scheme


@pytest.mark.parametrize("shape", [(2, 2), None], ids=["pictures", "table"])
def test_nothing_is_cut_on_paper(opened, browser, tmp_path, shape):
    names = tuple(f"standardised concentration of substance {i}" for i in range(4))
    found = made.findings(tmp_path, data=made.dataset(image_shape=shape, feature_names=names))
    opened(found)
    browser.look(718, 1000, media="print")
    assert browser.run(CUT) == []
    assert browser.run("getComputedStyle(document.querySelector('figure')).breakInside") == "avoid"


def test_a_suspect_comes_with_a_label_instead(opened, tmp_path):
    found = made.findings(tmp_path)
    labels = [found.run.label_name(label) for label in found.fitted.suggested if label is not None]
    there = opened(found)
    shown = there.run("[...document.querySelectorAll('#suspects-body .rather')].map((one) => one.textContent)")
    assert labels and shown == [f"rather {label}?" for label in labels]


@pytest.mark.parametrize("data", [made.dataset(image_shape=None), None], ids=["table", "numbers"])
def test_what_has_no_pictures(opened, tmp_path, data):
    found = made.findings(tmp_path, data=data, trainer={"class": "a:B", "options": {"output": "prediction"}})
    shown = dom(opened(found))
    assert "Examples that raise it most" in shown and ('<th scope="row">x3</th>' in shown) == (data is not None)


def test_numbers_of_rows_come_with_their_unit(opened, tmp_path):
    """If there are none, the page says whether the numbers look as if they were standardised."""
    data = made.dataset(image_shape=None)
    plain = opened(made.findings(tmp_path / "plain", data=data))
    assert "standardised" not in text(plain, "#explorer-lead")
    x = (data.x - data.x.mean(axis=0)) / data.x.std(axis=0)
    standard = opened(made.findings(tmp_path / "standard", data=made.dataset(image_shape=None, x=x)))
    assert "seem to be standardised" in text(standard, "#explorer-lead")
    units = made.dataset(image_shape=None, x=x, feature_units=("mm",) * 4)
    named = opened(made.findings(tmp_path / "units", data=units))
    assert "standardised" not in text(named, "#explorer-lead") and text(named, "#target td").endswith(" mm")


def test_a_run_without_a_fit(opened, tmp_path):
    assert "No fit is finished yet" in dom(opened(made.findings(tmp_path, fit=False)))
