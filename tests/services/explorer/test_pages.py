import hashlib
import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.services.explorer.conftest import MARKUP, TOKEN
from tests.waiting import LIMIT

ROOT = Path(__file__).parents[3]
WEB, STATIC = ROOT / "services" / "explorer" / "web", ROOT / "shared" / "datamodels" / "explore" / "static"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_the_built_pages_are_of_these_sources():
    """`npm run build` in services/explorer/web writes the digest: see digest.mjs."""
    files = ["index.html", "package.json", "tsconfig.json", "vite.config.js"]
    files += [f"src/{path.name}" for path in (WEB / "src").iterdir()]
    digest = hashlib.sha256(b"".join(f"{file}\n".encode() + (WEB / file).read_bytes() for file in sorted(files)))
    assert (STATIC / "sources.sha256").read_text().strip() == digest.hexdigest(), (
        "run `make web` and commit what it builds"
    )


def test_every_address_is_a_page_that_has_nothing_inline(served):
    first = served.ask("/")
    assert first.headers["content-type"] == "text/html; charset=utf-8" and first.headers["cache-control"] == "no-store"
    assert served.ask(f"/runs/{served.run.name}/targets/3?remove=1").body == first.body
    page = first.body.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    for asset in re.findall(r'(?:src|href)="([^"]+)"', page):
        found = served.ask(asset)
        assert found.status == 200 and "immutable" in found.headers["cache-control"]
        hosts = set(re.findall(rb"https?://([\w.-]+)", found.body))
        assert hosts <= {b"www.w3.org"}, "names of namespaces are no requests"


@pytest.mark.parametrize(
    "path", ["/assets/nothing.js", "/assets/../service.py", "/assets/%2e%2e/service.py", "/assets/"]
)
def test_nothing_but_built_files_is_served(served, path):
    assert served.ask(path).status == 404


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_browser_shows_markup_in_titles_as_text(served, tmp_path):
    address = f"http://127.0.0.1:{served.port}/runs/{served.run.name}/targets/0?token={TOKEN}"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--timeout=60000"]
    command = [BROWSER, *options, "--virtual-time-budget=20000", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
    assert "Target 0" in done.stdout and "Most helpful training examples" in done.stdout
    assert f"{html.escape(MARKUP, quote=False)}" in done.stdout and MARKUP not in done.stdout
    assert "&lt;dog&gt;" in done.stdout and "data:" not in done.stdout
