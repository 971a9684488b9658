"""Say what is wrong with a spec: one line for each fault."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pydantic

from datamodels import words
from datamodels.errors import SpecError

NAME = r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?"
"""Pattern of a spec's name."""
REFERENCE = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
"""Pattern of a reference to Python code."""
FORMS = {
    REFERENCE: "module:name, as in mine:Trainer",
    f"^{NAME}$": "1 to 40 lower-case letters, digits and hyphens, with no hyphen at either end",
}
"""What the patterns of fields mean."""
UNSTORABLE = "unstorable"
"""Type of a pydantic error about options that JSON cannot store. Its context has `faults` of `documents.Unstorable`."""


def of_fields(error: pydantic.ValidationError, part: type[pydantic.BaseModel]) -> Iterator[str]:
    """Describe the faults that validation found in a spec, or in a part of one."""
    for fault in error.errors():
        if fault["type"] == UNSTORABLE:
            yield from (
                f"{'.'.join([*map(str, fault['loc']), *path])}: {text}" for path, text in fault["ctx"]["faults"]
            )
        else:
            yield _fault(fault, part)


def _fault(error: Any, part: type[pydantic.BaseModel]) -> str:
    field = ".".join(str(name) for name in error["loc"])
    message = error["msg"][0].lower() + error["msg"][1:]
    if error["type"] == "missing":
        return f"{field}: is missing"
    if error["type"] == "extra_forbidden":
        *path, name = error["loc"]
        return f"{field}: unknown field; fields here are {', '.join(_likely(name, _fields(part, path)))}"
    if error["type"] == "string_pattern_mismatch":
        return f"{field} = {error['input']!r}: must be {FORMS[error['ctx']['pattern']]}"
    if error["type"] == "value_error":
        return f"{field}: {error['ctx']['error']}"
    if error["type"] == "int_type" and isinstance(error["input"], float) and error["input"].is_integer():
        return f"{field} = {error['input']}: must be a whole number; write {error['input']:.0f}"
    return f"{field} = {error['input']!r}: {message.replace('input should', 'must')}"


def _fields(part: type[pydantic.BaseModel], path: Sequence[Any]) -> list[str]:
    """Return the names of the fields of a part of a spec, or of the part that a path of fields leads to."""
    for step in path:
        (field,) = (f for name, f in part.model_fields.items() if step in (name, f.alias))
        kinds = typing.get_args(field.annotation) or (field.annotation,)
        part = next(kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, pydantic.BaseModel))
    return [field.alias or name for name, field in part.model_fields.items()]


def check_options(
    field: str,
    name: str,
    function: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    given: Sequence[Any] = (),
    before: str = "",
    typed: Mapping[str, str] | None = None,
) -> None:
    """Check that a function or class takes the options that a spec gives it.

    field    field of the spec that has the options
    name     what the spec calls the function
    given    what the function is called with before the options
    before   how these are called, for people
    typed    how the spec spells an option, if not as the function does

    Raises SpecError, with one line for each unknown option.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions that are written in C have none
        return
    parameters = list(signature.parameters.values())
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(places) < len(given) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise SpecError(f"{field}: {name}: must take {words.count(len(given), 'argument')} before its options{before}")
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        taken = [p.name for p in parameters[len(given) :] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if unknown := [(typed or {}).get(option, option) for option in options if option not in taken]:
            raise SpecError([f"{field}.{o}: unknown option of {name}; {_offer(_likely(o, taken))}" for o in unknown])
    try:
        signature.bind(*given, **options)
    except TypeError as error:
        raise SpecError(f"{field}: {name}: {error}") from None


def _offer(names: Sequence[str]) -> str:
    return f"its options are {', '.join(names)}" if names else "it has no options"


def _likely(name: Any, names: Sequence[str]) -> list[str]:
    """Return names with those first that a mistyped name may mean."""
    close = difflib.get_close_matches(str(name), names)
    return [*close, *(other for other in names if other not in close)]
