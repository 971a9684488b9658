"""Show examples of a run to people: a label, and a picture, a text or the numbers of a row."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import numpy as np

from datamodels.display.looks import Look, Looks
from datamodels.run.runs import Run

MINUS = "\N{MINUS SIGN}"
"""As the scripts of the page write it."""
TEXT = 400
"""Letters of a text that are shown."""


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """The examples of a run.

    looks  None if neither the store nor a data set has any: then examples have labels and numbers alone
    """

    run: Run
    looks: Looks | None

    @property
    def grouped(self) -> bool:
        """Whether a column is a group of examples, which has no picture, text or row."""
        return self.run.design.grouped

    def column(self, column: int) -> dict[str, Any]:
        """Return the display of a training column: its name and label, and its picture, text or row if it has one."""
        if self.grouped:
            members = self.run.design.members(np.array([column]))
            return {"name": f"group {column}", "label": f"{len(members):,} examples"}
        look = _bare(self.run.labels, column) if self.looks is None else self.looks.pool(column)
        return {"name": f"#{column}", "label": self._label(look)} | _display(look)

    def target(self, target: int) -> dict[str, Any]:
        """Return the same of a target. If it is a part of a text, `span` says which letters of the text it is."""
        if self.run.spans:
            span = self.run.spans[target]
            return {"name": f"target {target}", "label": "", "text": span.text, "span": [span.first, span.last]}
        look = _bare(self.run.target_labels, target) if self.looks is None else self.looks.target(target)
        return {"name": f"target {target}", "label": self._label(look)} | _display(look)

    def _label(self, look: Look) -> str:
        if look.label is not None:
            return label_name(self.run, look.label)
        return look.name if look.value is None else label_name(self.run, look.value)


def _bare(labels: np.ndarray | None, index: int) -> Look:
    return Look() if labels is None else Look(label=int(labels[index]))


def _display(look: Look) -> dict[str, Any]:
    if look.picture is not None:
        return {"picture": base64.b64encode(look.picture).decode()}
    if look.text is not None:
        return {"text": look.text if len(look.text) <= TEXT else f"{look.text[:TEXT].rstrip()} …"}
    return {} if look.row is None else {"row": rounded(look.row)}


def label_name(run: Run, label: Any) -> str:
    """Return the name of a class, or its number; "y = " and a rounded value if it is no class; nothing for no label."""
    return (
        f"y = {label:.3g}".replace("-", MINUS) if isinstance(label, float | np.floating) else run.label_name(int(label))
    )


def rounded(values: np.ndarray | list[float]) -> list[float | None]:
    """Round numbers to four digits for JSON: None if they are not finite."""
    return [float(f"{v:.4g}") if np.isfinite(v) else None for v in np.asarray(values, dtype=np.float64).tolist()]
