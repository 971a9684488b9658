"""Format object keys. No other module does.

Every object is written once and never changed, so that readers need not check its version. Manifests and fits, which
accumulate, are numbered without gaps from 0: a reader finds the newest by asking for the next number. Each stage
writes below its own prefix, so that a bucket policy can say who may write what.

::

    runs/{run}.json                                     the run: spec, design, targets, what outputs mean
    runs/{run}/meaning-{number}.json                    what outputs mean, and the names of classes, if said anew
    aggregate/{run}/parts/{first}-{last}.parquet        outputs of the models first <= index < last
    aggregate/{run}/masks/{first}-{last}.u1             masks of these subsets, for runs that were imported
    aggregate/{run}/manifest/{version}.json             the committed parts, with their sha256
    fit/{run}/{digest}/{first}-{last}.parquet           weights of the targets first <= target < last
    fit/{run}/{number}.json                             a finished fit: its blocks, with their sha256
    query/{run}/evaluation-{fit}.json                   quality of a fit on unseen subsets
    query/{run}/curve-{fit}.json                        learning curve up to a fit
    query/{run}/{analysis}-{fit}-{digest}.json          result of a long analysis of a fit; digest of its parameters
    query/{run}/stop-{number}.json                      a decision to end training before all models are trained
    preflight/{nonce}                                   the object that the preflight's writers race to create
"""

from __future__ import annotations

RUNS = "runs/"
PING = "preflight/ping"
"""An object that does not exist. Services ask for it to learn whether the store answers."""
_RUN_SUFFIX = ".json"


def run(name: str) -> str:
    return f"{RUNS}{name}{_RUN_SUFFIX}"


def run_of(key: str) -> str:
    """Return the name of the run whose record has this key."""
    return key.removeprefix(RUNS).removesuffix(_RUN_SUFFIX)


def meaning(run: str, number: int) -> str:
    return f"{RUNS}{run}/meaning-{number:06d}.json"


def parts(run: str) -> str:
    """Return the prefix of all parts of a run."""
    return f"aggregate/{run}/parts/"


def part(run: str, first: int, last: int) -> str:
    return f"{parts(run)}{first:010d}-{last:010d}.parquet"


def masks(run: str, first: int, last: int) -> str:
    return f"aggregate/{run}/masks/{first:010d}-{last:010d}.u1"


def manifest(run: str, version: int) -> str:
    return f"aggregate/{run}/manifest/{version:010d}.json"


def weights(run: str, digest: str, first: int, last: int) -> str:
    return f"fit/{run}/{digest}/{first:010d}-{last:010d}.parquet"


def fit(run: str, number: int) -> str:
    return f"fit/{run}/{number:06d}.json"


def evaluation(run: str, fit: int) -> str:
    return f"query/{run}/evaluation-{fit:06d}.json"


def curve(run: str, fit: int) -> str:
    return f"query/{run}/curve-{fit:06d}.json"


def analysis(run: str, fit: int, name: str, digest: str) -> str:
    return f"query/{run}/{name}-{fit:06d}-{digest}.json"


def stop(run: str, number: int) -> str:
    return f"query/{run}/stop-{number:06d}.json"


def preflight(nonce: str) -> str:
    return f"preflight/{nonce}"
