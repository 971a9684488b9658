"""Every command that the parser declares."""

import argparse

from datamodels.cli.parser import parser


def commands(found=None, words=()):
    """(words, parser) of each command, those below others included, and of `datamodels` itself."""
    found = found or parser()
    yield words, found
    for action in found._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, (*words, name))


def endings():
    """(words, parser) of the commands that do something."""
    return [(words, found) for words, found in commands() if found.get_default("command")]
