"""Make a run of masks and outputs that come from elsewhere.

The arrays are read block by block, first to check them, then to store them. What is stored is a run as any other, but
with masks, because they follow from no seed. Its name has a hash of all that was imported. So importing again changes
nothing, and a killed import goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from datamodels import labels, words
from datamodels.aggregate import part
from datamodels.aggregate.committer import Committer
from datamodels.errors import InputError
from datamodels.exchange.checked import Cut, blocks_of
from datamodels.exchange.repeats import Repeats
from datamodels.exchange.sources import Source
from datamodels.run import designs, precision, runs, specs
from datamodels.run.designs.masks import BLOCK_BYTES, Block, Masks
from datamodels.run.runs import Run
from datamodels.storage import ObjectStore, keys, records
from datamodels.train import contract

LOADER = "datamodels.exchange.absent:load"
TRAINER = "datamodels.exchange.absent:Elsewhere"
FEWEST = 10
"""Fewest models that a run may have."""
MOST_SUB_CHUNK = 1000
"""Most models of a part."""
PART_BYTES = 64 * 2**20
"""About the largest size of a part."""
FAILED = "its outputs were NaN when they were imported"
LABEL_LIMIT = 1_000_000
"""Most characters of the names of examples: they are in the run's record, which every service reads."""

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """What to import.

    models   files with the models to fit
    unseen   (masks [s, d], outputs [s, r, n]) of r models on each of s subsets that no fit may see; or None
    targets  which examples are targets, as in a spec
    labels, target_labels, names, target_names  as `exchange.absent.load` takes them
    data     (module:function, options) of the data set; None if it is not here
    trainer  (module:Class, options) of the trainer; None if it is not here
    constant whether columns that no mask has, or all have, are allowed; they get no weights
    output   what outputs mean, as the section `output` of a spec
    label_names  name of each class; empty if they have none
    own      the training example that each test example is, or is a part of, or -1; empty if none is one
    spans    (text, first, last) of each target, if targets are parts of texts; see `spans.Span`
    """

    models: Sequence[Source]
    unseen: tuple[np.ndarray, np.ndarray] | None = None
    targets: str = "test"
    labels: np.ndarray | None = None
    target_labels: np.ndarray | None = None
    names: Sequence[str] | None = None
    target_names: Sequence[str] | None = None
    data: tuple[str, dict[str, Any]] | None = None
    trainer: tuple[str, dict[str, Any]] | None = None
    constant: bool = False
    output: dict[str, Any] | None = None
    label_names: Sequence[str] = ()
    own: Sequence[int] = ()
    spans: Sequence[tuple[str, int, int]] = ()

    @property
    def columns(self) -> int:
        return self.models[0].columns

    @property
    def n(self) -> int:
        return self.models[0].targets

    @property
    def rows(self) -> int:
        return sum(source.rows for source in self.models)


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """What the first pass over the arrays finds.

    seed       the seed of the spec; no subset comes from it. It is a hash of masks and outputs, so that other arrays
               make another run
    inclusion  float32[d]; of the masks of the models to fit
    blocks     blocks of packed masks
    spread     of the outputs of the models to fit
    extremes   float64[2]; the smallest and the largest output
    repeats    models that are there twice
    """

    seed: int
    inclusion: np.ndarray
    blocks: tuple[Block, ...]
    spread: precision.Spread
    extremes: np.ndarray
    repeats: Repeats

    def notes(self) -> Iterator[str]:
        """Say what people should know of models and outputs.

        Raises InputError if outputs say nothing about the examples, or if all models of a file are there twice.
        """
        coarse, constant = self.spread.coarse, self.spread.constant
        if constant.all():
            raise InputError(precision.same(len(constant)))
        if self.spread.lost:
            raise InputError(self.spread.how_lost)
        if constant.any():
            yield f"outputs of {constant.sum():,} of {len(constant):,} targets never vary: these get no weights"
        if coarse.any():
            yield precision.rounded(int(coarse.sum()), len(coarse), precision.DTYPE)
        yield from self.repeats.notes()


def import_run(store: ObjectStore, name: str, given: Given, fit: dict[str, Any], say: Say = lambda text: None) -> Run:
    """Check arrays, store them as a run, and return it.

    name  label of the run, as in a spec
    fit   the fit section of its spec, as JSON values
    say   called with what people should know

    Raises InputError for arrays that are not masks and outputs, SpecError for a wrong name or fit.
    """
    facts = survey(given)
    for text in facts.notes():
        say(text)
    run = make_run(name, given, facts, fit, say)
    for outputs in _outputs(given) if run.output.beyond(facts.extremes) else ():
        if beyond := run.output.beyond(outputs):
            raise InputError(f"outputs: {beyond}")
    for listed, (block, packed) in zip(facts.blocks, _packed_blocks(given), strict=True):
        data = packed.tobytes()
        if hashlib.sha256(data).hexdigest() != listed.sha256:
            raise InputError(f"masks {block.start} to {block.stop}: changed while they were read; import them again")
        store.create(keys.masks(run.name, block.start, block.stop), data)
    with Committer(store) as committer:
        if not committer.create(run):
            whole = committer.progress(run.name).committed == run.spec.models
            done = "nothing of it is stored again" if whole else "an import was stopped, so the rest is stored now"
            say(f"run {run.name} is in the store already, of the same arrays: {done}")
        sub_chunks = (m for chunk in range(run.spec.chunks) for m in run.spec.sub_chunks(run.spec.chunk_range(chunk)))
        rows = Cut(_outputs(given))
        for models in sub_chunks:
            outputs = precision.stored(rows.take(len(models)), run.dtype)
            good = np.isfinite(outputs).all(axis=1)
            index = np.array(models, dtype=np.int32)
            failed = dict.fromkeys(index[~good].tolist(), FAILED)
            committer.put(part.validate(run, models, index[good], outputs[good], failed))
        committer.publish(run.name)
    return runs.read(store, run.name)


def survey(given: Given) -> Facts:
    """Read all arrays once, and check them. Raises InputError."""
    digests, ones = [hashlib.sha256(), hashlib.sha256()], np.zeros(given.columns, dtype=np.int64)
    spread, usable = precision.Spread(given.n, precision.DTYPE), 0
    extremes, repeats = np.array([np.nan, np.nan]), Repeats([source.name for source in given.models])
    for block in blocks_of(given.models, given.unseen):
        packed = designs.pack(block.masks)
        if block.source is None:
            repeats.add_unseen(packed)
        else:
            repeats.add(block.source, packed, block.outputs)
            spread.add(block.outputs)
            ones += np.count_nonzero(block.masks, axis=0)
            usable += len(block.outputs) - int(np.isnan(block.outputs).all(axis=1).sum())
        extremes[0] = np.fmin(extremes[0], np.fmin.reduce(block.outputs, axis=None))
        extremes[1] = np.fmax(extremes[1], np.fmax.reduce(block.outputs, axis=None))
        digests[0].update(packed.tobytes())
        digests[1].update(np.ascontiguousarray(block.outputs, dtype="<f8").tobytes())
    if usable < FEWEST:
        raise InputError(f"{usable} models have outputs: at least {FEWEST} are needed")
    constant = np.flatnonzero((ones == 0) | (ones == given.rows))
    if len(constant) and not given.constant:
        where = "no mask" if ones[constant[0]] == 0 else "every mask"
        raise InputError(
            f"the masks do not vary in {words.count(len(constant), 'column')}: column {constant[0]} is in {where}, so "
            "its effect is unknown; leave such columns out, or allow them with --constant, and they get no weights"
        )
    blocks = tuple(
        Block(block.start, block.stop, hashlib.sha256(packed.tobytes()).hexdigest())
        for block, packed in _packed_blocks(given)
    )
    seed = int(records.digest([digest.hexdigest() for digest in digests])[:15], 16)
    return Facts(seed, (ones / given.rows).astype(np.float32), blocks, spread, extremes, repeats)


def make_run(name: str, given: Given, facts: Facts, fit: dict[str, Any], say: Say = lambda text: None) -> Run:
    """Return the run of what was surveyed."""
    sub_chunk = int(np.clip(PART_BYTES // (4 * given.n), 1, MOST_SUB_CHUNK))
    subsets, models = (0, 2) if given.unseen is None else given.unseen[1].shape[:2]
    total = given.rows + subsets * models
    free = (facts.inclusion > 0) & (facts.inclusion < 1)
    document = {
        "name": name,
        "dataset": _dataset(given),
        "trainer": _named("class", given.trainer or (TRAINER, {})),
        "targets": given.targets,
        "m": given.rows,
        "seed": facts.seed,
        "alpha": float(np.clip(facts.inclusion[free].mean(dtype=np.float64), 1e-6, 1 - 1e-6)) if free.any() else 0.5,
        "design": {
            "kind": "imported",
            "pinned_in": np.flatnonzero(facts.inclusion == 1).tolist(),
            "pinned_out": np.flatnonzero(facts.inclusion == 0).tolist(),
        },
        "chunk": sub_chunk * -(-total // (specs.MAX_CHUNKS * sub_chunk)),
        "sub_chunk": sub_chunk,
        "evaluate": {"subsets": int(subsets), "models": int(models)},
        "fit": fit,
    }
    if given.output:
        document["output"] = given.output
    spec = specs.parse(document)
    dataset = runs.load_dataset(spec)
    declared = contract.declared(contract.check_class(spec, dataset), spec, dataset)
    run = runs.resolve(spec, dataset, Masks(facts.inclusion, facts.blocks), declared=declared)
    run = _with_names(run, given.label_names)
    if run.design.columns != given.columns or run.n != given.n:
        raise InputError(
            f"the masks have {given.columns} columns and the outputs {given.n} targets, the data set has "
            f"{run.design.columns} training examples and {run.n} targets of the kind {given.targets!r}: must be equal"
        )
    for text in labels.doubts(dataset.y, dataset.targets(given.targets).y, run.label_names):
        say(text)
    return run


def _with_names(run: Run, names: Sequence[str]) -> Run:
    """Return the run with names of its classes. Raises InputError if there are not enough of them."""
    if not names:
        return run
    if run.labels is None:
        raise InputError("label_names: name classes, and no example has a label; give --labels and --target-labels")
    largest = max(int(labels.max()) for labels in (run.labels, run.target_labels) if labels is not None)
    if largest >= len(names):
        raise InputError(f"label_names: has {len(names)} names, and a label is {largest}: each class needs one")
    return dataclasses.replace(run, label_names=tuple(names))


def _dataset(given: Given) -> dict[str, Any]:
    """Return the section `dataset` of the spec."""
    if given.data is not None:
        return _named("load", given.data)
    tests = {"test": given.n, "train": 0, "both": given.n - given.columns}[given.targets]
    if tests < 0 or (given.targets == "train" and given.n != given.columns):
        raise InputError(
            f"targets = {given.targets!r}: outputs have {given.n} targets and masks {given.columns} columns; training "
            "examples that are targets must be all columns, in their order, the last ones of `both`"
        )
    options: dict[str, Any] = {"examples": given.columns, "targets": tests}
    counts = {"labels": given.columns, "target_labels": tests, "names": given.columns, "target_names": tests}
    for field, count in counts.items():
        values = getattr(given, field)
        if values is None:
            continue
        if len(values) != count:
            raise InputError(f"{field}: has {len(values)} entries for {count} examples: must be equal")
        options[field] = _labels(field, values) if field.endswith("labels") else list(values)
    if given.own:
        options["own"] = [int(example) for example in given.own]
    if given.spans:
        options["spans"] = [[str(text), int(first), int(last)] for text, first, last in given.spans]
    size = sum(len(name) for field in ("names", "target_names") for name in options.get(field, []))
    if size > LABEL_LIMIT:
        raise InputError(
            f"names: have {size:,} characters, at most {LABEL_LIMIT:,} fit into the record of a run; shorten them, or "
            "give the data set with --data"
        )
    return {"load": LOADER, "options": options}


def _labels(field: str, values: np.ndarray) -> list[int]:
    found = np.asarray(values)
    if found.ndim != 1 or found.dtype.kind not in "biu":
        raise InputError(f"{field}: have shape {found.shape} and type {found.dtype}: must be one integer per example")
    if fault := labels.fault_of_classes(found):
        raise InputError(f"{field}: {fault}")
    return found.astype(int).tolist()


def _named(field: str, reference: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {field: reference[0], "options": reference[1]}


def _outputs(given: Given) -> Iterator[np.ndarray]:
    return (block.outputs for block in blocks_of(given.models, given.unseen))


def _packed_blocks(given: Given) -> Iterator[tuple[range, np.ndarray]]:
    """Yield (subsets, packed masks) of each block."""
    rows = Cut(block.masks for block in blocks_of(given.models, given.unseen))
    step, first = max(1, BLOCK_BYTES // ((given.columns + 7) // 8)), 0
    while len(found := rows.take(step)):
        yield range(first, first + len(found)), designs.pack(found)
        first += len(found)
