from datamodels import words


def test_numbers_are_spelt_with_the_right_form_of_the_noun():
    assert [words.count(n, "epoch") for n in (0, 1, 2, 1200)] == ["0 epochs", "1 epoch", "2 epochs", "1,200 epochs"]


def test_examples_and_targets_are_named_with_their_labels():
    assert [words.example(7, label) for label in (3, "cat", None, -1, "")] == ["#7 (3)", "#7 (cat)", "#7", "#7", "#7"]
    assert (words.target(7, 0), words.target(7)) == ("target 7 (0)", "target 7")
