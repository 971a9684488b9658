import argparse

import pytest

from datamodels.cli.common import faults
from datamodels.cli.parser import parser
from datamodels.errors import InputError, SpecError, TargetRangeError


def said(error, *arguments):
    return faults.lines(error, parser().parse_args(arguments), arguments)


@pytest.mark.parametrize(
    "message, arguments, line",
    [
        ("k = 0: must be 1", ["review", "r", "-k", "0"], "-k 0: must be 1"),
        ("fragile = 0.5: must be 1", ["review", "r", "--brittle=0.5"], "--brittle 0.5: must be 1"),
        ("models = 1: must be 2", ["support", "r", "--verify", "1"], "--verify 1: must be 2"),
        ("models = 1: must be 2", ["compare", "r", "--retrain", "1"], "--retrain 1: must be 2"),
        ("models = 1: must be 2", ["evaluate", "r", "--models", "1"], "--models 1: must be 2"),
        ("top_k = -1: must be 0", ["query", "weights", "r", "-k", "-1"], "-k -1: must be 0"),
        ("k = 3: takes groups = 'clusters'", ["conflicts", "r", "-k", "3"], "-k 3: takes --groups 'clusters'"),
        ("remove and add: both are empty", ["counterfactual", "r"], "--remove and --add: both are empty"),
        ("remove: leaves none", ["counterfactual", "r"], "--remove: leaves none"),
        ("run r: has k = 3", ["review", "r"], "run r: has -k 3"),
        ("fit.k = 3: of a spec", ["review", "r"], "fit.k = 3: of a spec"),
        ("colour = 3: of nobody", ["review", "r"], "colour = 3: of nobody"),
    ],
)
def test_errors_name_the_option_that_was_typed(message, arguments, line):
    assert said(InputError(message), *arguments) == [line]


def test_other_errors_are_told_as_they_are():
    assert said(SpecError(["alpha = 3: must be 1", "m: is missing"]), "evaluate", "r") == [
        "alpha = 3: must be 1",
        "m: is missing",
    ]
    assert said(TargetRangeError("target 3: must be 0 to 2"), "support", "r") == ["target 3: must be 0 to 2"]
    assert faults.lines(SpecError("x"), argparse.Namespace(), []) == ["x"]
