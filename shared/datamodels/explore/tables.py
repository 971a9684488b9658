"""List the targets and the columns of a fit: filter, sort, search and pages, by DuckDB in memory.

A table holds one row of facts for each target or column, not the weights. DuckDB reads no file and loads nothing: names
of fields come from the table, and whatever a caller gives is a parameter of a statement.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodels.errors import InputError
from datamodels.explore.facts import TEXT, Facts, Field

MOST_ROWS = 1000
"""Most rows of a page."""
MOST_FILTERS = 20
MEMORY = "512MB"
"""Memory that DuckDB may take for one table; 60,000 targets take some 20 MB."""

_FILTER = re.compile(r"\s*([a-z_0-9]{1,40})\s*(<=|>=|!=|==|=|<|>)\s*(.{0,200})", re.DOTALL)
_OPERATORS = {"==": "=", "!=": "<>"}
_INDEX = re.compile(r"(?:(?:target|example) *)?#? *(\d{1,9})", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Page:
    """Some rows of a list.

    total  number of rows of the whole list
    rows   values by the name of the field; None for what is unknown
    """

    total: int
    rows: list[dict[str, Any]]


class Table:
    """Rows of facts in memory. Safe to use from any thread. Call `close` at the end."""

    def __init__(self, facts: Facts):
        import duckdb  # an extra, which takes a tenth of a second

        self.fields = {field.name: field for field in facts.fields}
        self.texts = facts.texts
        self.key = facts.fields[0].name
        self._base = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": MEMORY})
        self._base.register("given", facts.rows)
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
                 number of a row, such as 13, #13 or target 13
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
