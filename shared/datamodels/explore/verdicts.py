"""Keep what people say of examples that may be faulty: keep it, it is wrong, or it should have another label.

Verdicts are numbered records in the store, each written once. Record `number` holds the verdicts of the last
`lowest_bit(number + 1)` records, itself included, as the nodes of a Fenwick tree do. So to read all verdicts takes as
many records as the count has bits, and to add one reads and writes as few. Of two verdicts on one subject, the later
counts. Two people who add one at the same time race for the number, and who loses takes the next.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from typing import Any

from datamodels.errors import InputError
from datamodels.run import spellings
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore, decode, keys, records

LABEL, LEAK, DUPLICATE, FRAGILE = "label", "leak", "duplicate", "fragile"
KINDS = (LABEL, LEAK, DUPLICATE, FRAGILE)
"""What may be wrong: the label of a training example; a target that a training example gives away; two examples that
are the same; a target that few examples decide."""
KEEP, WRONG, FIX, OPEN = "keep", "wrong", "fix", "open"
VERDICTS = (KEEP, WRONG, FIX, OPEN)
"""Nothing is wrong; something is; the label should be another one; nobody has decided (which takes a verdict back)."""
NO_OTHER = -1
LONGEST_NOTE, LONGEST_WHO = 1000, 200
MOST_SUBJECTS = 100_000


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A verdict on a subject.

    kind    one of KINDS
    index   the training example of LABEL and DUPLICATE, the target of LEAK and FRAGILE
    other   the training example of LEAK, the other one of DUPLICATE; else NO_OTHER
    verdict  one of VERDICTS
    label   for FIX: the right label
    note    any text
    who     who says so, as the proxy in front names them; empty if nobody is named
    when    in seconds since 1970

    Raises InputError for values that do not fit each other.
    """

    kind: str
    index: int
    other: int
    verdict: str
    label: int | None
    note: str
    who: str
    when: float

    def __post_init__(self) -> None:
        for name, value, allowed in (("kind", self.kind, KINDS), ("verdict", self.verdict, VERDICTS)):
            if value not in allowed:
                raise InputError(f"{name} = {value!r:.50}: must be {', '.join(allowed)}")
        if (self.verdict == FIX) != (self.label is not None):
            raise InputError("label: must be given for the verdict fix, and for no other")
        if self.verdict == FIX and self.kind != LABEL:
            raise InputError(f"verdict = 'fix': is for a subject of the kind label, and not {self.kind}")
        if (self.kind in (LEAK, DUPLICATE)) != (self.other != NO_OTHER):
            raise InputError(f"other: must be given for leak and duplicate, and for no other kind; this is {self.kind}")
        if len(self.note) > LONGEST_NOTE or len(self.who) > LONGEST_WHO:
            raise InputError(f"note: has {len(self.note)} letters, at most {LONGEST_NOTE} are allowed")

    @property
    def subject(self) -> tuple[str, int, int]:
        """What the verdict is on."""
        return self.kind, self.index, self.other


@dataclasses.dataclass(frozen=True)
class Pins:
    """What verdicts change in the next run: training examples that it leaves out, and classes of others."""

    out: tuple[int, ...]
    relabel: dict[int, int]


def pins(verdicts: Iterable[Verdict]) -> Pins:
    """Return what follows from verdicts for the training examples.

    One whose label is wrong is left out, unless the verdict fixes the label; so are one that gives a target away, and
    the later one of two that are the same.
    """
    out, relabel = set(), {}
    for verdict in verdicts:
        match verdict.kind, verdict.verdict:
            case "label", "wrong":
                out.add(verdict.index)
            case "label", "fix" if verdict.label is not None:
                relabel[verdict.index] = verdict.label
            case "leak", "wrong":
                out.add(verdict.other)
            case "duplicate", "wrong":
                out.add(max(verdict.index, verdict.other))
    kept = {example: label for example, label in sorted(relabel.items()) if example not in out}
    return Pins(tuple(sorted(out)), kept)


def next_spec(run: Run, verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """Return the spec of the next run, as JSON values: that of a run with what verdicts change.

    Raises InputError if the columns of the run are groups of examples: no single example can be left out.
    """
    found = pins(verdicts)
    if run.design.grouped and found.out:
        raise InputError(
            f"run {run.name}: its columns are groups, so no single example can be left out of the next run"
        )
    document = spellings.today_document(run.spec.request())
    data, design = document["dataset"], document["design"]
    relabel = {int(example): label for example, label in data.get("relabel", {}).items()} | found.relabel
    if relabel:
        document["dataset"] = data | {"relabel": relabel}
    document["design"] = design | {
        "pinned_in": sorted(set(design["pinned_in"]) - set(found.out)),
        "pinned_out": sorted({*design["pinned_out"], *found.out}),
    }
    return document


def read(store: ObjectStore, run: str) -> list[Verdict]:
    """Return the verdict that counts of each subject, oldest first. Raises CorruptObjectError."""
    return [verdict for verdict in _upto(store, run, store.newest(keys.verdicts(run)) + 1) if verdict.verdict != OPEN]


def add(store: ObjectStore, run: str, verdict: Verdict) -> None:
    """Write a verdict. Raises InputError if the run has too many, CorruptObjectError, StoreError."""
    number = store.newest(keys.verdicts(run)) + 1
    while True:
        earlier = _upto(store, run, number, above=number + 1 - _lowest_bit(number + 1))
        if len(earlier) >= MOST_SUBJECTS:
            raise InputError(
                f"run {run}: has verdicts on {len(earlier):,} subjects, which is the most that one may have"
            )
        body = {"verdicts": [dataclasses.asdict(one) for one in _newest([*earlier, verdict])]}
        if records.create(store, keys.verdicts(run)(number), body):
            return
        number += 1  # another writer was first


def _upto(store: ObjectStore, run: str, count: int, above: int = 0) -> list[Verdict]:
    """Return the verdicts of the records `above <= number < count`, one for each subject, oldest first."""
    pieces: list[list[Verdict]] = []
    while count > above:
        pieces.append(_read(store, run, count - 1))
        count -= _lowest_bit(count)
    return _newest([verdict for piece in reversed(pieces) for verdict in piece])


def _read(store: ObjectStore, run: str, number: int) -> list[Verdict]:
    key = keys.verdicts(run)(number)
    body = records.read(store, key)
    with decode.decoding(f"{store.url}/{key}", "a list of verdicts"):
        return [decode.build(Verdict, one) for one in body["verdicts"]]


def _newest(verdicts: Sequence[Verdict]) -> list[Verdict]:
    last: dict[tuple[str, int, int], Verdict] = {}
    for verdict in verdicts:
        last.pop(verdict.subject, None)  # so that it moves to the end
        last[verdict.subject] = verdict
    return list(last.values())


def _lowest_bit(count: int) -> int:
    return count & -count


def as_csv(verdicts: Sequence[Verdict], label_names: Sequence[str]) -> str:
    """Return verdicts as a table. No cell begins as a formula of a spreadsheet does."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow([*(field.name for field in dataclasses.fields(Verdict)), "label_name"])
    for verdict in verdicts:
        name = "" if verdict.label is None or verdict.label >= len(label_names) else label_names[verdict.label]
        writer.writerow(list(map(_cell, [*dataclasses.astuple(verdict), name])))
    return file.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
