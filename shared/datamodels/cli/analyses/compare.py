"""Run `datamodels compare`: compare the datamodels of a run with other attribution methods. It needs no service."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from datamodels.analyze.quality.evaluate import NOT_RANDOM
from datamodels.analyze.quality.interval import LEVEL
from datamodels.analyze.quality.rank import STANDARD
from datamodels.analyze.what_if.retrain import Retrainer
from datamodels.baselines import scoring
from datamodels.baselines.compare import LDS, UNSURE, Comparison, Row
from datamodels.baselines.context import Context
from datamodels.baselines.scoring import MethodScores
from datamodels.cli.common.output import print_json, span
from datamodels.cli.common.source import source_of
from datamodels.errors import ConfigError, InputError, NotReadyError
from datamodels.run import runs
from datamodels.runners.view import View, view
from datamodels.settings import TrainerSettings
from datamodels.train.device import limit_threads


def compare(options: argparse.Namespace) -> None:
    """Print one line for each method."""
    names = scoring.chosen(options.baselines)
    with source_of(options) as store:
        run = runs.read(store, options.run).judged(options.threshold)
        dataset, costly = runs.load_dataset(run.spec), bool(options.baselines)
        context = Context(run, dataset, store, options.models, options.layers, options.trainings, costly)
        shown = view(quiet=options.quiet or options.json)
        found = [row.document() for row in rows(context, names, options, shown)]
    print_json(*found) if options.json else print("\n".join(lines(found)))


def rows(context: Context, names: Sequence[str], options: argparse.Namespace, shown: View) -> Iterator[Row]:
    """Yield the row of the datamodels, then the row of each method that `names` has.

    Leaves out methods that cannot take part and says why, once for each reason. Raises InputError if the options name
    methods, and none of them can.
    """
    retrainer = None
    if options.targets:
        try:
            context.run.output.judged()
        except InputError as error:
            print(f"flip rates are left out: {error}", file=sys.stderr)
        else:
            retrainer = Retrainer(context.run, context.dataset, options.retrain)
    limit_threads(TrainerSettings.load().threads)
    with shown.stage("compare", "sets") as bar:
        try:
            comparison = Comparison(context, retrainer, options.targets, options.remove)
        except NotReadyError as error:
            if retrainer is None:
                raise
            retrainer = None  # too few targets are right, unless LDS cannot be measured either
            comparison = Comparison(context, retrainer, 0, options.remove)
            print(f"flip rates are left out: {error}", file=sys.stderr)
        steps, done = (1 + len(names)) * (len(options.remove) if retrainer else 1), 0
        bar.expect(steps, 0)

        def tick() -> None:
            nonlocal done
            done += 1
            bar.reach(done)

        left_out: dict[str, list[str]] = {}
        entries = _computed(context, names, left_out)
        first = next(entries, None)
        if first is None and options.baselines:  # before any model is trained to compare with
            raise InputError("; ".join(_reasons(left_out)))
        yield comparison.row(comparison.reference, tick)
        for entry in itertools.chain(filter(None, [first]), entries):
            yield comparison.row(entry, tick)
    for line in _reasons(left_out):
        print(line, file=sys.stderr)


def _computed(context: Context, names: Sequence[str], left_out: dict[str, list[str]]) -> Iterator[MethodScores]:
    """Yield the scores of methods that can take part; add the names of the others to `left_out`, by the reason."""
    for name in names:
        try:
            yield scoring.compute(context, name)
        except (InputError, ConfigError) as error:
            left_out.setdefault(str(error), []).append(name)


def _reasons(left_out: dict[str, list[str]]) -> Iterator[str]:
    return (f"{', '.join(methods)}: left out: {why}" for why, methods in left_out.items())


def lines(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Format rows of `Row.document` as two tables. A star marks a figure that surely is above the datamodels'."""
    first = found[0]
    flips = [name for name in first["figures"] if name not in (LDS, UNSURE)]
    few = first["figures"][UNSURE] is None
    some = "" if few else f"; {first['targets'][UNSURE]} are unsure: some models get them right and some wrong"
    yield f"LDS of {first['targets'][LDS]} targets{some}"
    head = f"{f'{LEVEL:.0%} interval':<18}{'' if few else 'unsure':<8}"
    yield f"{'method':<17}{'LDS':>7}  {head}{'models':>8}{'seconds':>9}"
    for row in found:
        lds, unsure = (row["figures"][name] for name in (LDS, UNSURE))
        unsure = "" if unsure is None else f"{unsure['value']:.3f}{_star(unsure)}"
        yield (
            f"{row['method']:<17}{lds['value']:>6.3f}{_star(lds):<3}{span(lds['interval']):<18}{unsure:<8}"
            f"{row['models']:>8,}{row['seconds']:>9.1f}"
        )
    yield from (f"{row['method']}: {row['doubt']}" for row in found if row.get("doubt"))
    if first.get("few"):
        yield f"{first['few'][0].upper()}{first['few'][1:]}"
    elif any(row["figures"][LDS]["value"] >= NOT_RANDOM for row in found):
        yield (
            f"An LDS of 1.000 is chance: corrected to the mean of {STANDARD} models, it would be above 1. "
            "The unseen subsets, or the models on each, are too few to tell methods apart; raise evaluate.subsets and "
            "evaluate.models"
        )
    yield from _flip_lines(found, flips) if flips else ()
    if any(_star(cell) for row in found for cell in row["figures"].values() if cell):
        yield ""
        yield f"* above the datamodels: the {LEVEL:.0%} interval of the difference is above 0"


def _flip_lines(found: Sequence[dict[str, Any]], flips: Sequence[str]) -> Iterator[str]:
    first = found[0]
    yield ""
    yield f"fraction of {first['targets']['flips']} targets that flip without that many of the most helpful examples"
    yield f"{'method':<17}" + "".join(f"{name.rpartition('_')[2]:<22}" for name in flips).rstrip()
    for row in found:
        cells = (row["figures"][name] for name in flips)
        said = (f"{cell['value']:.2f}{_star(cell):<2}{span(cell['interval'], 2)}" for cell in cells)
        yield f"{row['method']:<17}" + "".join(f"{cell:<22}" for cell in said).rstrip()


def _star(figure: dict[str, Any]) -> str:
    return "*" if figure.get("less_datamodels", {"interval": (0, 0)})["interval"][0] > 0 else ""
