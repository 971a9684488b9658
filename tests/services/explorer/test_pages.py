import hashlib
import re
from pathlib import Path

import pytest
from datamodels.services.explorer import service

ROOT = Path(__file__).parents[3]
WEB, STATIC = ROOT / "services" / "explorer" / "web", ROOT / "shared" / "datamodels" / "explore" / "static"


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


def test_pages_of_an_installation_that_is_made_of_links(served, tmp_path, monkeypatch):
    (tmp_path / "static").symlink_to(STATIC)
    (tmp_path / "secret.js").write_text("secret")
    monkeypatch.setattr(service, "WEB", tmp_path / "static")
    (script,) = (STATIC / "assets").glob("*.js")
    assert served.ask(f"/assets/{script.name}").body == script.read_bytes()
    assert served.ask("/assets/%2e%2e/%2e%2e/secret.js").status == 404


@pytest.mark.parametrize(
    "path", ["/assets/nothing.js", "/assets/../service.py", "/assets/%2e%2e/service.py", "/assets/"]
)
def test_nothing_but_built_files_is_served(served, path):
    assert served.ask(path).status == 404
