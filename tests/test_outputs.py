import dataclasses

import numpy as np
import pytest

from datamodels import outputs
from datamodels.errors import InputError, SpecError
from datamodels.outputs import LOSS, MARGIN, SQUARED_ERROR, Output, assumed, from_document


def test_an_output_is_described_and_comes_back_from_its_document():
    price = Output("price error", "euro", higher_is_better=False, threshold=50)
    assert str(price) == "price error (euro): lower is better, wrong above 50"
    assert str(MARGIN) == "margin: higher is better, wrong below 0"
    assert str(Output("prediction")) == "prediction: neither high nor low is better"
    assert from_document(price.document()) == price and price.title == "price error (euro)"


@pytest.mark.parametrize(
    "fields, fault",
    [
        ({"name": ""}, "output.name = ''"),
        ({"name": "two\nlines"}, "one line"),
        ({"name": "x" * 61}, "60 letters"),
        ({"name": "a", "unit": 3}, "output.unit = 3"),
        ({"name": "a", "higher_is_better": 1}, "true, false or null"),
        ({"name": "a", "higher_is_better": True, "threshold": np.inf}, "finite number"),
        ({"name": "a", "higher_is_better": True, "threshold": "0"}, "finite number"),
        ({"name": "a", "threshold": 0.5}, "needs output.higher_is_better"),
        ({"name": "a", "lowest": True}, "output.lowest = True: must be a finite number or null"),
        ({"name": "a", "highest": np.nan}, "output.highest = nan: must be a finite number"),
        ({"name": "a", "lowest": 1, "highest": 1}, "output.lowest = 1: must be below output.highest = 1"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, fault):
    with pytest.raises(SpecError, match=fault):
        Output(**fields)


def test_wrong_is_past_the_threshold_in_the_worse_direction():
    values = np.array([-1.0, 0.0, 2.0, 3.0])
    assert MARGIN.wrong(values).tolist() == [True, False, False, False]
    assert MARGIN.right(values).tolist() == [False, False, True, True]
    loss = LOSS.judged(2)
    assert loss.wrong(values).tolist() == [False, False, False, True]
    assert loss.right(values).tolist() == [True, True, False, False]
    assert MARGIN.judged(2.5).wrong(values).tolist() == [True, True, True, False]


def test_predictions_end_at_the_bounds_of_an_output():
    values = np.array([-1.0, 0.5, 2.0, np.nan])
    np.testing.assert_array_equal(SQUARED_ERROR.within(values), [0, 0.5, 2, np.nan])
    np.testing.assert_array_equal(outputs.LOG_LIKELIHOOD.within(values), [-1, 0, 0, np.nan])
    np.testing.assert_array_equal(outputs.of_shares(LOSS.judged(1)).within(values), [0, 0.5, 1, np.nan])
    np.testing.assert_array_equal(MARGIN.within(values), values)
    found = [one.beyond(values) for one in (SQUARED_ERROR, outputs.LOG_LIKELIHOOD, MARGIN)]
    assert [text.partition(" are")[0] for text in found] == ["1 of 4 outputs", "2 of 4 outputs", ""]
    assert not SQUARED_ERROR.beyond(np.array([-1e-8, 10.0])), "rounding"


def test_a_known_output_of_an_earlier_version_gets_its_bounds():
    earlier = {"name": "squared error", "unit": "", "higher_is_better": False, "threshold": None}
    assert from_document(earlier) == SQUARED_ERROR
    assert from_document(earlier | {"unit": "euro"}).lowest is None
    declared = earlier | {"lowest": None, "highest": None}  # by today's version, by somebody who knows better
    assert from_document(declared).lowest is None


def test_what_is_not_declared_is_asked_for():
    with pytest.raises(InputError, match=r"'loss' has no threshold.*--threshold, or declare it"):
        LOSS.judged()
    with pytest.raises(InputError, match="'prediction' is neither better high nor low"):
        Output("prediction").judged(1.0)
    with pytest.raises(InputError, match="threshold = inf"):
        LOSS.judged(np.inf)


@pytest.mark.parametrize(
    "options, classes, expected",
    [
        ({}, True, MARGIN),
        ({}, False, Output("output")),
        ({"output": "loss"}, True, LOSS),
        ({"output": "squared_error"}, False, SQUARED_ERROR),
        ({"output": "log_price"}, True, Output("log price")),
        ({"output": 3}, True, MARGIN),
        ({"output": ""}, True, Output("output")),
    ],
)
def test_what_an_output_is_taken_for_if_nobody_says(options, classes, expected):
    assert assumed(options, classes=classes) == expected


def test_a_share_of_models_has_the_direction_of_the_output():
    right, wrong = outputs.of_shares(MARGIN), outputs.of_shares(LOSS.judged(1))
    assert (right.sign, wrong.sign) == (1, -1) and right.threshold == wrong.threshold == 0.5
    assert right.name == "fraction of models that are right" and wrong.name == "fraction of models that are wrong"
    assert dataclasses.replace(wrong, threshold=None).effects == ("helpful", "harmful")
