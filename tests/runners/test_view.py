from datamodels.runners.view import TerminalView, View


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
