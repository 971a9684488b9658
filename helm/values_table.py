"""Write the table of values in the chart's README from values.yaml. With --check, fails if it is out of date."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

CHART = Path(__file__).parent / "datamodels"
START, END = "<!-- values: written by `make chart-docs` -->\n", "<!-- end of values -->\n"
WIDEST = 40
"""Characters to which defaults are cut."""


def rows(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (path, default, description) of every value with a `# --` comment above it."""
    path: list[str] = []
    described = ""
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("# -- "):
            described = bare.removeprefix("# -- ")
        elif bare and not bare.startswith("#"):
            name, _, default = bare.partition(":")
            del path[(len(line) - len(bare)) // 2 :]
            path.append(name)
            if described:
                yield ".".join(path), default.strip(), described
            described = ""


def table(text: str) -> str:
    lines = ["| value | default | |", "|---|---|---|"]
    for path, default, description in rows(text):
        shown = default if len(default) <= WIDEST else default[: WIDEST - 3] + "..."
        lines.append(f"| `{path}` | `{shown}` | {description.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the table is out of date")
    options = parser.parse_args()
    readme = CHART / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    fresh = before + START + table((CHART / "values.yaml").read_text(encoding="utf-8")) + END + after
    if options.check and fresh != text:
        print(f"{readme}: does not match values.yaml; run `make chart-docs`", file=sys.stderr)
        return 1
    if not options.check:
        readme.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
