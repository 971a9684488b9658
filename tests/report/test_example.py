import dataclasses

import numpy as np
import pytest

from datamodels.display.looks import Loaded
from datamodels.report import example
from datamodels.report.example import Examples, label_name, rounded
from datamodels.testing import committed
from tests.report import made


def examples(data, **fields):
    from datamodels.run import runs

    run = runs.resolve(committed.make_run(**fields).spec, data)
    return Examples(run, Loaded(run, data))


def test_test_examples_come_before_training_examples():
    words = examples(
        made.dataset(
            image_shape=None, texts=[f"train {i}" for i in range(30)], texts_test=[f"test {i}" for i in range(5)]
        ),
        targets="both",
    )
    assert words.target(4)["text"] == "test 4" and words.target(5)["text"] == "train 0"
    assert words.column(3) == {"name": "#3", "label": "hen", "text": "train 3"}


def test_a_table_shows_its_numbers():
    data = made.dataset(image_shape=None, feature_names=("width", "height"))
    table = examples(data)
    assert table.target(2)["row"] == pytest.approx(data.x_test[2], rel=1e-3)


def test_a_span_is_shown_in_its_text_with_or_without_the_data():
    texts, spans = [f"the <b>{i}</b> of it" for i in range(5)], [(4, 12)] * 5
    words = examples(made.dataset(image_shape=None, texts_test=texts, spans_test=spans))
    shown = {"name": "target 3", "label": "", "text": "the <b>3</b> of it", "span": [4, 12]}
    assert words.target(3) == Examples(words.run, None).target(3) == shown


def test_long_texts_are_cut():
    words = examples(made.dataset(image_shape=None, texts=["long " * 200] * 30, texts_test=["b"] * 5))
    assert len(words.column(0)["text"]) <= example.TEXT + 2 and words.column(0)["text"].endswith("long …")


def test_a_group_has_a_size_and_no_looks():
    assert examples(made.dataset(), design={"kind": "grouped"}).column(0) == {"name": "group 0", "label": "8 examples"}


def test_names_of_labels():
    run = dataclasses.replace(committed.make_run(), label_names=made.NAMES)
    assert [label_name(run, label) for label in (1, 4, -1, np.float64(-0.12345))] == [
        "<dog>",
        "4",
        "",
        "y = \N{MINUS SIGN}0.123",
    ]
    assert label_name(committed.make_run(), 2) == "2"


def test_json_has_no_nan():
    assert rounded(np.array([1.23456, np.nan, -np.inf, 12345.6])) == [1.235, None, None, 12350.0]
