import io
import sys

from datamodels.runners.view import EVERY, LinesView, TerminalView, View, view


def test_a_bar_says_how_far_a_stage_is(capsys):
    with TerminalView().stage("train", "models") as bar:
        bar.expect(600, 200)
        bar.reach(450, "2 failed")
        bar.reach(600, "3 failed")
    out, err = capsys.readouterr()
    last = err.rstrip().split("\r")[-1]
    assert out == ""
    assert last.startswith("train     100% |") and "600/600 models" in last and last.endswith(", 3 failed]")


def test_no_view_shows_nothing(capsys):
    with View().stage("train", "models") as bar:
        bar.expect(3, 0)
        bar.reach(3, "done")
    assert capsys.readouterr() == ("", "")


def test_a_bar_shows_the_time_left_that_it_is_told(capsys):
    with TerminalView().stage("fit", "targets") as bar:
        bar.expect(100, 0)
        bar.reach(40, "choosing lambda", 3725.0)
    assert "<1:02:05, choosing lambda]" in capsys.readouterr().err


def test_a_pipe_gets_a_line_now_and_then_and_none_of_what_is_short(capsys):
    now = 0.0
    with LinesView(lambda: now).stage("train", "models") as bar:
        bar.expect(6000, 0)
        bar.reach(100)
        now = EVERY
        bar.reach(1234, "2 failed", 61.0)
        bar.reach(2000)
        bar.reach(6000)
        bar.reach(6000)
    with LinesView(lambda: now).stage("fit", "targets") as bar:
        bar.expect(3, 0)
        bar.reach(3)
    assert capsys.readouterr().err.splitlines() == [
        "datamodels: train: 1,234 of 6,000 models, 01:01 left, 2 failed",
        "datamodels: train: 6,000 of 6,000 models",
    ]


def test_bars_are_for_terminals(monkeypatch):
    assert type(view()) is LinesView and type(view(quiet=True)) is View
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert type(view()) is TerminalView
