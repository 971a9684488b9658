from datetime import date

import numpy as np
import pytest

from datamodels.run import documents


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-4", 1e-4),
        ("1e3", 1000.0),
        ("1.5E+3", 1500.0),
        (".5", 0.5),
        ("-1.", -1.0),
        ("0o17", 15),
        ("0x1F", 31),
        ("+12", 12),
        ("-.inf", -np.inf),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("TRUE", True),
        ("~", None),
        ("2026-01-01", "2026-01-01"),
        ("'0400'", "0400"),
        ('"6:40"', "6:40"),
        ("12 apples", "12 apples"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = documents.load(f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text, fault",
    [
        ("a: 0400", "line 1: 0400 is octal in YAML 1.1 and decimal in 1.2; write 400, an octal number as 0o17"),
        ("a: 1\nb: 6:40", "line 2: 6:40 is 400 in YAML 1.1 and a text in 1.2; write 400, or a text in quotes"),
        ("a: 1_000", "line 1: 1_000 is 1000 in YAML 1.1 and a text in 1.2; write 1000"),
        ("a: 0b11", "line 1: 0b11 is 3 in YAML 1.1"),
        ("b: {a: 1, a: 2}", "line 1: 'a' is given twice"),
        ("<<: {a: 1}", "line 1: << merges mappings in YAML 1.1 only"),
        ("[1]: 2", "line 1: the key [1] is no text"),
        ("a: [1", "is not YAML: "),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(text, fault):
    with pytest.raises(ValueError) as raised:
        documents.load(text)
    assert str(raised.value).startswith(fault) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "value", ["0400", "1e3", "yes", "6:40", "12", "null", "<<", "2026-01-01", 1e-5, 3, True, None, ["a"]]
)
def test_what_is_written_reads_back(value):
    assert documents.load(documents.dump({"a": value})) == {"a": value}


def a_loop():
    loop = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    "value, path, fault",
    [
        ({"weights": {0: 5.0}}, ("weights",), "key 0 is no text; write '0'"),
        ({True: 1}, (), "key True is no text; write 'True'"),
        ({"a": [1, {"b": float("nan")}]}, ("a", "1", "b"), "nan is no finite number"),
        ({"a": date(2026, 1, 1)}, ("a",), "datetime.date(2026, 1, 1) is a date; write texts, numbers"),
        ({"a": {1, 2}}, ("a",), "{1, 2} is a set; write a list"),
        ({"a": b"x"}, ("a",), "b'x' is a bytes; write a text, or the path of a file"),
        ({"a": 2**64}, ("a",), "is a whole number of more than 64 bits"),
        ({"a": np.float32(1)}, ("a",), "np.float32(1.0) is a float32; write texts, numbers"),
        ({"a": a_loop()}, ("a",), "is nested too deeply"),
    ],
)
def test_what_json_cannot_carry_is_refused_with_its_path(value, path, fault):
    with pytest.raises(documents.Unstorable) as raised:
        documents.plain(value)
    ((found, text),) = raised.value.faults
    assert found == path and text.startswith(fault)
