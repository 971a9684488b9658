import dataclasses

from datamodels.explore.progress import OBSERVED, Observer, RunProgress

START = RunProgress(100, 10, 0, (), 0, 0, None, ())


def test_the_rate_is_that_of_the_last_minutes():
    now = [0.0]
    observer = Observer(lambda: now[0])
    assert observer.see(START).rate is None
    now[0] = 10.0
    found = observer.see(dataclasses.replace(START, committed=30))
    assert (found.rate, found.remaining) == (2.0, 35.0)
    now[0] += OBSERVED + 1
    assert observer.see(dataclasses.replace(START, committed=90)).rate is None, "what was long ago does not count"


def test_a_run_has_ended_once_a_fit_follows_its_training():
    trained = dataclasses.replace(START, committed=100)
    assert not trained.ended and not dataclasses.replace(START, fits=1, fitted=8).ended
    assert dataclasses.replace(trained, fits=1, fitted=90).ended
    assert dataclasses.replace(START, stopped=("enough",), fits=1, fitted=8).ended
