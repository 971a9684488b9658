"""Declare the commands that keep runs."""

from __future__ import annotations

import argparse

from datamodels.cli.common.options import (
    EXAMPLE,
    Subparsers,
    add_command,
    add_json,
    add_quiet,
    add_run,
    add_store,
    add_trainers,
    at_least_zero,
    positive,
)

FUNCTIONS = "datamodels.cli.upkeep"


def register(subparsers: Subparsers) -> None:
    """Add the commands to those of `datamodels`."""
    _add_delete(subparsers)
    _add_prune(subparsers)
    _add_vacuum(subparsers)
    _add_verify(subparsers)
    _add_repair(subparsers)
    _add_copy(subparsers)


def _add_delete(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "delete", "delete a run and everything of it", f"{FUNCTIONS}.removing:delete")
    add_run(parser)
    _add_changes(parser)


def _add_prune(subparsers: Subparsers) -> None:
    what = "delete old fits of a run, with their evaluations and answers, and old manifests"
    parser = add_command(subparsers, "prune", what, f"{FUNCTIONS}.removing:prune")
    _add_runs(parser)
    parser.add_argument(
        "--keep", metavar="N", type=positive, help="keep the newest N fits (default: all, unless --older-than is given)"
    )
    parser.add_argument(
        "--older-than",
        metavar="DAYS",
        type=at_least_zero,
        help="delete only what is older than DAYS; the newest fit and manifest always stay (default: any age)",
    )
    _add_grace(parser, "keep manifests that are younger than HOURS, because an aggregator may build on them")
    _add_changes(parser)


def _add_vacuum(subparsers: Subparsers) -> None:
    what = "delete objects that nothing refers to anymore, once readers have had time to end"
    parser = add_command(subparsers, "vacuum", what, f"{FUNCTIONS}.removing:vacuum")
    _add_runs(parser)
    parser.add_argument(
        "--compact", action="store_true", help="first merge small parts into larger ones; their models stay as they are"
    )
    _add_grace(parser, "delete objects that have been unused for HOURS; a reader may take that long")
    _add_changes(parser)


def _add_verify(subparsers: Subparsers) -> None:
    what = "read everything of a run and check it against what its writers recorded"
    parser = add_command(subparsers, "verify", what, f"{FUNCTIONS}.checking:verify")
    _add_runs(parser)
    parser.add_argument(
        "--anew", action="store_true", help="read again what an earlier attempt, which was stopped, has verified"
    )
    _add_dry_run(parser)
    add_quiet(parser)
    add_store(parser)
    add_json(parser, lines=True)


def _add_repair(subparsers: Subparsers) -> None:
    what = "take damaged or wrong outputs of a run out of use, and train their models again"
    parser = add_command(subparsers, "repair", what, f"{FUNCTIONS}.repairing:repair")
    add_run(parser)
    parser.add_argument(
        "--models",
        metavar="FIRST:LAST",
        type=span,
        help="take the sub-chunks with the models FIRST <= index < LAST out of use, whatever they hold (default: none)",
    )
    parser.add_argument("--damaged", action="store_true", help="read all parts, and take the damaged ones out of use")
    parser.add_argument(
        "--spec",
        metavar="SPEC",
        help=f"then train the models again on this machine: YAML file that describes the run, or {EXAMPLE} (default: "
        "only say how)",
    )
    add_trainers(parser)
    add_quiet(parser)
    _add_changes(parser)


def _add_copy(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "copy", "copy a run to another store", f"{FUNCTIONS}.copying:copy")
    add_run(parser)
    parser.add_argument(
        "--to",
        metavar="URL",
        required=True,
        help="the other store, file://FOLDER or s3://BUCKET/PREFIX; it has no default",
    )
    add_quiet(parser)
    _add_changes(parser)


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", help="name of the run (default: all runs of the store)")


def _add_grace(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--grace", metavar="HOURS", type=at_least_zero, default=24.0, help=f"{what} (default: %(default)g)"
    )


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def _add_changes(parser: argparse.ArgumentParser) -> None:
    """Add the options of all commands that change a run."""
    _add_dry_run(parser)
    parser.add_argument("--force", action="store_true", help="change the run even if something may be working on it")
    add_store(parser)
    add_json(parser, lines=True)


def span(text: str) -> range:
    """Parse FIRST:LAST."""
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise argparse.ArgumentTypeError(f"{text!r}: must be FIRST:LAST, such as 100:200")
    return range(int(first), int(last))
