"""f6: runs are created, fitted, queried, pruned, repaired and deleted beside each other, under random kills.

    python -m tests.torture.lives [--lives 200] [--seed SEED] [--folder FOLDER]

Each life is that of one run, in a process that is killed at random times and started again, until the run is deleted.
Some lives go on in one process that nobody kills. Meanwhile this process reads all runs as services do. Every read must
end well, or say that the run is gone or that it must start again; a run must always be whole; and the memory, threads
and descriptors of the processes that live on, and the objects in the store, must stay as they are.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from datamodels.aggregate import manifest, part
from datamodels.aggregate.committer import Committer
from datamodels.analyze.quality import evaluate
from datamodels.analyze.quality.unseen import Unseen
from datamodels.cli.runs import status
from datamodels.errors import NotFoundError, NotReadyError, SupersededError
from datamodels.fit.job import finished, fits
from datamodels.fit.job.job import FitJob
from datamodels.lifecycle import compaction, objects, removal, repair, vacuum, verify
from datamodels.query.weights import WeightStore
from datamodels.run import runs
from datamodels.settings import AggregatorSettings, FitterSettings
from datamodels.storage import ObjectStore
from datamodels.storage.local import LocalStore
from datamodels.testing import committed

KILLED, SPARED = 3, 1
"""Lives at a time whose processes are killed, and those whose process is not."""
MOST_KILLS = 12
"""Kills of one life; then it may end."""
SLACK = 24 * 2**20
"""Bytes by which the memory of a process may grow: those of its caches, which are full after some lives."""


class Life:
    """The life of one run, in steps that can each be repeated. A file says which are done."""

    def __init__(self, folder: Path, number: int):
        self.store: ObjectStore = LocalStore(folder / "store")
        self.run = committed.make_run(name=f"life{number}", m=60, fit={"estimator": "difference"})
        self.name = self.run.name
        self._settings = FitterSettings(scratch=str(folder / f"scratch-{number}"), device="cpu", threads=1)
        self._done = folder / f"done-{number}"

    @property
    def steps(self) -> tuple[Callable[[], None], ...]:
        return self.train, self.fit, self.query, self.keep, self.check, self.repair, self.check, self.end

    def live(self) -> None:
        before = len(self._done.read_text().split()) if self._done.exists() else 0
        for step in self.steps[before:]:
            step()
            with self._done.open("a") as file:
                file.write(f"{step.__name__}\n")

    def train(self) -> None:
        with Committer(self.store, AggregatorSettings(publish_interval=0)) as committer:
            committer.create(self.run)
            for chunk in range(self.run.spec.chunks):
                for models in self.run.spec.sub_chunks(self.run.spec.chunk_range(chunk)):
                    index = np.array(models, dtype=np.int32)
                    outputs = committed.outputs_of(self.run, index.tolist())
                    committer.put(part.validate(self.run, models, index, outputs))
            committer.publish(self.name)  # as a driver does: what the committer's thread cannot publish, it tries later

    def fit(self) -> None:
        for settings in ({"estimator": "difference"}, {"estimator": "difference", "holdout": 0.2}):
            job = FitJob(self.store, self.name, self.run.with_fit(settings).spec.fit.model_dump(mode="json"))
            job.solve(self._settings, progress=lambda *progress: None, stop=threading.Event())

    def query(self) -> None:
        record = finished.require_fit(self.store, self.name)
        unseen = Unseen.read(self.run, manifest.read_newest(self.store, self.name), self.store)
        predicted = unseen.predicted_by(fits.load(self.store, record))
        evaluate.record(self.store, self.name, record.number, predicted.evaluate(resamples=20))

    def keep(self) -> None:
        compaction.compact(self.store, self.name)
        removal.make_whole(self.store, self.name)
        found = objects.of_run(self.store, self.name)
        known = objects.references(self.store, found)
        removal.remove(self.store, removal.pruning(found, known, keep=1, ended=time.time() + 1))
        for days in (2, 4):  # as if a day passed in between: whoever reads meanwhile has no time at all
            now = time.time() + days * objects.DAY
            vacuum.vacuum(self.store, vacuum.find(self.store, objects.of_run(self.store, self.name), now=now))

    def check(self) -> None:
        faults = list(verify.verify(self.store, objects.of_run(self.store, self.name)))
        snapshot = manifest.read_newest(self.store, self.name)
        assert not faults, faults
        assert snapshot.committed == snapshot.rows == self.run.spec.models, snapshot.ranges
        for outputs in snapshot.outputs(self.store):
            expected = committed.outputs_of(self.run, outputs.model_index.tolist())
            np.testing.assert_array_equal(outputs.outputs, expected)
        assert len(finished.numbers(self.store, self.name)) == 1  # a fit made again has another number

    def repair(self) -> None:
        repair.retire(self.store, self.name, repair.faulty(self.store, self.name, range(5, 25)))
        self.train()

    def end(self) -> None:
        removal.remove(self.store, removal.deletion(objects.of_run(self.store, self.name)))
        assert not objects.of_run(self.store, self.name).entries


@dataclasses.dataclass
class Result:
    """What the lives have done and found, as `tests.torture.rows.Result`."""

    outcomes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faults: list[str] = dataclasses.field(default_factory=list)
    figures: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Use:
    """What a process uses."""

    memory: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int | str = "self") -> Use:
        text = Path(f"/proc/{pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        return cls(int(lines["VmRSS"].split()[0]) * 1024, int(lines["Threads"]), descriptors)


class Zygote:
    """A process with all modules imported, which forks one for each life, so that a kill costs no imports."""

    def __init__(self, folder: Path, *, spare: bool):
        arguments = [sys.executable, "-m", "tests.torture.lives", "--zygote", str(folder), *["--spare"] * spare]
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid

    def start(self, number: int) -> int:
        """Begin or continue a life. Returns the id of its process."""
        print(number, file=self._process.stdin, flush=True)
        return int(self._line())

    def wait(self) -> str:
        """Return how the process ended: 0, -9, or what went wrong."""
        return self._line()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _line(self) -> str:
        return self._process.stdout.readline().strip() or "the zygote ended"


def zygote(folder: Path, spare: bool) -> None:
    """Serve a Zygote: read numbers of lives, and live them in forked processes, or in this one if it is spared."""
    for line in sys.stdin:
        child = 0 if spare else os.fork()
        if child:
            print(child, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        if spare:
            print(os.getpid(), flush=True)
        code: object = 0
        try:
            Life(folder, int(line)).live()
        except BaseException:  # noqa: BLE001 - whatever it is, it is a fault
            code = " ".join(traceback.format_exc().split())
            if not spare:
                (folder / f"fault-{int(line)}").write_text(str(code))
        if not spare:
            os._exit(code != 0)
        print(code, flush=True)


class Lives:
    """Lives runs beside each other, and reads them."""

    def __init__(self, folder: Path, seed: int, numbers: Iterable[int]):
        self._folder, self._seed = folder, seed
        self._numbers, self._lock = iter(numbers), threading.Lock()
        self._store = LocalStore(folder / "store")
        self._ended = threading.Event()
        self._uses: dict[str, list[Use]] = collections.defaultdict(list)
        self._most = 0
        self.result = Result()

    def _count(self, *what: str) -> None:
        with self._lock:
            self.result.outcomes.update(what)

    def _fault(self, text: str) -> None:
        with self._lock:
            self.result.faults.append(text)

    def _next(self) -> int | None:
        with self._lock:
            return next(self._numbers, None)

    def killed(self, slot: int) -> None:
        """Live runs whose processes are killed."""
        rng, born = random.Random(f"{self._seed}/{slot}"), Zygote(self._folder, spare=False)
        while (number := self._next()) is not None:
            for kill in range(MOST_KILLS + 1):
                pid = born.start(number)
                timer = threading.Timer(rng.expovariate(4), self._kill, [pid])
                if kill < MOST_KILLS:
                    timer.start()
                how = born.wait()
                timer.cancel()
                if how == "0":
                    self._count("lives ended")
                    break
                if how != "-9":
                    fault = self._folder / f"fault-{number}"
                    self._fault(f"life {number}: {fault.read_text() if fault.exists() else how}")
                    break
                self._count("kills")
        born.close()

    @staticmethod
    def _kill(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def spared(self) -> None:
        """Live runs in one process that nobody kills."""
        born = Zygote(self._folder, spare=True)
        while (number := self._next()) is not None:
            born.start(number)
            how = born.wait()
            self._count("lives ended")
            if how != "0":
                self._fault(f"life {number}: {how}")
            self._uses["process of lives"].append(Use.of(born.pid))
        born.close()

    def read(self) -> None:
        """Read all runs, over and over, as the aggregator and the query service do."""
        committer, weights = Committer(self._store), WeightStore(self._store, refresh=0)
        while not self._ended.wait(0.05):
            self._most = max(self._most, sum(1 for _ in self._store.list("")))
            for name in runs.names(self._store):
                for what in (
                    lambda name: committer.progress(name),
                    lambda name: [*manifest.read_newest(self._store, name).outputs(self._store)],
                    lambda name: weights.fitted(name),
                    lambda name: fits.load(self._store, finished.require_fit(self._store, name)),
                    lambda name: status.document(self._store, runs.read(self._store, name), every=True),
                ):
                    try:
                        what(name)
                        self._count("reads that ended well")
                    except (NotFoundError, NotReadyError):
                        self._count("reads of what was not there yet, or no longer")
                    except SupersededError:
                        self._count("reads that were told to start again")
                    except Exception:  # noqa: BLE001 - whatever else it is, it is a fault
                        self._fault(f"{name}: {traceback.format_exc()}")
            self._uses["process that reads"].append(Use.of())

    def live(self) -> Result:
        reader = threading.Thread(target=self.read)
        slots = [threading.Thread(target=self.killed, args=[slot]) for slot in range(KILLED)]
        slots += [threading.Thread(target=self.spared) for _ in range(SPARED)]
        for thread in (reader, *slots):
            thread.start()
        for thread in slots:
            thread.join()
        self._ended.set()
        reader.join()
        self._judge()
        return self.result

    def _judge(self) -> None:
        left = list(self._store.list(""))
        if left:
            self._fault(f"{len(left)} objects are left, {left[0]} the first")
        figures = self.result.figures
        figures["objects, at most and in the end"] = f"{self._most}, {len(left)}"
        for what, uses in self._uses.items():
            if len(uses) < 4:
                continue
            early, late = uses[len(uses) // 4 : len(uses) // 2 or 1], uses[-(len(uses) // 4) :]
            for field in ("memory", "threads", "descriptors"):
                before, after = (sorted(getattr(use, field) for use in some) for some in (early, late))
                lowest, last = before[len(before) // 2], after[len(after) // 2]
                shown = [f"{v / 2**20:.0f} MiB" if field == "memory" else str(v) for v in (lowest, last)]
                figures[f"{what}: {field}"] = " to ".join(shown)
                if last > lowest + (SLACK if field == "memory" else 2):
                    self._fault(f"{what}: {field} grew from {shown[0]} to {shown[1]}")


def run(folder: Path, seed: int, budget: Iterable[int]) -> Result:
    """Live runs in a folder, one for each item of the budget, which may have any number."""
    return Lives(folder, seed, budget).live()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lives", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--zygote", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--spare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.zygote:
        zygote(options.zygote, options.spare)
        return 0
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        result = run(options.folder or Path(temporary), options.seed, range(options.lives))
    for title, figure in (*sorted(result.outcomes.items()), *result.figures.items()):
        print(f"  {title:<48}{figure:>24}")
    for fault in result.faults:
        print(f"  FAULT {fault[:3000]}")
    print(f"  faults: {len(result.faults)}")
    return int(bool(result.faults))


if __name__ == "__main__":
    sys.exit(main())
