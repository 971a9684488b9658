"""Render the findings of a run as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html as markup
import json
import string
from collections.abc import Iterator
from importlib import resources
from typing import Any

from datamodels.analyze.findings import Findings
from datamodels.report import baselines, explorer, groups, sections, suspicions
from datamodels.report.explorer import Explained
from datamodels.run import documents

SCRIPTS = ("charts.js", "explorer.js", "suspicions.js", "groups.js", "page.js")


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    name   one word, for the link to the part
    title  heading
    body   HTML
    """

    name: str
    title: str
    body: str


def html(found: Findings, *, compared: baselines.Rows | None = None, explained: Explained | None = None) -> str:
    """Render the page as HTML.

    compared   results of other methods on the same run
    explained  explanations of some targets by LIME

    Texts of the run cannot become code: they are escaped in HTML and in the data for the script, and the script makes
    text nodes of them. A content security policy forbids all other scripts, and loading anything.
    """
    data = _data(found, explained or {})
    parts = list(_sections(found, data, compared))
    script = "\n".join(_file(name) for name in SCRIPTS)
    return string.Template(_file("page.html")).substitute(
        policy=_policy(script),
        style=_file("page.css"),
        run=markup.escape(found.run.name),
        lead=sections.lead(found),
        cards=sections.cards(found),
        links="".join(f'<a href="#{part.name}">{part.name.capitalize()}</a>' for part in parts),
        sections="".join(
            f'<section id="{part.name}" aria-labelledby="{part.name}-title">'
            f'<h2 id="{part.name}-title">{markup.escape(part.title)}</h2>{part.body}</section>'
            for part in parts
        ),
        data=embedded(data),
        script=script,
    )


def _data(found: Findings, explained: Explained) -> dict[str, Any]:
    """Return the data that the script draws, without parts that the run does not have."""
    more = {"groups": groups.data(found), "leaks": suspicions.leaks(found), "suspects": suspicions.suspects(found)}
    return explorer.data(found, explained) | {name: part for name, part in more.items() if part is not None}


def embedded(data: Any) -> str:
    """Write JSON that can stand in a script element: no text in it ends the element or begins a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sections(found: Findings, data: dict[str, Any], compared: baselines.Rows | None) -> Iterator[Section]:
    if found.fitted is None:
        yield Section("state", "State of the run", sections.unfitted(found))
    else:
        yield Section("quality", "How good are the predictions?", sections.quality(found))
        if found.fitted.curve:
            yield Section("models", "LDS of fewer and of more models", sections.curve(found.fitted))
        yield Section("explorer", "Targets and the examples behind them", _file("explorer.html"))
        counted = found.fitted.fragility
        body = sections.no_threshold(found) if counted is None else sections.fragility(found.run, counted)
        yield Section("fragility", "How many examples does a prediction depend on?", body)
    if compared:
        yield Section("baselines", "Compared with other methods", baselines.body(compared))
    if "groups" in data:
        yield Section("groups", "Groups of similar targets", _file("groups.html"))
    if found.fitted is not None and found.fitted.conflicts is not None:
        yield Section("conflicts", "Classes that harm each other", sections.conflicts(found, found.fitted.conflicts))
    if found.fitted is not None and found.fitted.leaks is not None:
        yield Section("leaks", "Test examples that may be in the pool", sections.leaks(found.fitted.leaks))
    if "suspects" in data:
        yield Section("suspects", "Labels that may be wrong", sections.suspects(data["suspects"]["by"]))
    if found.seconds:
        yield Section("seconds", "Seconds per stage of the last command", sections.seconds(found))
    spec = markup.escape(documents.dump(found.run.spec.document()))
    yield Section("spec", "Spec of the run", f'<pre class="panel" tabindex="0">{spec}</pre>')


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _file(name: str) -> str:
    return resources.files(__package__).joinpath("web", name).read_text(encoding="utf-8")
