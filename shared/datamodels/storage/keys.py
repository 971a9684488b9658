"""The only place that spells an object key.

Every object is written once and never changed, so a key that is there can be read without asking for its version.
What grows (manifests, fits) is numbered densely from 0: a reader finds the newest by asking for the next number.
Each stage writes below its own prefix, so that a bucket policy can say who may write what.

::

    runs/{run}.json                                     the run: spec, design, targets
    aggregate/{run}/parts/{first}-{last}.parquet        outputs of the models first <= index < last
    aggregate/{run}/manifest/{version}.json             which parts there are, with their sha256
    fit/{run}/{digest}/{first}-{last}.parquet           weights of the targets first <= target < last
    fit/{run}/{number}.json                             a finished fit: its blocks, with their sha256
    query/{run}/evaluation-{fit}.json                   how good a fit is on unseen subsets
    query/{run}/curve-{fit}.json                        the learning curve up to a fit
    query/{run}/{analysis}-{fit}-{digest}.json          the answer of a long analysis of a fit, for these parameters
    query/{run}/stop-{number}.json                      a decision to end training before all models are trained
    preflight/{nonce}                                   what the preflight of a store races for
"""

from __future__ import annotations

RUNS = "runs/"
_RUN_SUFFIX = ".json"


def run(name: str) -> str:
    return f"{RUNS}{name}{_RUN_SUFFIX}"


def run_of(key: str) -> str:
    """The name of the run whose key this is."""
    return key.removeprefix(RUNS).removesuffix(_RUN_SUFFIX)


def parts(run: str) -> str:
    """Prefix of all parts of a run."""
    return f"aggregate/{run}/parts/"


def part(run: str, first: int, last: int) -> str:
    return f"{parts(run)}{first:010d}-{last:010d}.parquet"


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
