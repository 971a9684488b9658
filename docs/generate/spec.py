"""Render the page of the fields of a spec."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pydantic
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from datamodels.run.specs import RunSpec
from docs.generate.markdown import code, link, table
from docs.generate.source import paragraphs, texts

HEAD = """\
# Spec

A spec is a YAML file that decides everything that a run computes. Unknown fields are refused, and so are values out of
range, before anything starts. `fit`, `until`, `output` and `display` are not part of the run's name: change them and
the same run continues.

"""
KINDS = {
    str: "text",
    bool: "true or false",
    int: "integer",
    float: "number",
    dict: "mapping",
    tuple: "list of integers",
}


def page() -> str:
    """Raises KeyError for a field without a text."""
    return HEAD + "".join(_section(title, model) for title, model in sections())


def sections() -> Iterator[tuple[str, type[pydantic.BaseModel]]]:
    """Yields a run's own fields, then those of each of its parts."""
    yield "A run", RunSpec
    for name, field in RunSpec.model_fields.items():
        if part := _part(field):
            yield name, part


def _part(field: FieldInfo) -> type[pydantic.BaseModel] | None:
    kinds = get_args(field.annotation) if isinstance(field.annotation, types.UnionType) else (field.annotation,)
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, pydantic.BaseModel)), None)


def _section(title: str, model: type[pydantic.BaseModel]) -> str:
    said = texts(model)
    rows = (
        (
            code(field.alias or name),
            link(name) if _part(field) else _kind(field),
            _default(field),
            _text(field, said[name]),
        )
        for name, field in model.model_fields.items()
    )
    prose = "\n\n".join(paragraphs(model))
    return f"## {title}\n\n{prose}\n\n" + table(("field", "type", "default", "meaning"), rows)


def _text(field: FieldInfo, said: str) -> str:
    """The string below a field, then what its values mean if they are in a table."""
    return f"{said} {field.description}" if field.description else said


def _kind(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if isinstance(kind, types.UnionType):
        (kind,) = (k for k in get_args(kind) if k is not types.NoneType)
    if get_origin(kind) is Literal:
        return ", ".join(code(value) for value in get_args(kind))
    return KINDS[get_origin(kind) or kind] + _range(field.metadata)


def _range(limits: list[Any]) -> str:
    words = {Ge: "at least {.ge:,}", Gt: "above {.gt:,}", Le: "at most {.le:,}", Lt: "below {.lt:,}"}
    said = [words[type(limit)].format(limit) for limit in limits if type(limit) in words]
    return "".join(f", {text}" for text in said)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, pydantic.BaseModel):
        return ""
    return code({(): "[]"}.get(value, value) if not isinstance(value, dict) else "{}")
