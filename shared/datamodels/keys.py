"""The only place that spells an object key.

Every object is written once and never changed, so a key that is there can be read without asking for its version.
What grows (manifests, fits) is numbered densely from 0: a reader finds the newest by asking for the next number.

::

    runs/{run}/run.json                                     the run: spec, design, targets
    runs/{run}/aggregate/parts/{first}-{last}.parquet       outputs of the models first <= index < last
    runs/{run}/aggregate/manifest/{version}.json            which parts there are, with their sha256
    runs/{run}/fit/{digest}/{first}-{last}.parquet          weights of the targets first <= target < last
    runs/{run}/fit/{number}.json                            a finished fit: its blocks, with their sha256
    runs/{run}/query/evaluation-{fit}.json                  how good a fit is on unseen subsets
    preflight/{nonce}                                       what the preflight of a store races for
"""

from __future__ import annotations

RUNS = "runs/"
PREFLIGHT = "preflight/"


def run(name: str) -> str:
    return f"{RUNS}{name}/run.json"


def parts(run: str) -> str:
    """Prefix of all parts of a run."""
    return f"{RUNS}{run}/aggregate/parts/"


def part(run: str, first: int, last: int) -> str:
    return f"{parts(run)}{first:010d}-{last:010d}.parquet"


def manifest(run: str, version: int) -> str:
    return f"{RUNS}{run}/aggregate/manifest/{version:010d}.json"


def weights(run: str, digest: str, first: int, last: int) -> str:
    return f"{RUNS}{run}/fit/{digest}/{first:010d}-{last:010d}.parquet"


def fit(run: str, number: int) -> str:
    return f"{RUNS}{run}/fit/{number:06d}.json"


def evaluation(run: str, fit: int) -> str:
    return f"{RUNS}{run}/query/evaluation-{fit:06d}.json"


def preflight(nonce: str) -> str:
    return f"{PREFLIGHT}{nonce}"


def run_of(key: str) -> str | None:
    """The name of the run whose `run.json` this key is, or None for other keys."""
    head, _, tail = key.removeprefix(RUNS).partition("/")
    return head if key.startswith(RUNS) and tail == "run.json" else None
