"""Compare types and encodings for the outputs of models: size, speed, who can read them, and the LDS that is left.

    python benchmarks/fit/storage.py [--m 3000] [--quick]

Trains the networks of the example digits once. "As they are" are their margins; the other rows are the same margins in
other units. "float16, shifted" subtracts from each target the mean of the first 100 models and divides by their
deviation before it rounds. Prints Markdown; docs/benchmarks/storage.md keeps it.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import itertools
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodels import fit_arrays
from datamodels.analyze.quality.evaluate import evaluate
from datamodels.run import designs, precision, runs, specs
from datamodels.run.runs import Run
from datamodels.train.batches import Batches
from datamodels.train.contract import load_trainer
from datamodels.train.observer import Observer

UNITS = {
    "as they are": (1, 0),
    "times 0.1, plus 1,000": (0.1, 1000),
    "times 1e-8": (1e-8, 0),
    "plus 30,000": (1, 30_000),
}
REPEATS = 3
TARGETS = 12_000
"""Targets of the part whose size and speed are measured: those of the digits, repeated for other models."""
MODELS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", type=int, default=3_000, help="models that the fit uses")
    parser.add_argument("--quick", action="store_true", help="few models, and a small part")
    options = parser.parse_args()
    m, targets = (300, 1000) if options.quick else (options.m, TARGETS)
    document = specs.load("digits").document()
    spec = specs.parse(document | {"m": m, "evaluate": {"subsets": 50, "models": 10}})
    run = runs.resolve(spec, runs.load_dataset(spec))
    outputs = trained(run)
    types(run, outputs)
    encodings(part(outputs, targets))


def trained(run: Run) -> np.ndarray:
    """Train all models of a run; return their outputs, float64[models, n]."""
    dataset = runs.load_dataset(run.spec)
    trainer = load_trainer(run.spec, dataset, dataset.targets(run.spec.targets))
    subsets = [run.design.members(designs.subset(run.design, run.spec.subset_index(i))) for i in range(run.spec.models)]
    batches = Batches(run, trainer, threading.Event(), Observer())
    return batches.train(range(run.spec.models), subsets).astype(np.float64)


def types(run: Run, outputs: np.ndarray) -> None:
    """Print the LDS that each type leaves of the outputs in each unit, and the seconds that the fit takes."""
    m, s = run.spec.m, run.spec.evaluate
    masks = designs.unpack(designs.subsets(run.design, 0, m + s.subsets), run.design.columns)
    fit_arrays(masks[:200], outputs[:200, :2])  # compiles
    print("| outputs | type | coarse targets | LDS | seconds of the fit |\n|---|---|---|---|---|")
    for unit, (scale, mean) in UNITS.items():
        given = outputs * scale + mean
        for name, stored in STORED.items():
            values = stored(given)
            started = time.perf_counter()
            solution = fit_arrays(masks[:m], values[:m])
            seconds = time.perf_counter() - started
            unseen = given[m:].reshape(s.subsets, s.models, -1)
            lds = evaluate(solution.predict(masks[m:]), unseen, resamples=1).lds
            coarse = int(precision.spread(given, name).coarse.sum()) if name in precision.DTYPES else "-"
            print(f"| {unit} | {name} | {coarse} | {lds:.3f} | {seconds:.1f} |", flush=True)


def shifted(outputs: np.ndarray) -> np.ndarray:
    mean, deviation = outputs[:100].mean(axis=0), outputs[:100].std(axis=0)
    return ((outputs - mean) / deviation).astype(np.float16).astype(np.float64) * deviation + mean


STORED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "float16": lambda outputs: precision.stored(outputs, "float16").astype(np.float32),
    "float16, shifted": shifted,
    "float32": lambda outputs: precision.stored(outputs, "float32"),
}


def part(outputs: np.ndarray, targets: int) -> np.ndarray:
    """Return float32[MODELS, targets]: outputs of models on the digits, beside those of other models."""
    copies = -(-targets // outputs.shape[1])
    wide = [outputs[MODELS * i : MODELS * (i + 1)] for i in range(min(copies, len(outputs) // MODELS))]
    return np.concatenate(wide, axis=1)[:, :targets].astype(np.float32)


def encodings(values: np.ndarray) -> None:
    """Print what a part of these outputs takes in each encoding, and which programs read it."""
    print(f"\nA part of {len(values)} models and {values.shape[1]:,} targets:\n")
    print(f"| type | encoding | compression | MB | write ms | read ms | {' | '.join(READERS)} |")
    print("|---" * (6 + len(READERS)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.parquet"
        for dtype, split, compression in itertools.product(precision.DTYPES, (True, False), ("zstd", "none")):
            kept = values.astype(dtype)
            write = shortest(functools.partial(write_part, kept, path, split, compression))
            read = shortest(functools.partial(pq.read_table, path, use_threads=False))
            found = " | ".join(judged(reader, path, kept) for reader in READERS.values())
            encoding, size = "split by bytes" if split else "plain", path.stat().st_size / 1e6
            row = f"{dtype} | {encoding} | {compression} | {size:.2f} | {write:.0f} | {read:.0f} | {found}"
            print(f"| {row} |", flush=True)


def write_part(values: np.ndarray, path: Path, split: bool, compression: str) -> None:
    kind = pa.list_(pa.field("element", pa.from_numpy_dtype(values.dtype), nullable=False), values.shape[1])
    margins = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)
    fields = [pa.field("model_index", pa.int32(), nullable=False), pa.field("margins", kind, nullable=False)]
    table = pa.table([pa.array(np.arange(len(values)), pa.int32()), margins], schema=pa.schema(fields))
    columns = ["margins.list.element"] if split else False
    pq.write_table(
        table,
        path,
        compression=compression,
        use_dictionary=False,
        use_byte_stream_split=columns,
        write_page_checksum=True,
    )


def shortest(work: Callable[[], object]) -> float:
    """Return the least milliseconds of some tries."""
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return 1000 * min(found)


def judged(reader: Callable[[Path], list], path: Path, expected: np.ndarray) -> str:
    """Say how many milliseconds another program takes to read a part, or why it does not."""
    try:
        milliseconds = shortest(lambda: reader(path))
        found = np.array(reader(path), dtype=np.float32)
    except ImportError:
        return "not installed"
    except Exception as error:  # noqa: BLE001 - whatever a reader makes of an encoding that it does not know
        return f"no: {type(error).__name__}"
    return f"{milliseconds:.0f}" if np.array_equal(found, expected.astype(np.float32)) else "wrong values"


def module(name: str):
    return importlib.import_module(name)


READERS: dict[str, Callable[[Path], list]] = {
    "pandas": lambda path: module("pandas").read_parquet(path)["margins"].tolist(),
    "polars": lambda path: module("polars").read_parquet(path)["margins"].to_list(),
    "DuckDB": lambda path: module("duckdb").sql(f"SELECT margins FROM '{path}'").fetchnumpy()["margins"].tolist(),
    "fastparquet": lambda path: module("fastparquet").ParquetFile(str(path)).to_pandas()["margins"].tolist(),
}


if __name__ == "__main__":
    main()
