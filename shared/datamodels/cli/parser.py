"""Build the parser of the whole command line."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from typing import Any

from datamodels.cli.analyses import commands as analyses
from datamodels.cli.analyses import questions
from datamodels.cli.common.arguments import Parser
from datamodels.cli.common.options import Subparsers, add_command
from datamodels.cli.runs import commands as runs
from datamodels.cli.upkeep import commands as upkeep
from datamodels.extras import DISTRIBUTION

EPILOG = """\
The pipeline is sample -> train -> aggregate -> fit -> query. `run` and `submit` do all of it; sample, train, aggregate
and fit stop after that stage. Each of them resumes from what is already committed.

first steps:
  datamodels run digits                               run the demo and write a report
  datamodels examples text > mine.yaml                start your own spec from an example
  datamodels trainer check mine:Trainer --spec SPEC   check your trainer, its speed and its noise
  datamodels plan SPEC                                estimate the time and cost of a run
  datamodels run SPEC                                 run everything on this machine and write a report
  datamodels submit SPEC --watch                      or on a Kubernetes cluster
  datamodels status                                   list the runs in the store
  datamodels query top RUN 17                         list the examples that help and harm target 17 most
  datamodels support RUN 17 --verify 20               find examples without which target 17 is wrong, and check them

environment: with DATAMODELS_LOG_LEVEL=debug, an error is printed with its traceback
exit codes: 0 done, 1 failed, 2 the request is invalid, 75 temporary failure, try again, 130 or 143 interrupted
"""
COMPLETION = """\
bash:  echo 'source <(datamodels completion bash)' >> ~/.bashrc
zsh:   datamodels completion zsh > ~/.zfunc/_datamodels    # a folder of $fpath, before compinit runs
"""


@functools.cache
def parser() -> argparse.ArgumentParser:
    """Build the parser, once in a process.

    The parsed options have `command`, the `module:function` to call with them.
    """
    found: argparse.ArgumentParser = Parser(
        prog="datamodels",
        description="Find out which training examples made a model say this.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    subparsers = found.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for declared in (runs, upkeep, analyses, questions):
        declared.register(subparsers)
    _add_completion(subparsers)
    return found


def _add_completion(subparsers: Subparsers) -> None:
    what, function = "print a script that completes commands in bash or zsh", "datamodels.cli.completion:completion"
    parser = add_command(subparsers, "completion", what, function, notes=COMPLETION)
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh"), help="bash or zsh")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: reading package metadata takes a while."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        from importlib.metadata import version

        print(f"{parser.prog} {version(DISTRIBUTION)}")
        parser.exit()
