"""Run `datamodels examples`: list or print the specs that ship with the package."""

from __future__ import annotations

import argparse

from datamodels.cli.common.output import print_json
from datamodels.run import documents
from datamodels.run import examples as shipped


def examples(options: argparse.Namespace) -> None:
    """Prints one line for each example, or the YAML of one."""
    if options.name:
        text = shipped.text(options.name)
        print_json(documents.load(text)) if options.json else print(text, end="")
        return
    names = shipped.names()
    width = max(map(len, names))
    for name in names:
        title = shipped.title(name)
        print_json({"name": name, "title": title}) if options.json else print(f"{name:<{width}}  {title}")
