"""Format values as text and JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from typing import Any

import numpy as np

from datamodels import words
from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.quality.verdict import Verdict
from datamodels.cli.common import streams
from datamodels.outputs import Output
from datamodels.screen import plain
from datamodels.spans import Span


def print_json(*documents: Any) -> None:
    """Print JSON, one value per line, and nothing if there are no values. Every command with --json prints by this."""
    for document in documents:
        print(json.dumps(finite(document), allow_nan=False), file=streams.answers(), flush=True)


def warn(text: str) -> None:
    """Say on standard error what people should know, beside the answer of a command."""
    print(f"datamodels: {text}", file=sys.stderr, flush=True)


def finite(value: Any) -> Any:
    """Return a value as JSON has it: NaN and infinity become None, arrays lists, and dataclasses mappings."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case np.ndarray() | np.generic():
            return finite(value.tolist())
        case list() | tuple():
            return [finite(v) for v in value]
        case dict():
            return {name: finite(v) for name, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return finite(dataclasses.asdict(value))
    return value


def quality(evaluation: Evaluation, verdict: Verdict) -> dict[str, Any]:
    """Return an evaluation as JSON values, in the same words for every command: LDS and verdict."""
    of = ("subsets", "models", "mean_of", "targets", "constant", "coarse")
    names = ("lds", "interval", "ceiling", "ceiling_interval", "best", *of)
    return {"lds": {name: getattr(evaluation, name) for name in names}, "verdict": dataclasses.asdict(verdict)}


def field_of(span: Span | None) -> dict[str, Any]:
    """Return a target's span as a field of a row; no field if there is none."""
    return {} if span is None else {"span": span._asdict()}


def span(interval: tuple[float, float], digits: int = 3) -> str:
    """Format an interval as "0.123 to 0.456"."""
    low, high = interval
    return f"{low:.{digits}f} to {high:.{digits}f}"


def of_output(output: Output) -> dict[str, Any]:
    """Return the name of an output, and its unit if it has one, as JSON values."""
    return {"output": output.name} | ({"unit": output.unit} if output.unit else {})


def output_title(found: dict[str, Any]) -> str:
    """Return the name of an output with its unit, from what `of_output` returned, as `Output.title` does."""
    return plain(f"{found['output']} ({found['unit']})" if "unit" in found else str(found["output"]))


def basis_line(found: dict[str, Any]) -> str:
    """Format a `service.basis` for people."""
    partial = ", which are not all models of the run" if "partial" in found else ""
    chosen = f"; {words.CHOSEN} {found['chosen']}" if "chosen" in found else ""
    return f"run {found['run']}, fit {found['fit']} of {words.count(found['models'], 'model')}{partial}{chosen}"
