"""Run `datamodels explore`: serve runs to a browser on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import secrets
import shlex
import sys
import threading
import time
import webbrowser

from datamodels import extras
from datamodels.cli.common.store import store_of, store_settings
from datamodels.run import runs
from datamodels.runners.local import LocalRunner
from datamodels.settings import ExplorerSettings, ServeSettings

POLL = 0.2
"""Seconds between two looks whether the explorer has ended."""


def explore(options: argparse.Namespace) -> None:
    """Start the explorer, print its address with a token, open a browser, and wait until Ctrl-C.

    Raises RunNotFoundError before it starts, StageError if the explorer ends.
    """
    for module in extras.MODULES["explorer"]:
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    store = store_of(options)
    if options.run:
        runs.read(store, options.run)
    token = secrets.token_urlsafe(24)
    settings = ExplorerSettings.load()
    price = options.price or settings.price
    settings = dataclasses.replace(settings, token=token, user_header="", verify=_verify(options), price=price)
    runner = LocalRunner(options.home, store=store_settings(options), trainers=1)
    try:
        with runner.explorer(settings, options.port) as served:
            scheme = "https" if ServeSettings.load().cert_file else "http"
            page = f"/runs/{options.run}" if options.run else "/"
            url = f"{scheme}://{served.address}{page}?token={token}"
            print(f"{url}\nthe address lets whoever has it read the store; Ctrl-C ends the explorer", flush=True)
            if not options.no_browser:  # in a thread, because some browsers keep the call until they close
                threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
            while served.ended() is None:
                time.sleep(POLL)
            served.raise_if_ended()
    except KeyboardInterrupt:
        print("datamodels: the explorer has stopped", file=sys.stderr)


def _verify(options: argparse.Namespace) -> str:
    """Return the command that verifies predictions by training, with what this command trusts."""
    trusted = [argument for module in options.trust for argument in ("--trust", module)]
    # The store is in the environment of the explorer, which the command inherits.
    home = ("--home", str(options.home.absolute()))
    return shlex.join([sys.executable, "-m", "datamodels", "counterfactual", *home, *trusted])
