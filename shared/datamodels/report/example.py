"""Examples of a run as people know them: a label, and a picture, a text or the numbers of a row."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from datamodels.errors import ConflictError
from datamodels.report import picture
from datamodels.run import Run
from datamodels.train.data import NOT_IN_POOL, Dataset

TEXT = 400
"""Letters of a text that are shown."""
FEATURES = 64
"""Numbers of a row that are shown; the first of them, where there are more."""


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """
    dataset  None where it cannot be loaded: examples have labels and numbers then, and nothing to look at

    Raises ConflictError where the data set is not the one that the run was made with.
    """

    run: Run
    dataset: Dataset | None

    def __post_init__(self) -> None:
        if self.dataset is None:
            return
        run, target_y = self.run, self._target_y
        same = len(self.dataset.y) == run.design.examples and target_y is not None and len(target_y) == run.n
        if not same or (run.labels is not None and not np.array_equal(run.labels, self.dataset.y)):
            raise ConflictError(
                f"run {run.name}: its data set now has other examples than the run was created with; restore the data"
            )

    @functools.cached_property
    def _target_y(self) -> np.ndarray | None:
        return self.run.target_labels if self.dataset is None else self.dataset.targets(self.run.spec.targets).y

    @property
    def grouped(self) -> bool:
        """Whether a column is a group of examples, which has no looks."""
        return self.run.design.kind == "grouped"

    def column(self, column: int) -> dict[str, Any]:
        """What a training column looks like: name, label; and one of picture, text, row where there is one."""
        if self.grouped:
            members = self.run.design.members(np.array([column]))
            return {"name": f"group {column}", "label": f"{len(members):,} examples"}
        y = self.run.labels if self.dataset is None else self.dataset.y
        return {"name": f"#{column}", "label": self._label(y, column)} | self._looks(column, pool=True)

    def target(self, target: int) -> dict[str, Any]:
        """The same of a target."""
        own = int(self.run.own[target])
        # Of both kinds, test examples come first.
        looks = self._looks(target, pool=False) if own == NOT_IN_POOL else self._looks(own, pool=True)
        return {"name": f"target {target}", "label": self._label(self._target_y, target)} | looks

    def features(self) -> dict[str, list] | None:
        """Names of a row's numbers, with their mean and deviation in the pool; None where rows are not shown."""
        if self.dataset is None or self.dataset.image_shape is not None or self.dataset.texts is not None:
            return None
        x = self.dataset.x
        if x.ndim != 2 or x.dtype.kind not in "fiub" or self.grouped:
            return None
        x = x[:, :FEATURES].astype(np.float64)
        names = [*self.dataset.feature_names, *(f"x{i}" for i in range(len(self.dataset.feature_names), x.shape[1]))]
        return {"names": names[: x.shape[1]], "mean": rounded(x.mean(axis=0)), "deviation": rounded(x.std(axis=0))}

    def _label(self, y: np.ndarray | None, index: int) -> str:
        return "" if y is None or y.ndim != 1 else label_name(self.dataset, y[index])

    def _looks(self, index: int, *, pool: bool) -> dict[str, Any]:
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


def label_name(dataset: Dataset | None, label: Any) -> str:
    """The name of a class, or its number; a value that is no class, rounded; empty for an example without label."""
    if isinstance(label, float | np.floating):
        return f"{label:.3g}"
    if label < 0:
        return ""
    names = () if dataset is None else dataset.label_names
    return names[label] if label < len(names) else str(label)


def rounded(values: np.ndarray | list[float]) -> list[float | None]:
    """Numbers to four digits, as JSON has them: None where they are not finite."""
    return [float(f"{v:.4g}") if np.isfinite(v) else None for v in np.asarray(values, dtype=np.float64).tolist()]
