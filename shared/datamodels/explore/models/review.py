"""Define messages of the review."""

from __future__ import annotations

from pydantic import Field

from .base import Index, Model
from .weights import LookInfo


class VerdictInfo(Model):
    """What somebody says of a suspect."""

    kind: str
    index: Index
    other: Index
    verdict: str = Field(description="keep, wrong, fix (the label) or open (which takes a verdict back)")
    label: int | None = Field(default=None, description="for fix: the right label")
    note: str = Field(default="", max_length=1000)
    who: str = Field(default="", description="set by the server: the user, if a proxy names one")
    when: float = Field(default=0.0, description="set by the server: seconds since 1970")


class SuspectInfo(Model):
    """Something to review."""

    kind: str = Field(description="label, leak, duplicate or fragile: what may be wrong")
    index: Index = Field(description="the training example of label and duplicate; the target of leak and fragile")
    other: Index = Field(description="the training example of leak, the other one of duplicate; else -1")
    score: float = Field(
        description="larger is more suspect; for duplicate, 2 if the labels differ and 1 if not; "
        "for fragile, minus the number of examples that decide it"
    )
    why: str = Field(description="why it is suspect, in words")
    suggested: int | None = Field(description="label that the weights suggest")
    suggested_name: str
    look: LookInfo
    other_look: LookInfo | None
    verdict: VerdictInfo | None = Field(description="null if nobody has decided")


class QueueInfo(Model):
    """What to review of a run."""

    fit: int
    suspects: list[SuspectInfo]
    ranked: dict[str, str] = Field(description="how the suspects of a kind are ranked, in words")
    left_out: dict[str, str] = Field(description="kinds that the run cannot have, with the reason")


class Verdicts(Model):
    """All verdicts of a run that count, oldest first."""

    run: str
    verdicts: list[VerdictInfo]
