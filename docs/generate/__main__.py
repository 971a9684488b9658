"""`python -m docs.generate` writes docs/reference, and deletes pages that are no longer written."""

from __future__ import annotations

from docs.generate import FOLDER, pages

FOLDER.mkdir(exist_ok=True)
written = pages()
for old in FOLDER.iterdir():
    if old.name not in written:
        old.unlink()
for name, text in written.items():
    (FOLDER / name).write_text(text, encoding="utf-8")
