"""Read back what an export says and its arrays do not: what outputs mean, which targets there are, and classes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodels.exchange.sources import Source, load_arrays

FACTS = "facts.json"
"""File of an export with all facts; in a .npz file it is the array `facts`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
    """What an export says of arrays that are imported.

    where                    the file that says so; empty if the arrays come from no export
    output                   what outputs mean, as the section `output` of a spec
    targets                  which examples are targets, as in a spec
    labels                   int64[columns]; class of each column; None if there are none, or columns are groups
    target_labels            int64[...]; the same of each test example
    label_names              name of each class; empty if classes have none
    """

    where: str = ""
    output: dict[str, Any] = dataclasses.field(default_factory=dict)
    targets: str = "test"
    labels: np.ndarray | None = None
    target_labels: np.ndarray | None = None
    label_names: Sequence[str] = ()


def read(paths: Sequence[str], source: Source) -> Exported:
    """Return what the first export among these files says.

    source  arrays of these files
    """
    for where, text in _candidates(paths):
        try:
            facts = json.loads(text)
        except ValueError:  # a file of someone else
            continue
        if isinstance(facts, dict) and {"run", "spec", "output"} <= facts.keys():
            return _exported(where, facts, source)
    return Exported()


def _candidates(paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    for path in map(Path, paths):
        if path.suffix == ".npz":
            arrays = load_arrays(path)
            if "facts" in arrays:
                yield f"{path}: facts", str(arrays["facts"])
        elif (file := path.parent / FACTS).is_file():
            yield str(file), file.read_text(encoding="utf-8", errors="replace")


def _exported(where: str, facts: dict[str, Any], source: Source) -> Exported:
    targets, labels = facts["spec"]["targets"], facts["labels"]
    found = Exported(where, facts["output"], targets)
    if labels is None or len(labels) != source.columns:
        return found
    tests = source.targets - (0 if targets == "test" else source.columns)
    of_tests = np.array(facts["target_labels"][:tests]) if tests > 0 else None
    return dataclasses.replace(found, labels=np.array(labels), target_labels=of_tests, label_names=facts["label_names"])
