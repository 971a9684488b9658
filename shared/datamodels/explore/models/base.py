"""Define the base of all messages, and problems."""

from __future__ import annotations

import pydantic
from pydantic import Field

Index = int
Interval = tuple[float | None, float | None]
"""Lower and upper end at 95%; null if unknown."""


class Model(pydantic.BaseModel):
    """Base of all messages."""

    model_config = pydantic.ConfigDict(extra="forbid", protected_namespaces=())


class Problem(Model):
    """An error, as RFC 9457 describes it."""

    type: str = Field(description="identifies the kind of error")
    title: str = Field(description="class of the error")
    status: int = Field(description="status of HTTP")
    detail: str = Field(description="what is wrong, where, and what to do")
    code: str = Field(description="gRPC code of the same error")
