"""Write the findings of a run as one HTML page that needs no other file: the explorer's pages over a sample."""

from __future__ import annotations

import base64
import hashlib
import html as markup
import json
import re
from importlib import resources
from typing import Any

from datamodels.analyze.findings import Findings
from datamodels.baselines.compare import Document
from datamodels.explore import sample
from datamodels.explore.findings import Explained

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{run}</title>
<style>{style}</style>
</head>
<body>
<div id="app"></div>
<noscript><main>
<h1>{run}</h1>
<p>This browser runs no JavaScript, so the page has no pictures, lists or charts of the run. Open the file in one
that does, or ask in a terminal: <code>datamodels query top {run} TARGET</code> and
<code>datamodels review {run}</code>.</p>
{words}
</main></noscript>
<script type="application/json" id="sample">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def html(found: Findings, *, compared: list[Document] | None = None, explained: Explained | None = None) -> str:
    """Return the page as HTML.

    compared   results of other methods on the same run
    explained  explanations of some targets by LIME

    Texts of the run cannot become code: they are escaped in the data for the script, and the script makes text nodes of
    them. A content security policy forbids all other scripts and styles, and loading anything.
    """
    script, style = built("js"), built("css")
    data = sample.make(found, compared=compared, explained=explained)
    return PAGE.format(
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}",
        style=style,
        run=markup.escape(found.run.name),
        words=_words(data["findings"]),
        data=embedded(data),
        script=script,
    )


def _words(findings: dict[str, Any]) -> str:
    """Return the texts and figures of the findings as HTML without any script."""
    figures = [f"{value}: {what}" for value, what in findings["figures"]]
    quality = findings["quality"] or {"text": []}
    return "\n".join(f"<p>{markup.escape(text)}</p>" for text in [*findings["text"], *figures, *quality["text"]])


def built(kind: str) -> str:
    """Return the explorer's built script, "js", or its style sheet, "css", as they can stand in an element of HTML."""
    (file,) = (
        one
        for one in (resources.files("datamodels.explore") / "static" / "assets").iterdir()
        if one.name.endswith(f".{kind}")
    )
    # In a script, these are the same letters; a style sheet has neither.
    return re.sub(r"<(?=/script|!--|script)", r"\\x3c", file.read_text(encoding="utf-8"), flags=re.IGNORECASE)


def embedded(data: Any) -> str:
    """Write JSON that can stand in a script element: no text in it ends the element or begins a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
