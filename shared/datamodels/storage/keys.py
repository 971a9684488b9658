"""Format object keys. No other module does.

Every object is written once and never changed, so that readers need not check its version. Manifests and fits, which
accumulate, are numbered without gaps from 0: a reader finds the newest by asking for the next number. Each stage
writes below its own prefix, so that a bucket policy can say who may write what.

::

    runs/{run}.json                                     the run: spec, design, targets, what outputs mean
    runs/{run}/meaning-{number}.json                    what outputs mean, and the names of classes, if said anew
    runs/{run}/features-{digest}.json                   features and labels of examples, if an estimator compares them
    runs/{run}/examples/{sha256}.npy                    a block of rows of such an array
    runs/{run}/display.json                             how examples look: chunks, with their sha256
    runs/{run}/display/{role}-{first}-{last}-{nonce}.parquet  labels, pictures, texts and rows of some of them
    runs/{run}/gradients/{digest}.json                  scores by gradients of some models: blocks, with their sha256
    runs/{run}/gradients/{digest}/{first}-{last}-{sha}.npy  those of the targets first <= target < last
    aggregate/{run}/parts/{first}-{last}.parquet        outputs of the models first <= index < last
    aggregate/{run}/parts/{first}-{last}-{n}.parquet    the same, after n earlier parts of these models were retired
    aggregate/{run}/merged/{first}-{last}-{digest}.parquet  several such parts in one; digest of their sha256
    aggregate/{run}/masks/{first}-{last}.u1             masks of these subsets, for runs that were imported
    aggregate/{run}/manifest/{version}.json             the committed parts, with their sha256
    fit/{run}/{digest}/{first}-{last}.parquet           weights of the targets first <= target < last
    fit/{run}/{number}.json                             a finished fit: its blocks, with their sha256
    query/{run}/evaluation-{fit}.json                   quality of a fit on unseen subsets
    query/{run}/curve-{fit}.json                        learning curve up to a fit
    query/{run}/report-{fit}.json                       report that a cluster's driver made of a fit
    query/{run}/{analysis}-{fit}-{digest}.json          result of a long analysis of a fit; digest of its parameters
    query/{run}/stop-{number}.json                      a decision to end training before all models are trained
    query/{run}/verdict-{number}.json                   what people say of examples that may be faulty
    upkeep/{run}/unused-{number}.json                   objects that nothing refers to, and since when
    preflight/{nonce}                                   the object that the preflight's writers race to create
"""

from __future__ import annotations

import dataclasses
import re

RUNS = "runs/"
PING = "preflight/ping"
"""An object that does not exist. Services ask for it to learn whether the store answers."""
_RUN_SUFFIX = ".json"


@dataclasses.dataclass(frozen=True)
class Numbered:
    """Keys of numbered records: called with a number, it returns the key.

    prefix  what the keys begin with; the number follows
    digits  number of its digits
    """

    prefix: str
    digits: int
    suffix: str = ".json"

    def __call__(self, number: int) -> str:
        return f"{self.prefix}{number:0{self.digits}d}{self.suffix}"

    def number(self, key: str) -> int | None:
        """Return the number of a key, or None if it is another one's."""
        text = key.removeprefix(self.prefix).removesuffix(self.suffix)
        return int(text) if text.isdecimal() and text.isascii() and self(int(text)) == key else None


def run(name: str) -> str:
    return f"{RUNS}{name}{_RUN_SUFFIX}"


def run_of(key: str) -> str:
    """Return the name of the run whose record has this key."""
    return key.removeprefix(RUNS).removesuffix(_RUN_SUFFIX)


def beside(run: str) -> str:
    """Return the prefix of what is stored beside the record of a run."""
    return f"{RUNS}{run}/"


def meanings(run: str) -> Numbered:
    return Numbered(f"{RUNS}{run}/meaning-", 6)


def meaning(run: str, number: int) -> str:
    return meanings(run)(number)


def features(run: str, digest: str) -> str:
    return f"{RUNS}{run}/features-{digest}.json"


def examples(run: str, sha256: str) -> str:
    return f"{RUNS}{run}/examples/{sha256}.npy"


def display(run: str) -> str:
    return f"{RUNS}{run}/display.json"


def looks(run: str, role: str, first: int, last: int, nonce: str) -> str:
    return f"{RUNS}{run}/display/{role}-{first:010d}-{last:010d}-{nonce}.parquet"


def parts(run: str) -> str:
    """Return the prefix of all parts of a run."""
    return f"aggregate/{run}/parts/"


def part(run: str, first: int, last: int, retired: int = 0) -> str:
    """Return the key of a sub-chunk's part. retired: how many earlier parts of the sub-chunk do not count anymore."""
    return f"{parts(run)}{first:010d}-{last:010d}{f'-{retired:04d}' * bool(retired)}.parquet"


def merged(run: str, first: int, last: int, digest: str) -> str:
    return f"{merges(run)}{first:010d}-{last:010d}-{digest}.parquet"


def merges(run: str) -> str:
    """Return the prefix of all parts of a run that others were merged into."""
    return f"aggregate/{run}/merged/"


def models_of(run: str, key: str) -> range | None:
    """Return the models of a part by its key, as it came or merged; None if the key is none of a part of the run."""
    first, _, last = key.rpartition("/")[2][:21].partition("-")
    models = range(int(first), int(last)) if first.isdecimal() and last.isdecimal() else range(0)
    return models if is_part(run, key, models.start, models.stop) else None


def is_part(run: str, key: str, first: int, last: int) -> bool:
    """Return whether a key is one of a part with these models, as they came or merged."""
    stem, found = f"{first:010d}-{last:010d}", key.rpartition("/")
    rest = found[2].removesuffix(".parquet").removeprefix(stem)
    known = f"{found[0]}/" in (parts(run), merges(run)) and found[2] == f"{stem}{rest}.parquet"
    return known and (not rest or rest[0] == "-")


def masks(run: str, first: int, last: int) -> str:
    return f"aggregate/{run}/masks/{first:010d}-{last:010d}.u1"


def manifests(run: str) -> Numbered:
    return Numbered(f"aggregate/{run}/manifest/", 10)


def manifest(run: str, version: int) -> str:
    return manifests(run)(version)


def gradient_block(run: str, digest: str, first: int, last: int, sha256: str) -> str:
    return f"{RUNS}{run}/gradients/{digest}/{first:010d}-{last:010d}-{sha256[:16]}.npy"


def gradients(run: str, digest: str) -> str:
    return f"{RUNS}{run}/gradients/{digest}.json"


def weights(run: str, digest: str, first: int, last: int) -> str:
    return f"fit/{run}/{digest}/{first:010d}-{last:010d}.parquet"


def fits(run: str) -> Numbered:
    return Numbered(f"fit/{run}/", 6)


def fit(run: str, number: int) -> str:
    return fits(run)(number)


def evaluation(run: str, fit: int) -> str:
    return f"query/{run}/evaluation-{fit:06d}.json"


def curve(run: str, fit: int) -> str:
    return f"query/{run}/curve-{fit:06d}.json"


def report(run: str, fit: int) -> str:
    return f"query/{run}/report-{fit:06d}.json"


def analysis(run: str, fit: int, name: str, digest: str) -> str:
    return f"query/{run}/{name}-{fit:06d}-{digest}.json"


def stops(run: str) -> Numbered:
    return Numbered(f"query/{run}/stop-", 6)


def stop(run: str, number: int) -> str:
    return stops(run)(number)


def verdicts(run: str) -> Numbered:
    return Numbered(f"query/{run}/verdict-", 6)


def preflight(nonce: str) -> str:
    return f"preflight/{nonce}"


def unused(run: str) -> Numbered:
    return Numbered(f"upkeep/{run}/unused-", 6)


STAGES = ("runs", "aggregate", "fit", "query", "upkeep")
"""First parts of the keys of runs."""


def prefixes(name: str) -> list[str]:
    """Return prefixes that all objects of a run, and no others, have."""
    return [run(name), *(f"{stage}/{name}/" for stage in STAGES)]


def owner(key: str) -> str:
    """Return the name of the run that an object belongs to; empty if it belongs to none."""
    stage, _, rest = key.partition("/")
    name, slash, _ = rest.partition("/")
    return "" if stage not in STAGES else name if slash else run_of(key) if stage == "runs" else ""


_NUMBERS = r"\d{10}-\d{10}"
_KINDS = {
    "run": r"runs/[^/]+\.json",
    "meaning": r"runs/[^/]+/meaning-\d{6}\.json",
    "display": r"runs/[^/]+/display\.json",
    "looks": rf"runs/[^/]+/display/[a-z]+-{_NUMBERS}-[0-9a-f]+\.parquet",
    "listing": r"runs/[^/]+/(features-[0-9a-f]+(-absent)?|gradients/[0-9a-f]+)\.json",
    "block": rf"runs/[^/]+/(examples/|gradients/[0-9a-f]+/{_NUMBERS}-)[0-9a-f]+\.npy",
    "data": r"runs/[^/]+/.+",
    "manifest": r"aggregate/[^/]+/manifest/\d{10}\.json",
    "part": rf"aggregate/[^/]+/parts/{_NUMBERS}(-\d{{4}})?\.parquet",
    "merged": rf"aggregate/[^/]+/merged/{_NUMBERS}-[0-9a-f]+\.parquet",
    "masks": rf"aggregate/[^/]+/masks/{_NUMBERS}\.u1",
    "fit": r"fit/[^/]+/\d{6}\.json",
    "weights": rf"fit/[^/]+/[0-9a-z]+/{_NUMBERS}\.parquet",
    "verdict": r"query/[^/]+/verdict-\d{6}\.json",
    "stop": r"query/[^/]+/stop-\d{6}\.json",
    "answer": r"query/[^/]+/[a-z_]+-(?P<fit>\d{6})(-[0-9a-f]+)?\.json",
    "unused": r"upkeep/[^/]+/unused-\d{6}\.json",
}


def kind(key: str) -> str:
    """Return what an object is: a name in `_KINDS`.

    Evaluations, curves, analyses and reports are `answer`. What lists features or gradients is `listing`, and what it
    lists is `block`. Whatever else is beside the record of a run is `data`.

    Returns an empty string for keys that this module does not make.
    """
    return next((name for name, shape in _KINDS.items() if re.fullmatch(shape, key)), "")


def fit_of(key: str) -> int:
    """Return the number of the fit that an answer is of."""
    found = re.fullmatch(_KINDS["answer"], key)
    if found is None:
        raise ValueError(f"{key}: is no answer")
    return int(found["fit"])


def folder(key: str) -> str:
    """Return the key up to its last slash: for the weights of a fit, what all its blocks have in common."""
    return key.rpartition("/")[0]
