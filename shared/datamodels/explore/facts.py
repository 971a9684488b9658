"""State facts about each target and each column of a fit, a row each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.what_if import pool
from datamodels.display.looks import POOL, TARGET, Looks
from datamodels.display.stored import Stored
from datamodels.query.weights import Fitted

NUMBER, TEXT = "number", "text"


@dataclasses.dataclass(frozen=True)
class Field:
    """A column of a table: its name, NUMBER or TEXT, and what it says."""

    name: str
    kind: str
    text: str


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """Facts about each target, or each column.

    fields  what is known; the first numbers the rows
    rows    values by the name of the field, row i about number i; and `haystack`, the texts that a search looks through
    """

    fields: tuple[Field, ...]
    rows: pa.Table

    @property
    def texts(self) -> dict[str, str]:
        """What each field says."""
        return {field.name: field.text for field in self.fields}

    def row(self, index: int) -> dict[str, Any]:
        """Return what is known of a target or a column; empty if there is no such."""
        if not 0 <= index < self.rows.num_rows:
            return {}
        return {field.name: self.rows[field.name][index].as_py() for field in self.fields}


EXAMPLE = (
    Field("label", NUMBER, "its class; null if it has none"),
    Field("label_name", TEXT, "name of its class"),
    Field("title", TEXT, "what its owner calls it"),
)
"""Fields of both tables: what an example is."""

TARGETS = (
    Field("target", NUMBER, "number of the target"),
    *EXAMPLE,
    Field("own", NUMBER, "the training example that it is, or -1"),
    Field("status", TEXT, "how its fit ended"),
    Field("predicted", NUMBER, "predicted output of models trained on the whole pool, without the target itself"),
    Field("wrong", NUMBER, "1 if that is past the threshold of the output, else 0; null if it has no threshold"),
    Field("heldout_r2", NUMBER, "explained variance of outputs on held-out models; 1 is perfect"),
    Field("lds", NUMBER, "correlation of predicted with measured outputs on unseen subsets; null if not scored"),
    Field("nonzeros", NUMBER, "number of its weights"),
    Field("strongest", NUMBER, "largest absolute weight, in units of the output"),
    Field("helpful", NUMBER, "sum of the weights that help it, or raise its output if neither direction is better"),
    Field("harmful", NUMBER, "sum of the other weights, as an absolute value"),
    Field("lambda", NUMBER, "strength of the penalty"),
    Field("gap", NUMBER, "duality gap over the objective at zero weights"),
    Field("intercept", NUMBER, "predicted output of models trained on nothing"),
)
"""Fields of the table of targets."""

COLUMNS = (
    Field("column", NUMBER, "number of the column: a training example, or in a grouped design a group"),
    *EXAMPLE,
    Field("targets", NUMBER, "number of targets with a weight on it"),
    Field("helped", NUMBER, "number of targets that it helps, or whose output it raises"),
    Field("harmed", NUMBER, "number of targets that it harms, or whose output it lowers"),
    Field("mean", NUMBER, "mean weight over all targets, in units of the output"),
    Field("strongest", NUMBER, "largest absolute weight, in units of the output"),
)
"""Fields of the table of columns."""


def of_targets(fitted: Fitted, evaluation: Evaluation | None, looks: Looks | None) -> Facts:
    """State facts about the targets of a fit.

    evaluation  of the fit, if one is recorded
    looks       of the examples, if the store has them: their titles and texts are searched
    """
    run, solution = fitted.run, fitted.solution
    output, modelled = run.predicted, solution.modelled
    helpful, harmful, strongest = _sums(solution.indptr, solution.weights, output.sign)
    predicted = np.where(modelled, _of_whole_pool(fitted), np.nan)
    wrong = None if output.threshold is None else np.where(modelled, output.wrong(predicted).astype(float), np.nan)
    titles, texts = _words(looks, TARGET, run.n, run.own if run.spec.targets != "test" else None)
    spans = [span.text for span in run.spans]
    names = _class_names(fitted, run.target_labels, run.n)
    facts = {
        "target": np.arange(run.n, dtype=np.int32),
        "label": _or_null(run.target_labels, run.n),
        "label_name": names,
        "title": titles,
        "own": run.own,
        "status": list(solution.status),
        "predicted": predicted,
        "wrong": wrong,
        "heldout_r2": solution.heldout_r2,
        "lds": None if evaluation is None or len(evaluation.per_target) != run.n else evaluation.per_target,
        "nonzeros": np.diff(solution.indptr).astype(np.int32),
        "strongest": strongest,
        "helpful": helpful,
        "harmful": harmful,
        "lambda": solution.lambda_,
        "gap": solution.gap,
        "intercept": solution.intercept,
        "haystack": _haystack(names, titles, spans or texts),
    }
    return Facts(TARGETS, _arrow(facts, run.n))


def of_columns(fitted: Fitted, looks: Looks | None) -> Facts:
    """State facts about the columns of a fit; the arguments are as for `of_targets`."""
    run, by_column = fitted.run, fitted.theta.tocsc()
    d = run.design.columns
    helpful, harmful, strongest = _sums(by_column.indptr, by_column.data, run.predicted.sign)
    gain = run.predicted.sign * by_column.data
    starts = by_column.indptr.astype(np.int64)
    helped, harmed = (_count(starts, chosen) for chosen in (gain > 0, gain < 0))
    titles, texts = (None, None) if run.design.grouped else _words(looks, POOL, d, None)
    names = _class_names(fitted, pool.column_labels(run), d)
    facts = {
        "column": np.arange(d, dtype=np.int32),
        "label": _or_null(pool.column_labels(run), d),
        "label_name": names,
        "title": titles,
        "targets": np.diff(starts).astype(np.int32),
        "helped": helped,
        "harmed": harmed,
        "mean": run.predicted.sign * (helpful - harmful) / max(1, run.n),
        "strongest": strongest,
        "haystack": _haystack(names, titles, texts),
    }
    return Facts(COLUMNS, _arrow(facts, d))


def _of_whole_pool(fitted: Fitted) -> np.ndarray:
    """Return float64[n]: outputs predicted for the pool that subsets are drawn from, without the target itself."""
    members = pool.whole(fitted.run)
    run, solution = fitted.run, fitted.solution
    sums = np.asarray(fitted.theta @ members.astype(np.float32), dtype=np.float64)
    own = np.array([-1 if example < 0 else run.design.column_of(int(example)) for example in run.own])
    if (own >= 0).any():
        rows = np.repeat(np.arange(run.n), np.diff(solution.indptr))
        mine = (solution.columns == own[rows]) & members[solution.columns]
        sums -= np.bincount(rows[mine], solution.weights[mine], minlength=run.n)
    return solution.intercept + sums


def _sums(starts: np.ndarray, weights: np.ndarray, sign: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return float64[rows]: sums of the weights of each sign, and the largest size of one; 0 for rows without any."""
    gain = sign * weights.astype(np.float64)
    sums = [np.concatenate([[0.0], np.cumsum(part)]) for part in (np.maximum(gain, 0), np.maximum(-gain, 0))]
    helpful, harmful = (total[starts[1:]] - total[starts[:-1]] for total in sums)
    strongest = np.zeros(len(starts) - 1)
    filled = np.flatnonzero(np.diff(starts))
    if len(filled):
        strongest[filled] = np.maximum.reduceat(np.abs(gain), starts[filled])
    return helpful, harmful, strongest


def _count(starts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    total = np.concatenate([[0], np.cumsum(chosen)])
    return (total[starts[1:]] - total[starts[:-1]]).astype(np.int32)


def _or_null(labels: np.ndarray | None, count: int) -> pa.Array:
    if labels is None:
        return pa.nulls(count, pa.int32())
    return pa.array(labels.astype(np.int32), mask=labels < 0)


def _class_names(fitted: Fitted, labels: np.ndarray | None, count: int) -> list[str]:
    if labels is None:
        return [""] * count
    names = {int(label): fitted.run.label_name(int(label)) for label in np.unique(labels)}
    return [names[label] for label in labels.tolist()]


def _words(
    looks: Looks | None, role: str, count: int, own: np.ndarray | None
) -> tuple[list[str] | None, list[str] | None]:
    """Return the titles and texts of the examples of a role; None if there are none."""
    if not isinstance(looks, Stored) or not (looks.record.texts or looks.record.titles):
        return None, None
    titles, texts = _read_words(looks, role)
    if role == TARGET and own is not None:  # targets beyond the test examples are training examples
        theirs = _read_words(looks, POOL)
        rest = own[looks.record.targets :].tolist()
        titles, texts = (mine + [pooled[i] for i in rest] for mine, pooled in zip((titles, texts), theirs, strict=True))
    return (titles, texts) if len(titles) == count else (None, None)


def _read_words(looks: Stored, role: str) -> tuple[list[str], list[str]]:
    titles: list[str] = []
    texts: list[str] = []
    for table in looks.tables(role, ["title", "text"]):
        titles += table["title"].to_pylist()
        texts += [text or "" for text in table["text"].to_pylist()]
    return titles, texts


def _haystack(names: Sequence[str], *more: Sequence[str] | None) -> list[str]:
    """Return the texts that a search looks through, in lower case, with lines between them."""
    return ["\n".join(filter(None, parts)).lower() for parts in zip(names, *filter(None, more), strict=True)]


def _arrow(facts: dict[str, Any], count: int) -> pa.Table:
    return pa.table(dict(_arrays(facts, count)))


def _arrays(facts: dict[str, Any], count: int) -> Iterator[tuple[str, pa.Array]]:
    for name, values in facts.items():
        match values:
            case None:
                yield name, pa.nulls(count, pa.string() if name == "title" else pa.float64())
            case np.ndarray() if values.dtype.kind == "f":
                yield name, pa.array(values.astype(np.float64), mask=~np.isfinite(values))
            case pa.Array() | np.ndarray():
                yield name, pa.array(values)
            case _:
                yield name, pa.array(values, pa.string())
