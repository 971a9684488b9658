import pytest

from datamodels.fit.job.eta import Eta


def test_an_even_pace_is_carried_on():
    eta = Eta()
    for second in range(51):
        left = eta.reach(second / 100, at=1000 + second)
    assert left == pytest.approx(50)


def test_nothing_is_said_before_something_is_done():
    eta = Eta()
    assert eta.reach(0.3, at=0) is None
    assert eta.reach(0.3, at=5) is None
    assert eta.reach(0.305, at=6) is None
    assert eta.reach(0.4, at=7) is not None


def test_what_was_done_before_counts_as_done_but_not_as_pace():
    eta = Eta()
    eta.reach(0.8, at=0)
    assert eta.reach(0.9, at=30) == pytest.approx(30)


def test_the_pace_is_that_of_late():
    eta = Eta()
    for step in range(41):
        eta.reach(step / 100, at=step)  # one per cent a second
    for step in range(1, 41):
        left = eta.reach((40 + step) / 100, at=40 + 4 * step)  # then a quarter of that
    assert left == pytest.approx(80, rel=0.02)


def test_work_that_stands_still_is_said_to_take_longer_and_longer():
    eta = Eta()
    eta.reach(0.0, at=0)
    eta.reach(0.5, at=10)
    answers = [eta.reach(0.5, at=at) for at in (20, 40, 80)]
    assert answers == sorted(answers) and answers[-1] > 3 * answers[0]


def test_it_remembers_little_however_often_it_is_told():
    eta = Eta()
    for step in range(100_000):
        left = eta.reach(step / 100_000, at=step / 1000)
    assert left == pytest.approx(0, abs=0.01) and len(eta._marks) < 1000


def test_at_the_end_nothing_is_left():
    eta = Eta()
    eta.reach(0.0, at=0)
    assert eta.reach(1.0, at=10) == 0
