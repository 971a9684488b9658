"""Read back what an export says beside masks and outputs: what outputs mean, targets, classes, unseen subsets."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodels.errors import InputError
from datamodels.exchange.sources import MASKS, OUTPUTS, Source, load_arrays, member, open_all, read_array

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
    own                      the training example that each test example is, or -1; empty if none is one
    spans                    (text, first, last) of each target; empty if targets are no parts of texts
    unseen                   (masks [s, d], outputs [s, r, n]) of models on unseen subsets; None if there are none
    """

    where: str = ""
    output: dict[str, Any] = dataclasses.field(default_factory=dict)
    targets: str = "test"
    labels: np.ndarray | None = None
    target_labels: np.ndarray | None = None
    label_names: Sequence[str] = ()
    own: Sequence[int] = ()
    spans: Sequence[tuple[str, int, int]] = ()
    unseen: tuple[np.ndarray, np.ndarray] | None = None


def read(paths: Sequence[str], source: Source) -> Exported:
    """Return what the first export among these files says.

    source  arrays of these files
    """
    for path, where, text in _candidates(paths):
        try:
            facts = json.loads(text)
        except ValueError:  # a file of someone else
            continue
        if isinstance(facts, dict) and {"run", "spec", "output"} <= facts.keys():
            try:
                return dataclasses.replace(_exported(where, facts, source), unseen=_unseen(path, facts, source))
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise InputError(
                    f"{where}: is not what `datamodels export` writes ({type(error).__name__}: {error}); export again, "
                    "or move the arrays away from it"
                ) from None
    return Exported()


def _candidates(paths: Sequence[str]) -> Iterator[tuple[Path, str, str]]:
    """Yield (path, file with facts, its text) of paths that may be of an export."""
    for path in map(Path, paths):
        if path.suffix == ".npz":
            arrays = load_arrays(path)
            found = ""
            with contextlib.suppress(InputError):  # objects of someone else
                found = str(member(path, arrays, "facts")) if "facts" in arrays else ""
            yield path, f"{path}: facts", found
        elif (file := path.parent / FACTS).is_file():
            yield path, str(file), file.read_text(encoding="utf-8", errors="replace")


def _exported(where: str, facts: dict[str, Any], source: Source) -> Exported:
    targets, labels, spans = facts["spec"]["targets"], facts["labels"], facts.get("spans", ())
    tests = source.targets - (0 if targets == "test" else source.columns)
    found = Exported(where, facts["output"], targets, spans=spans if len(spans) == source.targets else ())
    own = facts.get("own_example", ())[: max(0, tests)]
    if len(own) == tests and max(own, default=-1) >= 0:
        found = dataclasses.replace(found, own=own)
    if labels is None or len(labels) != source.columns:
        return found
    of_tests = np.array(facts["target_labels"][:tests]) if tests > 0 else None
    return dataclasses.replace(found, labels=np.array(labels), target_labels=of_tests, label_names=facts["label_names"])


def _unseen(path: Path, facts: dict[str, Any], source: Source) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the models on unseen subsets that an export has; None if it has none, or of other columns or targets."""
    shape = facts["spec"]["evaluate"]["subsets"], facts["spec"]["evaluate"]["models"]
    masks, outputs = (f"unseen_{name}" for name in (MASKS, OUTPUTS))
    folder = path.parent / "unseen"
    if path.suffix == ".npz":
        arrays = load_arrays(path)
        found = tuple(member(path, arrays, name) for name in (masks, outputs)) if masks in arrays else None
    elif (path.parent / f"{masks}.npy").is_file():
        found = tuple(read_array(str(path.parent / f"{name}.npy")) for name in (masks, outputs))
    elif path.name == "models" and folder.is_dir():
        rows = [np.concatenate(parts) for parts in zip(*open_all([str(folder)])[0].blocks(), strict=True)]
        if len(rows[0]) != shape[0] * shape[1]:
            raise InputError(f"{folder}: has {len(rows[0])} rows, {shape[0]} x {shape[1]} are expected; export again")
        found = rows[0][:: shape[1]], rows[1].reshape(*shape, -1)
    else:
        found = None
    fits = found is not None and (found[0].shape[1], found[1].shape[2]) == (source.columns, source.targets)
    return (found[0], found[1]) if found is not None and fits else None
