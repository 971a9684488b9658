import pytest

from datamodels import errors, screen, words

ESCAPES = "\x1b[2J\x1b]0;title\x07\x9b31m\u202edlrow\x08\r"


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(screen, "_secrets", set())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:pass@host:9/b: refused", "http://***@host:9/b: refused"),
        (
            "connect to 'https://u:p@ss/w@rd@host/x' and s3://key:secret@bucket",
            "connect to 'https://***@host/x' and s3://***@bucket",
        ),
        ("https://token@github.example/x", "https://***@github.example/x"),
        ("mail a@b.example about http://host/path", "mail a@b.example about http://host/path"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: ***"),
        ("{'x-amz-security-token': b'IQoJb3JpZ2lu'}", "{'x-amz-security-token': b'***'}"),
        ("?X-Amz-Signature=abcdef&x=1", "?X-Amz-Signature=***&x=1"),
        ("metadata was invalid: Bearer eyJhbGciOiJSUzI1NiJ9.e30.sig", "metadata was invalid: Bearer ***"),
        ("this service requires a bearer token of the run", "this service requires a bearer token of the run"),
    ],
)
def test_secrets_in_urls_and_headers_are_hidden(text, shown):
    assert screen.redact(text) == shown
    for error in (errors.InputError(text), errors.SpecError(text), errors.StageError(text)):
        assert str(error) == shown
    assert errors.SpecError([text, "b"]).faults == (shown, "b")
    assert errors.one_line(ValueError(text)) == f"ValueError: {shown}"


def test_texts_that_are_said_to_be_secrets_are_hidden_line_by_line():
    screen.hide(["first-secret-line\nsecond-secret-line", "short"])
    assert screen.redact(r"b'first-secret-line\nsecond-secret-line' short") == r"b'***\n***' short"


def test_nothing_is_left_that_a_terminal_obeys():
    for shown in (screen.plain(ESCAPES), screen.printable(ESCAPES), screen.printable(f"a\n{ESCAPES}\tb")):
        assert not set("\x1b\x9b\x07\x08\r\u202e") & set(shown)
    assert screen.printable("a\tb\nc\r") == "a\tb\nc " and screen.printable("a\rb", keep="\r") == "a\rb"
    assert screen.printable("\u0645\u200c\u0646 \U0001f600 \udcff") == "\u0645\u200c\u0646 \U0001f600 \udcff"
    assert words.label(0, [f"cat\n{ESCAPES}"]).isprintable()
