"""Run `datamodels examples`: list or print the specs that ship with the package."""

from __future__ import annotations

import argparse

from datamodels.run import examples as shipped


def examples(options: argparse.Namespace) -> None:
    """Prints one line for each example, or the YAML of one."""
    if options.name:
        print(shipped.text(options.name), end="")
        return
    names = shipped.names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {shipped.title(name)}")
