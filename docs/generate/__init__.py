"""Write docs/reference from the definitions in the code; `make reference` runs it.

Each page is one module here with a function `page`. Its texts come from docstrings, from the strings below fields, from
help texts and from the comments of the protos.
"""

from __future__ import annotations

from pathlib import Path

from docs.generate import api, cli, errors, metrics, rpcs, settings, spec, workloads

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"

INDEX = """\
# Reference

Every page here is written from the definitions in the code by `make reference`. Tests fail if it is out of date.

"""


def pages() -> dict[str, str]:
    """Returns the text of every page by its file name."""
    written = {
        "cli.md": cli.page(),
        "spec.md": spec.page(),
        "workloads.md": workloads.page(),
        "api.md": api.page(),
        "settings.md": settings.page(),
        "metrics.md": metrics.page(),
        "errors.md": errors.page(),
        "rpcs.md": rpcs.page(ROOT / "proto"),
    }
    titles = {name: text.splitlines()[0].removeprefix("# ") for name, text in written.items()}
    links = "".join(f"- [{title}]({name})\n" for name, title in titles.items())
    tree = "\n```{toctree}\n:hidden:\n\n" + "".join(f"{name.removesuffix('.md')}\n" for name in written) + "```\n"
    return {name: text.rstrip() + "\n" for name, text in {"index.md": INDEX + links + tree, **written}.items()}
