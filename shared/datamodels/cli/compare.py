"""`datamodels compare`: the datamodels of a run beside other ways to say which examples matter. Needs no service."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from datamodels import run as runs
from datamodels.analyze.interval import LEVEL
from datamodels.analyze.retrain import Retrainer
from datamodels.errors import ConfigError, InputError
from datamodels.rivals import contest
from datamodels.rivals.compare import LDS, UNSURE, Comparison, Row
from datamodels.rivals.given import Given
from datamodels.settings import TrainerSettings
from datamodels.train.device import limit_threads
from datamodels.view import TerminalView, View

SIZES = (10, 20, 40, 80)


def add_arguments(parser: argparse.ArgumentParser, positive: Callable[[str], int]) -> None:
    def number(name: str, default: int, what: str) -> None:
        text = f"{what} (default: {default})"
        parser.add_argument(f"--{name}", metavar="N", type=positive, default=default, help=text)

    parser.add_argument("run", metavar="RUN", help="the run's name")
    number("targets", 100, "for flip rates: this many, spread evenly, less those that models get wrong anyway")
    number("models", 20, "that rivals which need gradients may train on the whole pool")
    number("retrain", 10, "models that are trained on each set to see whether a target flips")
    parser.add_argument(
        "--remove", metavar="K,K", type=_sizes, default=SIZES, help="examples taken away (default: 10,20,40,80)"
    )
    parser.add_argument(
        "--rivals",
        metavar="NAME,NAME",
        type=lambda text: text.split(","),
        help=f"by default all that the run's trainer allows: {', '.join(contest.RIVALS)}",
    )
    parser.add_argument(
        "--threshold", metavar="X", type=float, default=0.0, help="outputs below it are wrong (default: 0, for margins)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _sizes(text: str) -> tuple[int, ...]:
    if not all(piece.isdecimal() and int(piece) for piece in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}: must be whole numbers of at least 1, as 10,20,40,80")
    return tuple(sorted({int(piece) for piece in text.split(",")}))


def command(options: argparse.Namespace) -> None:
    """Prints one line for each method."""
    store = options.store_of(options)
    run = runs.read(store, options.run)
    given = Given(run, runs.load_dataset(run.spec), store, options.models)
    view = View() if options.quiet or options.json else TerminalView()
    found = [row.document() for row in rows(given, options, view)]
    print("\n".join(map(json.dumps, found) if options.json else lines(found)))


def rows(given: Given, options: argparse.Namespace, view: View) -> Iterator[Row]:
    """The datamodels' row, then those of the rivals. A rival that cannot take part is left out where none was named."""
    names = contest.chosen(options.rivals)
    retrainer = Retrainer(given.run, given.dataset, options.retrain)
    limit_threads(TrainerSettings.load().threads)
    with view.stage("compare", "sets") as bar:
        comparison = Comparison(given, retrainer, options.targets, options.remove, threshold=options.threshold)
        steps, done = (1 + len(names)) * len(options.remove), 0
        bar.expect(steps, 0)

        def tick() -> None:
            nonlocal done
            done += 1
            bar.reach(done)

        yield comparison.row(comparison.reference, tick)
        for name in names:
            try:
                entry = contest.enter(given, name)
            except (InputError, ConfigError) as error:
                if options.rivals:
                    raise
                print(f"{name} takes no part: {error}", file=sys.stderr)
                continue
            yield comparison.row(entry, tick)


def lines(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Two tables of rows, as `Row.document` gives them; a star where a method is surely ahead of the datamodels."""
    first = found[0]
    flips = [name for name in first["figures"] if name not in (LDS, UNSURE)]
    few = first["figures"][UNSURE] is None
    yield f"LDS of {first['targets'][LDS]} targets" + ("" if few else f", of which unsure: {first['targets'][UNSURE]}")
    head = f"{f'{LEVEL:.0%} interval':<18}{'' if few else 'unsure':<8}"
    yield f"{'method':<17}{'LDS':>7}  {head}{'models':>8}{'seconds':>9}"
    for row in found:
        lds, unsure = (row["figures"][name] for name in (LDS, UNSURE))
        unsure = "" if unsure is None else f"{unsure['value']:.3f}{_star(unsure)}"
        yield (
            f"{row['method']:<17}{lds['value']:>6.3f}{_star(lds):<3}{_span(lds, 3):<18}{unsure:<8}"
            f"{row['models']:>8,}{row['seconds']:>9.1f}"
        )
    yield ""
    yield f"flipped, of {first['targets']['flips']} targets, without the most helpful"
    yield f"{'method':<17}" + "".join(f"{name.rpartition('_')[2]:<22}" for name in flips).rstrip()
    for row in found:
        cells = (row["figures"][name] for name in flips)
        said = (f"{cell['value']:.2f}{_star(cell):<2}{_span(cell, 2)}" for cell in cells)
        yield f"{row['method']:<17}" + "".join(f"{cell:<22}" for cell in said).rstrip()
    if any(_star(cell) for row in found for cell in row["figures"].values() if cell):
        yield ""
        yield f"* ahead of the datamodels, by a difference whose {LEVEL:.0%} interval is above 0"


def _star(figure: dict[str, Any]) -> str:
    return "*" if figure.get("less_datamodels", {"interval": (0, 0)})["interval"][0] > 0 else ""


def _span(figure: dict[str, Any], digits: int) -> str:
    low, high = figure["interval"]
    return f"{low:.{digits}f} to {high:.{digits}f}"
