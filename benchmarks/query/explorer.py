"""Measure the explorer on a large made-up run: seconds of each kind of request, CPU time, and memory.

    PYTHONPATH=. python benchmarks/query/explorer.py [--size D,N,WEIGHTS] [--requests 100] [--pictures 16]

The run is a fit in a local folder: N targets with about WEIGHTS weights each, over D training examples, all with
pictures and titles. The explorer is one process; one client asks over loopback, a different question each time. The
first request of a kind is measured by itself, because it makes a table. If there is a Chromium, pages are opened in it.
On a machine with other load, compare the CPU time.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from clients import memory
from service import make_fit, process

from datamodels.display import stored
from datamodels.storage.local import LocalStore
from datamodels.train import Dataset
from tests.services.explorer import browser

TOKEN = "a-token-for-the-benchmark"
LIMIT_SECONDS, LIMIT_MB = 0.2, 1500.0
"""What the explorer promises: seconds of any filter, sort or pick, and memory at most."""
FIELDS = ("predicted", "heldout_r2", "nonzeros", "strongest", "helpful", "harmful", "gap", "intercept", "lambda")


def write_looks(folder: Path, run, side: int) -> int:
    """Store pictures of side x side pixels in colour, and titles, of all examples. Returns their bytes."""
    d, n = run.design.examples, run.n
    pixels = np.random.default_rng(1).integers(0, 256, (d + n, side * side * 3), dtype=np.uint8)
    data = Dataset(
        pixels[:d],
        np.arange(d) % 10,
        pixels[d:],
        np.arange(n) % 10,
        image_shape=(side, side, 3),
        image_max=255.0,
        titles=[f"train/{i:06d}.png" for i in range(d)],
        titles_test=[f"test/{i:06d}.png" for i in range(n)],
    )
    store = LocalStore(folder)
    stored.write(store, run, data)
    record = stored.read_record(store, run.name)
    assert record is not None
    return sum(chunk.bytes for chunk in record.chunks)


def questions(d: int, n: int) -> dict[str, Callable[[int], str]]:
    """Return the path of question number i of each kind, below that of the run."""
    rng = np.random.default_rng(2)
    targets, columns = rng.integers(n, size=1000), rng.integers(d, size=1000)
    return {
        "the run, which prepares its tables": lambda i: "",
        "targets, sorted": lambda i: (
            f"/targets?sort={'-' * (i % 2)}{FIELDS[i % len(FIELDS)]}&limit=100&offset={37 * i}"
        ),
        "targets, filtered and sorted": lambda i: (
            f"/targets?where=label={i % 10}&where=heldout_r2%3E={i % 7 / 10}&sort=-{FIELDS[i % len(FIELDS)]}"
        ),
        "targets, searched": lambda i: f"/targets?search={i:04d}",
        "targets, far down": lambda i: f"/targets?sort=strongest&offset={n - 100 - i}&limit=100",
        "one target": lambda i: f"/targets/{targets[i]}",
        "examples, sorted": lambda i: f"/columns?sort={'-' * (i % 2)}{('mean', 'strongest', 'targets')[i % 3]}",
        "one example: which targets does it move": lambda i: f"/columns/{columns[i]}",
        "a picture": lambda i: f"/targets/{targets[i]}/picture",
        "one field of all targets": lambda i: f"/targets/values?field={FIELDS[i % len(FIELDS)]}",
        "similar targets": lambda i: f"/targets/{targets[i]}/similar",
        "support": lambda i: f"/targets/{targets[i]}/support",
        "findings": lambda i: "/findings",
        "findings of a target": lambda i: f"/targets/{targets[i]}/findings",
    }


def cpu(pid: int) -> float:
    """CPU time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(address: str, path: str) -> bytes:
    """Return the answer to a request."""
    with contextlib.closing(http.client.HTTPConnection(address, timeout=1200)) as connection:
        connection.request("GET", path, headers={"authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        body = answer.read()
    assert answer.status == 200 and body, (path, answer.status, body[:300])
    return body


def measure(address: str, pid: int, run: str, d: int, n: int, requests: int) -> Iterator[dict]:
    """Yield the figures of each kind of request."""
    connection = http.client.HTTPConnection(address, timeout=600)

    def ask(path: str) -> float:
        began = time.perf_counter()
        connection.request("GET", f"/api/v1/runs/{run}{path}", headers={"authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200 and body, (path, answer.status, body[:300])
        return time.perf_counter() - began

    for name, path in questions(d, n).items():
        first, before = ask(path(0)), cpu(pid)
        times = [ask(path(i)) for i in range(1, requests + 1)]
        yield {
            "what": name,
            "first": first,
            "p50": float(np.median(times)),
            "p99": float(np.quantile(times, 0.99)),
            "cpu": (cpu(pid) - before) / requests,
            "mb": memory(pid)["now"],
        }


PAGES = {
    "/targets?sort=-strongest": "document.querySelector('.all .line a')",
    "/columns?sort=-targets": "document.querySelector('.all .line a')",
    "/targets/7": "document.querySelector('.card')",
    "/map?by=predicted": "document.querySelector('.legend li') && document.querySelector('canvas').width > 300",
}
"""Pages below that of the run, and when each has its content."""


def painted(address: str, run: str, profile: Path) -> Iterator[tuple[str, float, float]]:
    """Yield (page, milliseconds to its first paint, and to its content) in a headless Chromium."""
    with browser.opened(profile) as page:
        page.look(1280, 800, "light")
        page.visit(f"http://{address}/?token={TOKEN}", "document.querySelector('main table a')")
        for path, content in PAGES.items():
            page.visit(f"http://{address}/runs/{run}{path}", content)
            now = page.run("performance.now()")
            yield path, page.run("performance.getEntriesByName('first-contentful-paint')[0].startTime"), now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="50000,60000,100")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=16, help="pixels of a side")
    options = parser.parse_args()
    d, n, weights = map(int, options.size.split(","))
    os.environ["DATAMODELS_EXPLORER_TOKEN"] = TOKEN
    with tempfile.TemporaryDirectory() as folder:
        run, solution = make_fit(Path(folder), d, n, weights)
        looks = write_looks(Path(folder), run, options.pictures)
        print(f"{n:,} targets x {d:,} examples, {len(solution.weights):,} weights, {looks / 1e6:.0f} MB of looks")
        with process(Path(folder), "-m", "datamodels.services.explorer") as served:
            print(f"it served after {served.seconds:.1f} s, with {memory(served.pid)['now']:.0f} MB\n")
            print("| request | first, ms | p50, ms | p99, ms | CPU, ms | MB after |\n|---|---|---|---|---|---|")
            slow = []
            for found in measure(served.address, served.pid, run.name, d, n, options.requests):
                times = " | ".join(f"{1000 * found[name]:.1f}" for name in ("first", "p50", "p99", "cpu"))
                print(f"| {found['what']} | {times} | {found['mb']:.0f} |", flush=True)
                slow += [found["what"]] if found["cpu"] > LIMIT_SECONDS else []
            for kind in ("targets", "columns"):
                began = time.perf_counter()
                found = ask(served.address, f"/api/v1/runs/{run.name}/analyses/map?columns={kind == 'columns'}")
                seconds, now = time.perf_counter() - began, memory(served.pid)["now"]
                what = f"map of {kind}, {len(found) / 1e6:.1f} MB, once for a fit"
                print(f"| {what} | {1000 * seconds:.0f} | | | | {now:.0f} |", flush=True)
            if browser.PATH:
                print("\n| page | first paint, ms | its content, ms |\n|---|---|---|")
                for page, paint, content in painted(served.address, run.name, Path(folder) / "profile"):
                    print(f"| {page} | {paint:.0f} | {content:.0f} |", flush=True)
            peak = memory(served.pid)["peak"]
    print(f"\npeak memory {peak:.0f} MB; limits: {LIMIT_SECONDS} s of CPU, {LIMIT_MB:.0f} MB")
    print(json.dumps({"slow": slow, "peak_mb": round(peak)}))
    raise SystemExit(bool(slow) or peak > LIMIT_MB)


if __name__ == "__main__":
    main()
