"""List the targets and the columns of a fit: filter, sort, search and pages, by DuckDB in memory.

A table holds one row of facts for each target or column, not the weights. DuckDB reads no file and loads nothing: names
of fields come from the table, and whatever a caller gives is a parameter of a statement.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.analyze.what_if import pool
from datamodels.display.looks import POOL, TARGET
from datamodels.display.stored import Stored
from datamodels.errors import InputError
from datamodels.query.weights import Fitted

MOST_ROWS = 1000
"""Most rows of a page."""
MOST_FILTERS = 20
MEMORY = "512MB"
"""Memory that DuckDB may take for one table; 60,000 targets take some 20 MB."""
NUMBER, TEXT = "number", "text"

_FILTER = re.compile(r"\s*([a-z_0-9]{1,40})\s*(<=|>=|!=|==|=|<|>)\s*(.{0,200})", re.DOTALL)
_OPERATORS = {"==": "=", "!=": "<>"}
_INDEX = re.compile(r"#?(\d{1,9})")


@dataclasses.dataclass(frozen=True)
class Field:
    """A column of a table: its name, NUMBER or TEXT, and what it says."""

    name: str
    kind: str
    text: str


@dataclasses.dataclass(frozen=True)
class Page:
    """Some rows of a list.

    total  number of rows of the whole list
    rows   values by the name of the field; None for what is unknown
    """

    total: int
    rows: list[dict[str, Any]]


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


class Table:
    """Rows of facts in memory. Safe to use from any thread. Call `close` at the end.

    fields  of the table, the first of which numbers the rows
    facts   the rows, with these fields and `haystack`, the texts that a search looks through
    """

    def __init__(self, fields: Sequence[Field], facts: pa.Table):
        import duckdb  # an extra, which takes a tenth of a second

        self.fields = {field.name: field for field in fields}
        self.key = fields[0].name
        self._base = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": MEMORY})
        self._base.register("given", facts)
        self._base.execute("CREATE TABLE facts AS SELECT * FROM given")
        self._base.unregister("given")
        self._base.execute("SET enable_external_access = false")
        self._base.execute("SET lock_configuration = true")

    def close(self) -> None:
        self._base.close()

    def page(
        self,
        *,
        filters: Sequence[str] = (),
        search: str = "",
        sort: Sequence[str] = (),
        offset: int = 0,
        limit: int = 100,
    ) -> Page:
        """Return some rows of a list.

        filters  conditions that all hold, such as `heldout_r2>=0.5`, `label=3` and `status!=ok`
        search   a text in the name of the class, the title or the text of the example, upper or lower case; or the
                 number of a row, such as 13 or #13
        sort     names of fields, with - before those to sort descending; rows without a value come last
        offset   number of rows to leave out at the beginning
        limit    most rows to return

        Raises InputError.
        """
        where, values = self._where(filters, search)
        order = [*(self._order(text) for text in sort), f'"{self.key}"']
        if not 0 <= offset < 2**31 or not 0 <= limit <= MOST_ROWS:
            raise InputError(f"offset = {offset}, limit = {limit}: must be at least 0, and limit at most {MOST_ROWS}")
        shown = ", ".join(f'"{name}"' for name in self.fields)
        cursor = self._base.cursor()
        try:
            found = cursor.execute(f"SELECT count(*) FROM facts WHERE {where}", values).fetchone()
            rows = cursor.execute(
                f"SELECT {shown} FROM facts WHERE {where} ORDER BY {', '.join(order)} LIMIT {limit} OFFSET {offset}",
                values,
            ).fetchall()
        finally:
            cursor.close()
        total = 0 if found is None else int(found[0])
        return Page(total, [dict(zip(self.fields, map(_plain, row), strict=True)) for row in rows])

    def values(self, name: str) -> np.ndarray | list[str]:
        """Return a field of all rows, by their numbers: float64[rows], NaN for what is unknown, or texts.

        Raises InputError.
        """
        field = self._field("field", name)
        cursor = self._base.cursor()
        try:
            found = cursor.execute(f'SELECT "{field.name}" FROM facts ORDER BY "{self.key}"').fetchnumpy()[field.name]
        finally:
            cursor.close()
        if field.kind == TEXT:
            return np.ma.filled(found, "").tolist()
        return np.ma.filled(np.ma.asarray(found, dtype=np.float64), np.nan)

    def _where(self, filters: Sequence[str], search: str) -> tuple[str, list[Any]]:
        if len(filters) > MOST_FILTERS:
            raise InputError(f"where: has {len(filters)} conditions, at most {MOST_FILTERS} are allowed")
        conditions, values = ["true"], []
        for text in filters:
            name, operator, value = self._condition(text)
            conditions.append(f'"{name}" {operator} ?')
            values.append(value)
        if index := _INDEX.fullmatch(search.strip()):
            conditions.append(f'("{self.key}" = ? OR contains(haystack, ?))')
            values += [int(index[1]), search.strip().lower()]
        elif search.strip():
            conditions.append("contains(haystack, ?)")
            values.append(search.strip().lower())
        return " AND ".join(conditions), values

    def _condition(self, text: str) -> tuple[str, str, float | str]:
        found = _FILTER.fullmatch(text)
        if not found:
            raise InputError(
                f"where = {text!r:.200}: must be FIELD, one of = != < <= > >=, and a value: heldout_r2>=0.5"
            )
        name, operator, value = found.groups()
        field = self._field("where", name)
        if field.kind == TEXT:
            return name, _OPERATORS.get(operator, operator), value
        try:
            return name, _OPERATORS.get(operator, operator), float(value)
        except ValueError:
            raise InputError(f"where = {text!r:.200}: {name} is a number, and {value!r} is none") from None

    def _order(self, text: str) -> str:
        field = self._field("sort", text.removeprefix("-"))
        return f'"{field.name}" {"DESC" if text.startswith("-") else "ASC"} NULLS LAST'

    def _field(self, parameter: str, name: str) -> Field:
        if name not in self.fields:
            raise InputError(f"{parameter}: has no field {name[:40]!r}; the fields are {', '.join(self.fields)}")
        return self.fields[name]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def of_targets(fitted: Fitted, evaluation: Evaluation | None, looks: Stored | None) -> Table:
    """Return the table of a fit's targets.

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
    return Table(TARGETS, _arrow(facts, run.n))


def of_columns(fitted: Fitted, looks: Stored | None) -> Table:
    """Return the table of a fit's columns; the arguments are as for `of_targets`."""
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
    return Table(COLUMNS, _arrow(facts, d))


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
    looks: Stored | None, role: str, count: int, own: np.ndarray | None
) -> tuple[list[str] | None, list[str] | None]:
    """Return the titles and texts of the examples of a role; None if there are none."""
    if looks is None or not (looks.record.texts or looks.record.titles):
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
