import dataclasses

import pytest

from datamodels.analyze.quality import evaluate
from datamodels.explore import progress, views
from datamodels.explore.progress import OBSERVED, Observer, RunProgress
from datamodels.query.weights import WeightStore
from datamodels.storage.local import LocalStore
from tests.report import made

START = RunProgress(100, 10, 0, 8, (), 0, 0, None, True, ())
LDS = (0.9, 0.8, 1.0)


def test_the_rate_is_that_of_the_last_minutes():
    now = [0.0]
    observer = Observer(lambda: now[0])
    assert observer.see(START).rate is None
    now[0] = 10.0
    found = observer.see(dataclasses.replace(START, committed=30))
    assert (found.rate, found.remaining) == (2.0, 35.0)
    now[0] += OBSERVED + 1
    assert observer.see(dataclasses.replace(START, committed=90)).rate is None, "what was long ago does not count"


def test_a_run_has_ended_once_a_fit_of_all_its_models_is_measured():
    trained = dataclasses.replace(START, committed=100, usable=90)
    assert not trained.ended and not dataclasses.replace(START, fits=1, fitted=8, lds=LDS).ended
    assert not dataclasses.replace(trained, fits=1, fitted=8, lds=LDS).ended, "that fit is of the time of training"
    assert not dataclasses.replace(trained, fits=1, fitted=90).ended, "its LDS is not there yet"
    assert dataclasses.replace(trained, fits=1, fitted=90, lds=LDS).ended
    assert dataclasses.replace(trained, fits=1, fitted=90, evaluated=False).ended
    assert dataclasses.replace(START, stopped=("enough",), fits=1, fitted=8, lds=LDS).ended


def test_the_lds_of_each_fit_is_a_point_of_the_curve(tmp_path):
    run = made.findings(tmp_path, stop=100).run
    store = LocalStore(tmp_path)
    weights, known = WeightStore(store, refresh=0), {}
    first = progress.read(weights, run.name, known)
    assert (first.fits, first.lds, first.curve) == (1, None, ()) and not first.trained
    measured = made.findings(tmp_path / "whole").evaluation
    evaluate.record(store, run.name, 0, measured)
    second = progress.read(weights, run.name, known)
    assert second.curve == ((second.fitted, measured.lds, *measured.interval),) and second.lds == second.curve[0][1:]
    assert known == {0: second.curve[0]} and second.usable == second.fitted == 100


def test_training_has_a_cost_if_there_is_a_price():
    assert views.training(None, 10, 100, False, 2.0) is None
    assert views.training(36.0, 10, 100, False).model_dump() == {
        "seconds": 360.0,
        "expected": 3600.0,
        "cost": None,
        "expected_cost": None,
    }
    found = views.training(36.0, 10, 100, False, 2.0)
    assert (found.cost, found.expected_cost) == pytest.approx((0.2, 2.0))
    assert views.training(36.0, 10, 100, True, 2.0).expected_cost == found.cost, "no more models follow"
