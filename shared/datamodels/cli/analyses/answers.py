"""Format the answers of `datamodels support` and `counterfactual` for people: a few short lines for each target."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from datamodels import words
from datamodels.analyze.quality.interval import LEVEL
from datamodels.analyze.what_if import retrain
from datamodels.analyze.what_if.support import FOUND, NONE, WRONG
from datamodels.cli.common.output import output_title
from datamodels.spans import Span

Row = dict[str, Any]
"""An answer as JSON values."""
WIDTH = 100
"""Longest line with columns."""
CELL = 32


def of_support(row: Row) -> Iterator[str]:
    """Format the support of a target, what models without it do, and what follows."""
    output = output_title(row)
    change = f"{output} {_before(row)} to {words.number(row['after'])}" if "after" in row else ""
    size, label = words.count(row["size"], "column"), row.get("new_label_name", row.get("new_label"))
    how = f"without {size}" if label is None else f"with {size} relabelled as {label}"
    match row["status"]:
        case status if status == FOUND:
            found = f"is predicted to go wrong {how}, {change}"
        case status if status == WRONG:
            found = f"is predicted to be wrong as it is, {output} {_before(row)}"
        case status if status == NONE and not row["size"]:
            found = f"is predicted to stay right: no column helps it, {output} {_before(row)}"
        case status if status == NONE:
            found = f"is predicted to stay right even {how}, {change}"
        case _:
            found = "has no weights"
    yield f"{words.target(row['target'], _span(row))} {found}{_partial(row)}"
    if row["status"] == FOUND:
        yield from _wrapped("columns", ", ".join(map(str, row["columns"])))
    if "verified" not in row:
        return
    if "verified_before" not in row:
        yield _line("verified", "nothing, since there is no set to remove")
        return
    yield _line("unchanged", _measured(row["verified_before"]))
    if row["verified"]:
        yield _line("removed" if label is None else "relabelled", _measured(row["verified"]))
    yield _line("so", _conclusion(row, "relabelled" if label is not None else "removed"))


def _conclusion(row: Row, how: str) -> str:
    before, after = row["verified_before"], row["verified"]
    already = f"{before['flipped']} of {before['models']} models"
    match row["conclusion"]:
        case retrain.WRONG_BEFORE:
            return f"no support can be verified: the target is already wrong in {already} with nothing {how}"
        case retrain.RIGHT_BEFORE:
            return f"the prediction is off: the target is wrong in only {already} with nothing {how}"
        case retrain.CONFIRMED:
            return f"the support is confirmed: most models get the target wrong with it {how}, and right without that"
        case retrain.REFUTED:
            return f"the support is not confirmed: most models still get the target right with it {how}"
    return f"it is not clear whether most models get the target wrong: train more, --verify {4 * after['models']}"


class Counterfactuals:
    """Formats changes of outputs as a table: before its first row, what the columns are."""

    def __init__(self) -> None:
        self._began = False

    def lines(self, row: Row) -> Iterator[str]:
        """Format a target: its outputs before and after, as predicted, and as trained models have them."""
        if not self._began:
            self._began = True
            of = "the mean of models, and one model after the change"
            yield f"{output_title(row)}, as predicted, with {LEVEL:.0%} intervals: {of}"
            yield _cells("", "mean before", "change of the mean", "one model after")
        name = words.target(row["target"], _span(row))
        if "span" in row:  # it is longer than a cell
            yield name
            name = ""
        predicted = (f"{words.number(row[field])} {_between(row[f'{field}_interval'])}" for field in _PREDICTED)
        yield _cells(name, *predicted) + _partial(row)
        if "verified" in row:
            yield _line("before", _measured(row["verified_before"]))
            yield _line("after", _measured(row["verified"]))


_PREDICTED = ("before", "change", "after")


def _cells(name: str, *cells: str) -> str:
    return f"{name:<14}{''.join(f'{cell:<{CELL}}' for cell in cells)}".rstrip()


def _line(what: str, text: str) -> str:
    return f"  {what:<12}{text}"


def _wrapped(what: str, text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, WIDTH, initial_indent=_line(what, ""), subsequent_indent=_line("", ""))


def _partial(row: Row) -> str:
    return f"  (of {words.count(row['models'], 'model')}, not all of the run)" if "partial" in row else ""


def _before(row: Row) -> str:
    low, _ = row["before_interval"]
    known = "" if math.isnan(low) else f" ({LEVEL:.0%}: {words.interval(row['before_interval'])})"
    return words.number(row["before"]) + known


def _between(ends: Sequence[float]) -> str:
    return "(unknown)" if math.isnan(ends[0]) else f"({words.interval(list(ends))})"


def _span(row: Row) -> Span | None:
    return Span(**row["span"]) if "span" in row else None


def _measured(found: dict[str, Any]) -> str:
    """Write what trained models have: how many are wrong, and their mean output."""
    mean = f"mean {words.number(found['mean'])} ({LEVEL:.0%}: {words.interval(found['interval'])})"
    if "share" not in found:
        return f"{mean} of {found['models']} models"
    low, high = found["share_interval"]
    wrong = f"{found['flipped']} of {found['models']} models are wrong"
    return f"{wrong}, {found['share']:.0%} ({LEVEL:.0%}: {low:.0%} to {high:.0%}), {mean}"
