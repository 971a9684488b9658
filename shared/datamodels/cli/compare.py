"""`datamodels compare`: the datamodels of a run beside other ways to say which examples matter. Needs no service."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence

from datamodels import run as runs
from datamodels.analyze.evaluate import LEVEL
from datamodels.analyze.retrain import Retrainer
from datamodels.errors import ConfigError, InputError
from datamodels.rivals import contest
from datamodels.rivals.compare import Comparison, Row, flips_at
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
    found = list(rows(given, options, View() if options.quiet or options.json else TerminalView()))
    print("\n".join(json.dumps(row.document()) for row in found) if options.json else "\n".join(lines(found)))


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


def lines(found: Sequence[Row]) -> Iterator[str]:
    """Two tables; a star where a method is ahead of the datamodels and its difference from them surely above 0."""
    first = found[0]
    sizes = list(first.flips)
    few = first.unsure is None
    yield f"LDS, {first.lds.targets} targets, {first.lds.subsets} unseen subsets x {first.lds.models} models" + (
        "" if few else f"; of which unsure: {first.unsure.targets}"
    )
    head = f"{f'{LEVEL:.0%} interval':<18}{'' if few else 'unsure':<8}"
    yield f"{'method':<17}{'LDS':>7}  {head}{'models':>8}{'seconds':>9}"
    for row in found:
        figures = {"lds": row.lds, "unsure": row.unsure}
        said = {name: f"{it.lds:.3f}{_star(row, name)}" for name, it in figures.items() if it is not None}
        yield (
            f"{row.entry.name:<17}{said['lds']:>7}  {_span(row.lds.interval, 3):<18}{said.get('unsure', ''):<8}"
            f"{row.entry.models:>8,}{row.entry.seconds:>9.1f}"
        )
    targets = len(first.flips[sizes[0]].targets)
    yield ""
    yield f"flipped, of {targets} targets, without the most helpful"
    yield f"{'method':<17}" + "".join(f"{k:<22}" for k in sizes).rstrip()
    for row in found:
        cells = (f"{it.rate:.2f}{_star(row, flips_at(k)):<2}{_span(it.interval, 2)}" for k, it in row.flips.items())
        yield f"{row.entry.name:<17}" + "".join(f"{cell:<22}" for cell in cells).rstrip()
    if any("*" in _star(row, name) for row in found for name in row.difference):
        yield f"\n* ahead of the datamodels, by a difference whose {LEVEL:.0%} interval is above 0"


def _star(row: Row, name: str) -> str:
    return "*" if name in row.difference and row.difference[name].interval[0] > 0 else ""


def _span(interval: tuple[float, float], digits: int) -> str:
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"
