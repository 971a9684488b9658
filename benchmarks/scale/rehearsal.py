"""Rehearse a whole run at the size of CIFAR-10 on this machine: every stage, with the commands that people type.

    python benchmarks/scale/rehearsal.py [--size D,M,N] [--folder FOLDER] [--trainers 2] [--step NAME ...]

A trainer makes outputs from a planted sparse truth (planted.py), so that almost all of the time is that of datamodels:
sampler, trainers, aggregator, store, manifests, fit, queries, evaluation, report, export and verification, over a local
folder. Each step is a command with processes of its own; it starts services, and looks at what the steps before it did.
Prints a Markdown table: seconds by the clock of the step's own stage and of the command; models and MB per second, of
the stage if the command times it; CPU seconds of each process, and the most MB that it holds without files (RssAnon),
looked at ten times a second: of several processes of one kind, the sum and the largest.

The folder keeps the run and what is measured: stopped, the script continues with the next step. It needs about
m (d / 4 + 12 n) bytes and 4 d^2 for the Gram. --remove removes the run at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import planted
import yaml

from datamodels.fit.data import scratch
from datamodels.rpc.clients.query import QueryClient
from datamodels.run import designs, specs
from datamodels.run.designs import Design
from datamodels.run.specs import RunSpec
from datamodels.runners.local import LocalRunner
from datamodels.settings import StoreSettings

LOOK_SECONDS = 0.1
TICK = os.sysconf("SC_CLK_TCK")
CALLS = 200
"""Calls of each kind that the query service is asked."""
MASKS = 87
"""Masks of one call of `predict`."""
TOP = 10
"""Strongest planted weights of a target that are looked for among the strongest fitted ones."""


@dataclasses.dataclass
class Used:
    """CPU seconds, and the most bytes without files, of the processes of one kind."""

    cpu: float = 0.0
    bytes: int = 0
    processes: int = 0


class Watched:
    """Watches the child processes of this process, and theirs, while the body runs."""

    def __enter__(self) -> Watched:
        self._seen: dict[tuple[int, str], tuple[str, float, int]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            for pid in below(os.getpid()):
                with contextlib.suppress(OSError, ValueError, StopIteration):  # it has ended meanwhile
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    status = Path(f"/proc/{pid}/status").read_text().splitlines()
                    held = next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))
                    key = pid, fields[19]
                    most = max(held, self._seen[key][2] if key in self._seen else 0)
                    self._seen[key] = name_of(pid), (int(fields[11]) + int(fields[12])) / TICK, most

    @property
    def used(self) -> dict[str, Used]:
        """What the processes of each kind took."""
        found: dict[str, Used] = {}
        for name, cpu, held in self._seen.values():
            used = found.setdefault(name, Used())
            used.cpu, used.bytes, used.processes = used.cpu + cpu, max(used.bytes, held), used.processes + 1
        return found


def below(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that these have."""
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split()):
                yield child
                yield from below(child)


def name_of(pid: int) -> str:
    """Return the name of a service, or of a command of datamodels."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    services = [word.rpartition(".")[2] for word in words if word.startswith("datamodels.services.")]
    return services[0] if services else "command"


@dataclasses.dataclass
class Rehearsal:
    """A run in a folder, and how many trainers it has."""

    spec: RunSpec
    folder: Path
    trainers: int

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def command(self, verb: str, *arguments: str) -> dict[str, Any]:
        """Run a command of datamodels to its end, and return the JSON object that it prints."""
        words = [sys.executable, "-m", "datamodels", verb, *arguments, "--home", str(self.folder), "--json"]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout)

    def pipeline(self, verb: str) -> dict[str, Any]:
        trainers = ["--trainers", str(self.trainers)] if verb != "sample" else []
        return self.command(verb, str(self.folder / "spec.yaml"), "--quiet", *trainers)

    @property
    def mask_bytes(self) -> int:
        return self.spec.m * (self.columns // 8)

    @property
    def columns(self) -> int:
        return int(self.spec.dataset.options["examples"])

    @property
    def n(self) -> int:
        return int(self.spec.dataset.options["targets"])

    # A step returns how many models it handles, the bytes that its MB/s are about, the seconds of each stage of the
    # pipeline, and what else it finds.

    def sample(self) -> dict[str, Any]:
        found = self.pipeline("sample")
        return {"bytes": scratch.size(self.store), "of": "looks written", "inner": found["seconds"]}

    def train(self) -> dict[str, Any]:
        before = scratch.size(self.store)
        found = self.pipeline("train")
        written = scratch.size(self.store) - before
        return {
            "models": found["models"]["trained"],
            "bytes": written,
            "of": "outputs stored",
            "inner": found["seconds"],
        }

    def aggregate(self) -> dict[str, Any]:
        found = self.pipeline("aggregate")
        return {"inner": found["seconds"]}

    def fit(self) -> dict[str, Any]:
        found = self.pipeline("fit")
        read = self.mask_bytes + self.spec.m * self.n * 4
        return {"models": self.spec.m, "bytes": read, "of": "masks and outputs", "inner": found["seconds"]}

    def run(self) -> dict[str, Any]:
        found = self.pipeline("run")
        return {"inner": found["seconds"], "lds": found["lds"]["lds"], "statuses": found["statuses"]}

    def evaluate(self) -> dict[str, Any]:
        found = self.command("evaluate", self.spec.run)
        return {"lds": found["lds"]["lds"]}

    def report(self) -> dict[str, Any]:
        return {"bytes": self.command("report", self.spec.run)["bytes"], "of": "page written"}

    def query(self) -> dict[str, Any]:
        """Ask the query service some hundred questions, and compare the strongest weights with the planted ones."""
        rng, d, n = np.random.default_rng(2), self.columns, self.n
        masks = designs.subsets(Design("uniform", 3, 0.5, d), 0, MASKS)
        columns, weights, _ = planted.truth(d, n)
        found = 0.0
        store = StoreSettings(url=f"file://{self.store}")
        runner = LocalRunner(self.folder, store=store, trainers=1)
        with runner.services(("query",)) as addresses, QueryClient(addresses.query, addresses) as client:
            targets = rng.integers(n, size=CALLS).tolist()
            first = took(lambda: client.top(self.spec.run, 0, TOP))
            seconds: dict[str, list[float]] = {"top": [], "weights": [], "predict": []}
            for target in targets:
                began = time.perf_counter()
                answer = client.top(self.spec.run, target, 2 * TOP)
                seconds["top"].append(time.perf_counter() - began)
                known = {influence.column for influence in (*answer.helpful, *answer.harmful)}
                strongest = columns[target][np.argsort(-np.abs(weights[target]))[:TOP]]
                found += float(np.mean([column in known for column in strongest.tolist()])) / CALLS
                seconds["weights"].append(took(lambda t=target: list(client.weights(self.spec.run, [t]))))
            for _ in range(CALLS // 4):
                seconds["predict"].append(took(lambda: client.predict(self.spec.run, masks)))
        p50 = {kind: float(np.median(times)) for kind, times in seconds.items()}
        p99 = {kind: float(np.quantile(times, 0.99)) for kind, times in seconds.items()}
        calls = sum(map(len, seconds.values()))
        return {"first": first, "p50": p50, "p99": p99, "calls": calls, "planted_found": found}

    def export(self) -> dict[str, Any]:
        output = self.folder / "export"
        self.command("export", self.spec.run, "--format", "npy", "--output", str(output))
        size = scratch.size(output)
        shutil.rmtree(output)
        return {"models": self.spec.m, "bytes": size, "of": "arrays written"}

    def verify(self) -> dict[str, Any]:
        self.command("verify", self.spec.run)
        return {"models": self.spec.models, "bytes": scratch.size(self.store), "of": "store read"}


STEPS = ("sample", "train", "aggregate", "fit", "run", "query", "evaluate", "report", "verify", "export")


def took(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def spec_of(d: int, m: int, n: int) -> RunSpec:
    """Return the spec of a rehearsal: as that of CIFAR-10, with 100 unseen subsets of two models."""
    document = {
        "name": "rehearsal",
        "dataset": {"load": "planted:load", "options": {"examples": d, "targets": n}},
        "trainer": {"class": "planted:Planted"},
        "m": m,
        "fit": {"solver": "gram"},
    }
    return specs.parse(document)


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the table of the steps that are measured."""
    lines = [
        "| step | its stage, s | whole command, s | models/s | MB/s | of what | CPU s and MB of each process | load |",
        "|---" * 8 + "|",
    ]
    for name, f in found.items():
        stage = f.get("inner", {}).get({"run": "query"}.get(name, name))
        seconds = f["seconds"] if stage is None else stage
        models = f"{f['models'] / seconds:,.0f}" if f.get("models") else ""
        mb, of = "", ""
        if f.get("bytes"):
            mb, of = f"{f['bytes'] / seconds / 1e6:,.1f}", f"{f['bytes'] / 1e6:,.0f} MB of {f['of']}"
        used = ", ".join(
            f"{kind}{'s' * (u['processes'] > 1)} {u['cpu']:,.1f} / {u['bytes'] / 1e6:,.0f}"
            for kind, u in f["used"].items()
        )
        stage = "" if stage is None else f"{stage:,.1f}"
        lines.append(f"| {name} | {stage} | {f['seconds']:,.1f} | {models} | {mb} | {of} | {used} | {f['load']:.0f} |")
    return "\n".join(lines)


def answers(found: dict[str, dict[str, Any]]) -> str:
    """Say what the fit found, and how fast queries are answered, as far as it is measured."""
    said = []
    if "run" in found:
        said.append(f"LDS {found['run']['lds']:.3f}. Targets: {found['run']['statuses']}.")
    if "query" in found:
        f = found["query"]
        times = ", ".join(f"{kind} {1e3 * f['p50'][kind]:.1f} and {1e3 * f['p99'][kind]:.1f} ms" for kind in f["p50"])
        said.append(f"{f['calls']} calls, median and 99%: {times}; the first, which loads the fit, {f['first']:.2f} s.")
        said.append(
            f"Of the {TOP} strongest planted weights, {f['planted_found']:.1%} are among the {2 * TOP} strongest."
        )
    return "\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="50000,300000,1000", help="training examples, models and targets")
    parser.add_argument("--folder", type=Path, default=Path(".datamodels/rehearsal"))
    parser.add_argument("--trainers", type=int, default=2)
    parser.add_argument("--step", action="append", choices=STEPS, help="may be given again and again; default: all")
    parser.add_argument("--remove", action="store_true", help="remove the folder at the end")
    options = parser.parse_args()
    spec = spec_of(*map(int, options.size.split(",")))
    folder = options.folder / spec.run
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec.request()))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    os.environ["DATAMODELS_TRUST_MODULES"] = planted.__name__
    rehearsal, kept = Rehearsal(spec, folder, options.trainers), folder / "found.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    for name in options.step or STEPS:
        if name in found:
            continue
        with Watched() as watched:
            began = time.monotonic()
            result = getattr(rehearsal, name)()
            result["seconds"] = time.monotonic() - began
        result |= {"used": {k: dataclasses.asdict(u) for k, u in watched.used.items()}, "load": os.getloadavg()[0]}
        found[name] = result
        kept.write_text(json.dumps(found, indent=1))
        print(name, json.dumps(result), file=sys.stderr, flush=True)
    print(f"d = {rehearsal.columns:,}, m = {spec.m:,}, n = {rehearsal.n:,}\n\n{table(found)}\n\n{answers(found)}")
    if options.remove:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
