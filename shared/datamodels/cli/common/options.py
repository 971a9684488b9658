"""Declare commands, and every option that several commands share.

Declaring commands imports nothing that takes time, for `datamodels --help` and shell completion need nothing else. So a
declaration names the function of its command as `module:function`, and `main` imports it when the command runs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from datamodels import machine

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

TRAINERS = min(8, machine.cores())
"""Trainer processes that run in parallel by default: one for each core, up to 8."""
EXAMPLE = "name of an example, such as digits; `datamodels examples` lists them"
"""What help says about a spec that is no file."""


def add_command(
    subparsers: Subparsers, name: str, what: str, function: str, *, notes: str | None = None
) -> argparse.ArgumentParser:
    """Declare a command and return its parser.

    what      what the command does: one sentence, without capital and full stop
    function  `module:function`; called with the parsed options
    notes     text for the end of its help, printed as it is
    """
    parser = subparsers.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=notes,
        formatter_class=argparse.RawDescriptionHelpFormatter if notes else argparse.HelpFormatter,
    )
    parser.set_defaults(command=function, parser=parser)
    return parser


def add_group(subparsers: Subparsers, name: str, what: str, metavar: str = "COMMAND") -> Subparsers:
    """Declare a command that only has commands of its own, and return the object to add them to."""
    parser = subparsers.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    return parser.add_subparsers(title=f"{metavar.lower()}s", metavar=metavar, required=True)


def add_spec(parser: argparse.ArgumentParser, *, or_run: bool = False) -> None:
    """Add the argument SPEC. or_run: a run of the store will do, too."""
    run = "name of a run in the store, to fit what it has committed; or " if or_run else ""
    parser.add_argument("spec", metavar="SPEC", help=f"{run}YAML file that describes the run, or {EXAMPLE}")


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="name of the run; `datamodels status` lists them")


def add_targets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", metavar="TARGET", type=whole, nargs="*", help="numbers of targets (default: all)")


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where runs are stored; see `cli.common.store`."""
    parser.add_argument(
        "--home",
        metavar="DIR",
        type=Path,
        default=Path(".datamodels"),
        help="folder for logs, reports and, unless told otherwise, the store (default: %(default)s)",
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        help="object store, file://FOLDER or s3://BUCKET/PREFIX (default: DATAMODELS_STORE_URL, or HOME/store)",
    )


def add_service(parser: argparse.ArgumentParser) -> None:
    """Add the options for the query service to ask, and for the store: of the run, or of a service that is started.

    See `common.service` and `common.store`.
    """
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="query service to ask, so that no store is needed (default: none; questions go to "
        "DATAMODELS_CLIENT_QUERY, or to one that is started for the command)",
    )
    add_cluster(parser)
    add_store(parser)


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which namespace of which Kubernetes cluster to use."""
    parser.add_argument(
        "-n", "--namespace", metavar="NAME", default="", help="namespace of the cluster (default: that of the context)"
    )
    parser.add_argument(
        "--context", metavar="NAME", default="", help="context of the kubeconfig (default: the current one)"
    )
    parser.add_argument(
        "--kubeconfig", metavar="FILE", default="", help="kubeconfig file (default: KUBECONFIG, or ~/.kube/config)"
    )
    parser.add_argument(
        "--release",
        metavar="NAME",
        default="",
        help="release of the chart (default: the only one of the namespace)",
    )


def add_trainers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trainers",
        metavar="N",
        type=positive,
        default=TRAINERS,
        help="trainer processes to run in parallel, one thread each (default: one per core, up to 8)",
    )


def add_price(parser: argparse.ArgumentParser) -> None:
    """Add the options that `cli.common.spending.money` reads."""
    parser.add_argument(
        "--price", metavar="P", type=above_zero, help="price of one device for one hour; with it, costs are shown"
    )
    parser.add_argument(
        "--spot-discount",
        metavar="X",
        type=discount,
        default=0.0,
        help="fraction of the price that spot capacity saves, from 0 to less than 1 (default: %(default)g)",
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the option that lets code run which a stored run names; see `run.trust`. `main` applies it."""
    parser.add_argument(
        "--trust",
        metavar="MODULE",
        action="append",
        default=[],
        help="Python module that may run because the run names it, as for its data set; may be repeated (default: "
        "DATAMODELS_TRUST_MODULES; the data sets and trainers of datamodels always may)",
    )


def add_threshold(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threshold",
        metavar="X",
        type=number,
        help="an output worse than X is wrong: below X, or above if lower is better (default: as the run declares)",
    )


def add_count(
    parser: argparse.ArgumentParser, name: str, default: int, what: str, metavar: str = "N"
) -> argparse.Action:
    """Add an option for a number of at least 1, with its default in the help, and return it."""
    return parser.add_argument(
        name, metavar=metavar, type=positive, default=default, help=f"{what} (default: %(default)s)"
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="show no progress bars")


def add_json(parser: argparse.ArgumentParser, *, lines: bool = False) -> None:
    """Add --json. lines: the command prints one object per line."""
    what = "print JSON, one object per line" if lines else "print one JSON object"
    parser.add_argument("--json", action="store_true", help=what)


def suggest(action: argparse.Action, names: Sequence[str]) -> None:
    """Let the shell complete the values of an option whose values are checked elsewhere."""
    action.suggestions = names  # type: ignore[attr-defined]


def set_parameters(action: argparse.Action, *names: str) -> None:
    """Say which parameters of an analysis an option gives, so that errors about them name the option."""
    action.parameters = names  # type: ignore[attr-defined]


def whole(text: str) -> int:
    """Parse a whole number of 32 bits."""
    if not text.lstrip("-").isdecimal() or not -(2**31) <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number")
    return int(text)


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number of at least 1")
    return int(text)


def port(text: str) -> int:
    """Parse the number of a port, or 0 for one that is free."""
    if not text.isdecimal() or int(text) >= 2**16:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a port, 0 to 65535")
    return int(text)


def number(text: str) -> float:
    """Parse a finite number."""
    return _number(text, math.isfinite, "")


def above_zero(text: str) -> float:
    """Parse a finite number above 0, such as a time in seconds or a price."""
    return _number(text, lambda value: 0 < value < math.inf, "above 0")


def at_least_zero(text: str) -> float:
    """Parse a finite number of at least 0, such as a number of days."""
    return _number(text, lambda value: 0 <= value < math.inf, "of at least 0")


def between(text: str) -> float:
    """Parse a number between 0 and 1, both exclusive."""
    return _number(text, lambda value: 0 < value < 1, "between 0 and 1")


def share(text: str) -> float:
    """Parse a number above 0 and at most 1."""
    return _number(text, lambda value: 0 < value <= 1, "above 0 and at most 1")


def discount(text: str) -> float:
    """Parse a number of at least 0 and less than 1."""
    return _number(text, lambda value: 0 <= value < 1, "of at least 0 and less than 1")


def _number(text: str, allowed: Callable[[float], bool], words: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not allowed(value):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number {words}".rstrip())
    return value


def positives(text: str) -> tuple[int, ...]:
    """Parse whole numbers of at least 1 with commas between them: ascending, each once."""
    if not all(piece.isdecimal() and int(piece) for piece in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}: must be whole numbers of at least 1, as 10,20,40,80")
    return tuple(sorted({int(piece) for piece in text.split(",")}))


def numbers(text: str) -> tuple[float, ...]:
    """Parse numbers with commas between them."""
    try:
        return tuple(float(piece) for piece in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: must be numbers like 0.75,1") from None


def words(text: str) -> list[str]:
    """Parse names with commas between them."""
    return text.split(",")
