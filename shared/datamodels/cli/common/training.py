"""Show that a command trains models, and how far it is, since that may take longer than all the rest."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from tqdm import tqdm

from datamodels import words
from datamodels.runners.view import TerminalView
from datamodels.train.observer import Counter


@contextlib.contextmanager
def training() -> Iterator[Counter]:
    """Yield an observer of the models that a command trains; it shows nothing until one is to be trained.

    On a terminal it shows a bar; elsewhere it says once, on standard error, how many models are trained.
    """
    with contextlib.ExitStack() as stack:
        bar = None

        def tell(done: int, expected: int) -> None:
            nonlocal bar
            if not sys.stderr.isatty():
                if not done and expected == counter.first:
                    print(f"datamodels: training {words.count(expected, 'model')} on this machine", file=sys.stderr)
                return
            bar = bar or stack.enter_context(TerminalView().stage("train", "models"))
            bar.move(done, expected)

        counter = Counter(tell)
        yield counter


def beside_bars() -> contextlib.AbstractContextManager[None]:
    """Hide bars while something is printed."""
    return tqdm.external_write_mode(file=sys.stdout)
