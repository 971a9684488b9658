from datamodels import words


def test_numbers_are_spelt_with_the_right_form_of_the_noun():
    assert [words.count(n, "epoch") for n in (0, 1, 2, 1200)] == ["0 epochs", "1 epoch", "2 epochs", "1,200 epochs"]


def test_examples_and_targets_are_named_with_their_labels():
    assert [words.example(7, label) for label in (3, "cat", None, -1, "")] == ["#7 (3)", "#7 (cat)", "#7", "#7", "#7"]
    assert (words.target(7, 0), words.target(7)) == ("target 7 (0)", "target 7")


def test_a_number_keeps_three_digits_at_any_scale():
    written = {
        2.8604: "2.860",
        -0.80691: "-0.807",
        0.012345: "0.0123",
        0.09999: "0.1000",
        1e-7: "1.00e-07",
        -3.14e-12: "-3.14e-12",
        100.0: "100.000",
        30512.34: "30,512.3",
        1234567.8: "1,234,568",
        9.87e11: "9.87e+11",
        0.0: "0",
        float("nan"): "unknown",
        float("-inf"): "-inf",
    }
    assert {value: words.number(value) for value in written} == written
    assert [words.number(v, signed=True) for v in (1e-7, 0.5, 0.0, -0.5)] == ["+1.00e-07", "+0.500", "0", "-0.500"]
    pages = {-0.304: "\u22120.30", -0.004: "0.00", 0.0: "0.00", 0.126: "0.13"}
    assert {value: words.fixed(value, 2) for value in pages} == pages
    assert words.interval((-2e-6, 0.25), signed=True) == "-2.00e-06 to +0.250"
