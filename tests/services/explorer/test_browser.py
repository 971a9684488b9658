"""Every page in a real browser: at three widths, light and dark, by keyboard, and for those who see little."""

import base64
import dataclasses
import html
import json
import os
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from datamodels.aggregate import manifest
from datamodels.aggregate.manifest import Snapshot
from datamodels.analyze.findings import gather
from datamodels.display import stored
from datamodels.settings import ExplorerSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import committed, fitted
from tests.report import made
from tests.services.explorer import browser
from tests.services.explorer.conftest import MARKUP, TOKEN, serving

AXE = Path(__file__).parents[3] / "services" / "explorer" / "web" / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = os.environ.get("DATAMODELS_TEST_PICTURES")
"""A folder for a screenshot of every page, to look at; none are taken without it."""
SIZES = ((390, 844), (1280, 800), (3840, 2160))
CHECKED = ((390, "light"), (1280, "dark"))
"""Looks that axe checks: it takes far longer than all else, and so need not see each size in each scheme."""
MAPPED = "document.querySelector('.legend li') && document.querySelector('canvas').width > 300"
PAGES = {
    "/": "document.querySelector('main table a')",
    "/runs/RUN": "document.querySelector('progress')",
    "/runs/RUN/findings": "document.querySelector('svg .cloud')",
    "/runs/RUN/targets?sort=-strongest": "document.querySelector('.all .line a')",
    "/runs/RUN/columns?sort=-targets": "document.querySelector('.all .line a')",
    "/runs/RUN/targets?search=nobody": "document.body.innerText.includes('No row')",
    "/runs/RUN/targets/0?remove=1&relabel=2": "document.body.innerText.includes('is expected in')",
    "/runs/RUN/targets/0?k=2": "document.querySelector('svg .dot') && document.querySelector('.cards.small')",
    "/runs/RUN/columns/2": "document.body.innerText.includes('it lowers most')",
    "/runs/RUN/review?at=label-": "document.querySelector('.suspects li')",
    "/runs/RUN/clusters": "document.body.innerText.includes('Fit 0')",
    "/runs/RUN/components?k=2": "document.body.innerText.includes('Component 2')",
    "/runs/RUN/map?by=predicted": MAPPED,
    "/runs/RUN/map?of=columns&by=cluster&lasso=-9,-9,-9,9,9,9,9,-9": f"{MAPPED} && document.querySelector('.card')",
    "/compare": "document.querySelector('datalist option')",
    "/compare?one=RUN&other=RUN@0": "document.body.innerText.includes('agree least')",
    "/nothing": "document.body.innerText.includes('No such page')",
}

pytestmark = pytest.mark.skipif(browser.PATH is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def page(served, tmp_path_factory):
    with browser.opened(tmp_path_factory.mktemp("profile")) as found:
        found.visit(f"http://127.0.0.1:{served.port}/?token={TOKEN}", PAGES["/"])
        yield found


def address(served, path):
    return f"http://127.0.0.1:{served.port}{path.replace('RUN', served.run.name)}"


@pytest.mark.parametrize("path", PAGES)
def test_every_page_fits_and_is_accessible(served, page, path):
    for width, height in SIZES:
        page.look(width, height)
        page.visit(address(served, path), PAGES[path])
        for scheme in ("light", "dark"):
            page.look(width, height, scheme)
            if PICTURES:
                name = (
                    f"{path.strip('/').replace('/', '-').partition('?')[0] or 'runs'}-{len(path)}-{width}-{scheme}.png"
                )
                (Path(PICTURES) / name).write_bytes(base64.b64decode(page.picture()))
            assert page.errors == []
            assert {url.split("/")[2] for url in page.requests} == {f"127.0.0.1:{served.port}"}, page.requests
            wide = page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide == 0, f"{path} is {wide} pixels too wide at {width}"
            assert page.run("getComputedStyle(document.body).backgroundColor") == (
                "rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 24, 29)"
            )
            if AXE.exists() and (width, scheme) in CHECKED:
                assert violations(page) == []
    if not AXE.exists():
        pytest.skip("axe-core is not here: `npm ci` in services/explorer/web installs it; all else was checked")


@pytest.mark.parametrize("looks", ["rows", "texts"])
def test_rows_and_texts_fit_in_a_narrow_window(page, tmp_path, looks):
    long = "concentrationOfSubstance" * 3
    names = {"feature_names": tuple(f"{long} {i}" for i in range(4))}
    texts = {"texts": [long] * 30, "texts_test": [f"{long} {i}" for i in range(5)]}
    data = made.dataset(image_shape=None, **(names if looks == "rows" else texts))
    found, store = made.findings(tmp_path, data=data), LocalStore(tmp_path)
    stored.write(store, found.run, data)
    with serving(store, ExplorerSettings(token=TOKEN)) as port:
        page.look(390, 844, "dark")
        start = f"http://127.0.0.1:{port}/runs/{found.run.name}"
        for part, until in (("targets/0", ".card"), ("review", ".suspects li"), ("columns", ".all .line a")):
            page.visit(f"{start}/{part}?token={TOKEN}", f"document.querySelector('{until}')")
            assert page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0, part
            assert page.errors == [] and (not AXE.exists() or violations(page) == []), part
        page.visit("about:blank#", "true")  # so that no stream of events keeps the server


def test_a_run_is_watched_until_it_is_measured(page, tmp_path):
    made.findings(tmp_path, name="other")
    store, run = LocalStore(tmp_path), made.findings(tmp_path, stop=100).run
    shows = "document.body.innerText.includes"
    with serving(store, ExplorerSettings(token=TOKEN, price=2.0)) as port:
        page.look(1280, 800, "light")
        page.visit(f"http://127.0.0.1:{port}/?token={TOKEN}", f"{shows}('100 of 218')")
        for i, name in enumerate(("other", "small")):
            page.run(f"document.querySelectorAll('main input')[{i}].click()")
            page.wait(f"location.search.includes('pick={name}')")
        page.wait("document.querySelector('main a[href^=\"/compare?one=other\"]')")
        page.visit(f"http://127.0.0.1:{port}/runs/{run.name}", f"{shows}('No model has arrived')")
        parts = [dataclasses.replace(part, seconds=36.0) for part in committed.commit(store, run).parts]
        version = manifest.read_newest(store, run.name).version
        assert manifest.create(store, Snapshot(run.name, version, ()).followed(parts))
        page.wait(f"{shows}('218 of 218 models') && {shows}('is not there yet')")
        assert page.run(f"{shows}('worked 13 minutes') && {shows}('Cost: 0.44.')")
        fitted.commit_fit(store, run, made.weights(run), digest="d1", rows=200)
        assert gather(store, run, None).evaluation.lds == pytest.approx(0.635, abs=5e-4)
        page.wait(f"!{shows}('is not there yet') && {shows}('0.635') && {shows}('not measured')")
        assert page.errors == []
        page.visit("about:blank#", "true")  # so that no stream of events keeps the server


def violations(page):
    page.run(AXE.read_text() + ";0")
    return page.run(
        """axe.run({ resultTypes: ["violations"] }).then((found) => found.violations.map(
             (one) => [one.id, one.nodes.map((node) => [node.html.slice(0, 150), node.failureSummary])]))"""
    )


def test_markup_in_titles_is_shown_as_text(served, page):
    page.look(1280, 800)
    there = ("Target 0", "Most helpful training examples", MARKUP, "<dog>")
    shown = " && ".join(f"document.body.innerText.includes({json.dumps(one)})" for one in there)
    page.visit(address(served, "/runs/RUN/targets/0"), shown)
    found = page.run("document.documentElement.outerHTML")
    assert html.escape(MARKUP, quote=False) in found and MARKUP not in found
    assert "&lt;dog&gt;" in found and "data:" not in found


def test_the_review_by_keyboard_alone(served, page):
    page.look(1280, 800, "light")
    page.visit(address(served, "/runs/RUN/review"), "document.querySelectorAll('.suspects li').length > 2")
    focused = "document.activeElement.closest('[data-name]')?.dataset.name"
    names = page.run("[...document.querySelectorAll('[data-name]')].map((one) => one.dataset.name)")
    page.press("j")
    assert page.run(focused) == names[0]
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("j")
    page.press("k")
    assert page.run(focused) == names[0] and f"at={names[0]}" in page.run("location.search")
    page.press("n")
    for key in "1k w":
        page.press(key)
    assert page.run("document.activeElement.value") == "1k w"
    page.press("Escape")
    page.press("f")
    page.wait(f"{focused} === {names[1]!r}")
    page.press("w")
    page.wait(f"{focused} === {names[2]!r}")
    stored = {f"{one['kind']}-{one['index']}-{one['other']}": one for one in served.get("/verdicts")["verdicts"]}
    assert (stored[names[0]]["verdict"], stored[names[0]]["note"]) == ("fix", "1k w")
    assert stored[names[1]]["verdict"] == "wrong"
    for _ in range(2):
        page.press("k")
        page.press("u")
        page.wait(f"!document.querySelector(`[data-name='${{{focused}}}']`).classList.contains('done')")
    assert not set(names[:2]) & {
        f"{one['kind']}-{one['index']}-{one['other']}" for one in served.get("/verdicts")["verdicts"]
    }


def test_what_if_by_ticks_and_by_numbers(served, page):
    page.visit(address(served, "/runs/RUN/targets/0"), "document.querySelector('.card input')")
    page.run("document.querySelector('.card input').focus()")
    page.press(" ")
    page.wait("document.body.innerText.includes('is expected in') && location.search.startsWith('?remove=')")
    page.run("document.querySelector('input[name=numbers]').focus()")
    for key in ["7", ",", "8", "Enter"]:
        page.press(key)
    page.wait("location.search.includes('%2C7%2C8')")


def test_a_prediction_is_verified_beside_it(served, page, tmp_path):
    """The command is a small one that says what trained models would."""
    measured = {"models": 4, "mean": 1.5, "interval": [1.0, 2.0], "flipped": 1, "share": 0.25, "share_interval": [0, 1]}
    row = {"verified_before": measured, "verified": measured | {"mean": 0.25, "flipped": 3}}
    script = tmp_path / "command.py"
    script.write_text(f"import sys; assert '--remove=1' in sys.argv; print({json.dumps(row)!r})")
    verify = shlex.join([sys.executable, str(script)])
    page.visit(address(served, "/runs/RUN/targets/0?remove=1"), "document.querySelector('.command')")
    assert "trains nothing" in page.run("document.body.innerText") and not page.run(
        "document.querySelector('.whatif table')"
    )
    with serving(served.store, ExplorerSettings(token=TOKEN, verify=verify)) as port:
        start = f"http://127.0.0.1:{port}/runs/{served.run.name}/targets/0"
        page.visit(f"{start}?remove=1&token={TOKEN}", "document.querySelector('.command')")
        page.run("document.querySelector('.whatif input[name=models]').focus()")
        page.press("Enter")
        page.wait("document.querySelector('.whatif table')")
        assert "3 of 4 are wrong" in page.run("document.querySelector('.whatif table').innerText")
        assert "\u22121.250" in page.run("document.querySelector('.whatif table').innerText")
        page.visit(page.run("location.href"), "document.querySelector('.whatif table')")  # every state is a link
        assert page.errors == [] and (not AXE.exists() or violations(page) == [])
        page.visit(f"{start}?relabel=1", "document.body.innerText.includes('choose one')")
        assert not page.run("document.querySelector('.command')"), "first the label"
        page.visit("about:blank#", "true")  # so that no stream of events keeps the server


def test_the_map_by_pointer_and_by_keyboard(served, page):
    page.look(1280, 800, "light")
    page.visit(address(served, "/runs/RUN/map"), "document.querySelector('.legend button')")
    page.wait("document.querySelector('canvas').width > 300")
    page.run("box = document.querySelector('canvas').getBoundingClientRect()")
    left, top, right, bottom = (page.run(f"box.{side}") for side in ("left", "top", "right", "bottom"))
    page.drag((left + 9, top + 9), (left + 9, bottom - 9), (right - 9, bottom - 9), (right - 9, top + 9))
    page.wait("document.querySelector('main section h2')?.innerText === '5 of 5 targets inside'")
    assert page.run("new URLSearchParams(location.search).get('lasso').split(',').length") == 8
    page.run("document.querySelector('.legend button').click()")
    page.wait("document.querySelector('main section h2').innerText === '2 of 5 targets inside'")
    page.run("document.querySelector('.legend button').click()")
    page.run("document.querySelector('canvas').focus()")
    page.press("Escape")
    page.wait("!location.search.includes('lasso')")
    # A lasso with three corners around the middle of the map, as a key sets them.
    for key in ["ArrowUp", *["ArrowLeft"] * 3, " ", *["ArrowDown"] * 3, " ", *["ArrowRight"] * 6, " ", "Enter"]:
        page.press(key)
    page.wait("new URLSearchParams(location.search).get('lasso')?.split(',').length === 6")
    page.wait("/of 5 targets inside/.test(document.querySelector('main section h2')?.innerText)")
    # A point is opened by its own place.
    x, y = (np.array(served.get("/analyses/map")["result"][name]) for name in ("x", "y"))
    across, down = ((0.04 + (of.max() - of if of is y else of - of.min())[2] / np.ptp(of)) / 1.08 for of in (x, y))
    page.drag((left + across * (right - left), top + down * (bottom - top)))
    page.wait("location.pathname.endsWith('/targets/2')")


def test_a_problem_is_told_in_the_words_of_the_server(served, page):
    page.visit(address(served, "/runs/RUN/targets/99"), "document.querySelector('[role=alert]')")
    assert "must be 0 to 4" in page.run("document.querySelector('[role=alert]').innerText")
    assert page.run("document.querySelector('main p a').pathname") == "/", "there is a way on"
    page.visit(address(served, "/runs/RUN/targets?where=evil%3D1"), "document.querySelector('[role=alert]')")
    assert "has no field 'evil'" in page.run("document.querySelector('[role=alert]').innerText")
