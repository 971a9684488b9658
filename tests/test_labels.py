import numpy as np
import pytest

from datamodels.labels import doubts, fault_of, fault_of_pair


@pytest.mark.parametrize(
    "y",
    [
        np.array(["5", "0", "4", "1"]),  # digits, as OpenML gives them
        np.array(["1.0", "2.0", "1.0"]),
        np.array(["None", "some"]),
        np.array(["red", "green"]),
        np.array([str(i % 40) for i in range(50)]),
        np.array([b"red", b"green"]),
        np.arange(3),
        np.zeros((3, 2), dtype=np.int32),
    ],
)
def test_good_labels_have_no_fault(y):
    assert fault_of(y) == ""


def test_prices_as_texts_are_faulty_also_if_all_are_whole():
    assert "would make 80 classes" in fault_of(np.array([f"{100 + i % 80}.00" for i in range(100)]))


@pytest.mark.parametrize(
    ("y", "y_test"),
    [
        (np.arange(3), np.zeros((2, 0))),  # only the pool is labelled
        (np.zeros((2, 0)), np.arange(3)),
        (np.arange(3), np.arange(3, dtype=np.uint8)),
        (np.array(["a"]), np.array([b"a"])),
        (np.zeros((2, 4), dtype=int), np.zeros((1, 4), dtype=int)),
    ],
)
def test_labels_of_one_kind_fit_each_other(y, y_test):
    assert fault_of_pair(y, y_test) == ""


def test_targets_of_classes_that_the_pool_lacks_are_doubted_with_names_and_counts():
    said = doubts(np.array([0, 1, 0]), np.array([0, 2, 2, 3]), ("cat", "dog", "emu", "fox"))
    assert said == [
        "3 of 4 targets are of classes that the training examples lack: emu (2 targets), fox (1 target). No model can "
        "learn these, so what their outputs depend on means little"
    ]
    (texts,) = doubts(np.array(["a", "b"]), np.array(["b", "c\x1b"]))
    assert texts.startswith("1 of 2 targets are of classes that the training examples lack: c\N{REPLACEMENT CHARACTER}")
    (many,) = doubts(np.zeros(9, dtype=int), np.arange(9))
    assert "1 (1 target), 2 (1 target), 3 (1 target), 4 (1 target), 5 (1 target) and 3 more." in many


def test_more_classes_than_half_the_examples_are_doubted():
    prices = np.array([200 + i % 80 for i in range(100)])
    said = doubts(prices, prices[:5])
    assert said == [
        "y has 80 classes in 100 training examples, and 60 of them have a single example. If y holds numbers and not "
        "classes, make it floats: y.astype(float)"
    ]
    assert doubts(prices.astype(str), prices[:5].astype(str)) == said
    assert not doubts(np.arange(20), np.arange(20))  # a class for each of a few examples


def test_labels_beyond_the_names_are_doubted():
    assert doubts(np.arange(3), np.arange(1), ("a", "b")) == [
        "there are 2 label_names, and a label 2: the names may be of other classes"
    ]


@pytest.mark.parametrize("y", [np.linspace(0, 1, 50), np.zeros((50, 3), dtype=int), np.zeros((50, 0))])
def test_labels_that_are_no_classes_are_not_doubted(y):
    assert doubts(y, y[::-1]) == []
