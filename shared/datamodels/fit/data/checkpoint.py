"""Save and load checkpoints of a fit: a folder with the last state, or the solution, of each block of targets.

A folder belongs to one fit. Each file says which fit and block it is of. Files of another fit or block, and damaged
files, are ignored.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from datamodels.fit.data import scratch
from datamodels.fit.data.problem import Solution

SOLVED = "solved"
"""Stage of a finished block."""


class Checkpoint:
    """The file of one block. Without a folder it keeps nothing.

    `name` identifies the block, `fingerprint` the fit that it belongs to.
    """

    def __init__(self, folder: Path | None, name: str, fingerprint: str):
        self._path = None if folder is None else folder / f"{name}.npz"
        self._fingerprint = f"{fingerprint} {name}"

    def save(self, stage: str, arrays: dict[str, np.ndarray]) -> None:
        """Replace what was kept. Raises StoreFullError if the disk is full."""
        if self._path is None:
            return
        temporary = self._path.with_suffix(".tmp")
        named: dict[str, Any] = {"_stage": np.array(stage), "_fingerprint": np.array(self._fingerprint), **arrays}
        with scratch.room(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(temporary, "wb") as file:
                    np.savez(file, **named)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self._path)
            finally:
                temporary.unlink(missing_ok=True)

    def load(self) -> tuple[str, dict[str, np.ndarray]] | None:
        """Return (stage, arrays) as last saved, or None."""
        if self._path is None:
            return None
        try:
            with np.load(self._path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile):
            return None  # one flipped bit can make a zip file look encrypted, or of another version
        if str(arrays.pop("_fingerprint", "")) != self._fingerprint:
            return None
        return str(arrays.pop("_stage")), arrays

    def save_solution(self, solution: Solution) -> None:
        """Replace what was kept by the solution of the block. Raises StoreFullError if the disk is full."""
        values = {f.name: getattr(solution, f.name) for f in dataclasses.fields(Solution)}
        values["choice"] = json.dumps(solution.choice)
        self.save(SOLVED, {name: np.asarray(value) for name, value in values.items() if value is not None})

    def load_solution(self) -> Solution | None:
        """Return the solution of the block if it is finished, or None."""
        kept = self.load()
        if kept is None or kept[0] != SOLVED:
            return None
        fields: dict[str, Any] = dict(kept[1])
        choice = json.loads(str(fields.get("choice", "null")))
        return Solution(**fields | {"d": int(fields["d"]), "status": fields["status"].tolist(), "choice": choice})
