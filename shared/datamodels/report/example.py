"""Show examples of a run to people: a label, and a picture, a text or the numbers of a row."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from datamodels.analyze.findings import FEATURES
from datamodels.report import picture
from datamodels.run.dataset import NOT_IN_POOL, Dataset
from datamodels.run.runs import Run

MINUS = "\N{MINUS SIGN}"
"""As the scripts of the page write it."""
TEXT = 400
"""Letters of a text that are shown."""


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """The examples of a run.

    dataset  None if it cannot be loaded: then examples have labels and numbers alone
    """

    run: Run
    dataset: Dataset | None

    @functools.cached_property
    def _target_y(self) -> np.ndarray | None:
        return self.run.target_labels if self.dataset is None else self.dataset.targets(self.run.spec.targets).y

    @property
    def grouped(self) -> bool:
        """Whether a column is a group of examples, which has no picture, text or row."""
        return self.run.design.grouped

    def column(self, column: int) -> dict[str, Any]:
        """Return the display of a training column: its name and label, and its picture, text or row if it has one."""
        if self.grouped:
            members = self.run.design.members(np.array([column]))
            return {"name": f"group {column}", "label": f"{len(members):,} examples"}
        y = self.run.labels if self.dataset is None else self.dataset.y
        return {"name": f"#{column}", "label": self._label(y, column)} | self._display(column, pool=True)

    def target(self, target: int) -> dict[str, Any]:
        """Return the same of a target. If it is a part of a text, `span` says which letters of the text it is."""
        if self.run.spans:
            span = self.run.spans[target]
            return {"name": f"target {target}", "label": "", "text": span.text, "span": [span.first, span.last]}
        own = int(self.run.own[target])
        # If targets are of both kinds, test examples come first.
        looks = self._display(target, pool=False) if own == NOT_IN_POOL else self._display(own, pool=True)
        return {"name": f"target {target}", "label": self._label(self._target_y, target)} | looks

    def _label(self, y: np.ndarray | None, index: int) -> str:
        return "" if y is None or y.ndim != 1 else label_name(self.run, y[index])

    def _display(self, index: int, *, pool: bool) -> dict[str, Any]:
        data = self.dataset
        if data is None:
            return {}
        x, texts = (data.x, data.texts) if pool else (data.x_test, data.texts_test)
        if data.image_shape is not None:
            return {"picture": picture.base64_png(data, x[index])}
        if texts is not None:
            text = texts[index]
            return {"text": text if len(text) <= TEXT else f"{text[:TEXT].rstrip()} …"}
        if x.ndim == 2 and x.dtype.kind in "fiub":
            return {"row": rounded(x[index, :FEATURES])}
        return {}


def label_name(run: Run, label: Any) -> str:
    """Return the name of a class, or its number; "y = " and a rounded value if it is no class; nothing for no label."""
    return (
        f"y = {label:.3g}".replace("-", MINUS) if isinstance(label, float | np.floating) else run.label_name(int(label))
    )


def rounded(values: np.ndarray | list[float]) -> list[float | None]:
    """Round numbers to four digits for JSON: None if they are not finite."""
    return [float(f"{v:.4g}") if np.isfinite(v) else None for v in np.asarray(values, dtype=np.float64).tolist()]
