import argparse
import itertools
import json
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.analyze.quality import curve
from datamodels.analyze.quality import trend as forms
from datamodels.analyze.quality.trend import Point, trend
from datamodels.analyze.quality.unseen import Unseen
from datamodels.cli.analyses.curve import documents, lines, spent
from datamodels.errors import NotReadyError
from datamodels.fit.job.job import FitJob
from datamodels.lifecycle import compaction
from datamodels.run import runs
from datamodels.settings import FitterSettings
from datamodels.storage import keys, records
from datamodels.storage.local import LocalStore
from datamodels.testing import committed

DIGITS = {
    125: (0.2888, 0.0056),
    250: (0.4763, 0.0059),
    500: (0.6373, 0.0057),
    1000: (0.7645, 0.0041),
    2000: (0.8454, 0.0032),
    4000: (0.8906, 0.0024),
    8000: (0.9167, 0.0020),
    10_000: (0.9223, 0.0018),
    12_000: (0.9271, 0.0017),
}
"""LDS and its standard error by models: digits, 1,400 examples, the demo's spec with the solver gram."""


def points_of(table, seed=0, resamples=200):
    """Points whose deviations have these standard errors, and are alike, as those of the same subsets are."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=resamples)
    points = []
    for models, (lds, error) in sorted(table.items()):
        deviations = error * (0.9 * shared + np.sqrt(1 - 0.81) * rng.normal(size=resamples))
        interval = (lds - 1.96 * error, lds + 1.96 * error)
        points.append(Point(models, lds, interval, deviations))
    return points


def exact(a, b, c, models, error=1e-6):
    return points_of({m: (1 / np.sqrt(a + b / m + c / m**2), error) for m in models})


@given(a=st.floats(1.0, 3.0), b=st.floats(0.0, 500), c=st.floats(0, 1e5))
def test_a_curve_of_the_form_is_continued_exactly(a, b, c):
    found = trend(exact(a, b, c, [250, 500, 1000, 2000]))
    for m in (2000, 4000, 100_000):
        assert found.at(m).value == pytest.approx(1 / np.sqrt(a + b / m + c / m**2), rel=1e-4)


def test_digits_up_to_4000_models_foretell_10000():
    """Measured on the same run: what the trend says of models that it has not seen."""
    found = trend(points_of({m: it for m, it in DIGITS.items() if m <= 4000}))
    for models in (8000, 10_000, 12_000):
        estimate = found.at(models)
        assert estimate.low <= DIGITS[models][0] <= estimate.high
        assert estimate.value == pytest.approx(DIGITS[models][0], abs=0.005)
        assert estimate.high - estimate.low < 0.025
    needed = found.models_for(0.92)
    assert needed.low < 9000 < needed.high and 7000 < needed.value < 12_000


@pytest.mark.parametrize("most", [1000, 2000, 4000])
def test_the_interval_holds_at_every_stage_of_the_curve(most):
    found = trend(points_of({m: it for m, it in DIGITS.items() if m <= most}))
    for models in DIGITS:
        if models > most:
            assert found.at(models).low <= DIGITS[models][0] <= found.at(models).high


def test_the_straight_line_alone_would_promise_too_much():
    """The reason for the second order, and for an interval from the one form to the other."""
    early = points_of({m: it for m, it in DIGITS.items() if m <= 2000})
    line = forms._coefficients(early[-3:], 2)
    assert forms._lds(line, 10_000)[0] > DIGITS[10_000][0] + 0.01


def test_lds_never_falls_and_never_passes_1():
    found = trend(points_of({m: (min(0.1 * np.log2(m / 50), 0.99), 0.01) for m in (100, 200, 400, 800, 1600)}))
    values = [found.at(m) for m in np.geomspace(1600, 1e9, 30)]
    for estimates in ([e.value for e in values], [e.low for e in values], [e.high for e in values]):
        assert all(b >= a - 1e-12 for a, b in itertools.pairwise(estimates)) and estimates[-1] <= 1
    assert all(e.low <= e.value <= e.high for e in values)


def test_models_for_an_lds_is_the_inverse():
    found = trend(points_of(DIGITS))
    assert found.at(found.models_for(0.93).value).value == pytest.approx(0.93, abs=1e-6)
    never = found.models_for(0.999)
    assert never.value == never.high == np.inf


def test_the_gain_of_a_doubling():
    found = trend(exact(1.2, 100, 0, [250, 500, 1000, 2000]))
    expected = 1 / np.sqrt(1.2 + 100 / 4000) - 1 / np.sqrt(1.2 + 100 / 2000)
    assert found.gain(2000).value == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("models", [[], [1000], [500, 1000, 2000], [10, 20, 1000, 2000]])
def test_too_few_points_say_nothing(models):
    assert trend(exact(1.2, 100, 0, models)) is None


def test_points_without_any_correlation_say_nothing():
    assert trend(points_of({m: (-0.01, 0.02) for m in (250, 500, 1000, 2000)})) is None


def test_sizes_are_nested_doublings():
    assert curve.sizes(12_000) == [93, 187, 375, 750, 1500, 3000, 6000, 12_000]
    assert curve.sizes(1_599) == [49, 99, 199, 399, 799, 1599]
    assert curve.sizes(3) == [1, 3]


def test_points_survive_the_trip_through_a_record():
    points = points_of(DIGITS)
    again = forms.from_document(json.loads(records.canonical([point.document() for point in points])))
    assert trend(again).at(5e4) == trend(points).at(5e4)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """(store, run) with a fit of what is committed, two models that failed among them."""
    folder = tmp_path_factory.mktemp("curve")
    store = LocalStore(folder / "store")
    run = committed.make_run(m=640, fit={"solver": "gram"}, evaluate={"subsets": 12, "models": 3})
    runs.create(store, run)
    committed.commit(store, run, failed=(7, 100))
    settings = FitterSettings(scratch=str(folder / "scratch"), device="cpu", threads=1)
    FitJob(store, run.name).solve(settings, progress=lambda *progress: None, stop=threading.Event())
    return store, run


def test_the_curve_of_a_run_climbs_and_is_measured_once(fitted):
    store, run = fitted
    points = curve.of_newest_fit(store, run, threads=1)
    assert [point.models for point in points] == [19, 39, 79, 159, 319, 638]
    assert points[-1].lds > points[0].lds and points[-1].lds > 0.9
    # Once more from the newest manifest, which merges the parts; that of the fit was pruned.
    compaction.compact(store, run.name)
    store.delete(keys.manifest(run.name, 0))
    store.delete(keys.curve(run.name, 0))
    pruned = curve.of_newest_fit(store, run, threads=1)
    assert [point.document() for point in pruned] == [point.document() for point in points]
    for key in list(store.list(f"aggregate/{run.name}/")):
        store.delete(key)
    again = curve.of_newest_fit(store, run, threads=1)
    assert [point.document() for point in again] == [point.document() for point in points]


def test_a_run_without_a_fit_or_without_unseen_subsets(tmp_path):
    store = LocalStore(tmp_path / "store")
    run = committed.make_run()
    runs.create(store, run)
    snapshot = committed.commit(store, run)
    with pytest.raises(NotReadyError, match="has no weights yet"):
        curve.of_newest_fit(store, run)
    blind = committed.make_run(evaluate={"subsets": 0})
    with pytest.raises(NotReadyError, match=r"evaluate\.subsets is 0"):
        Unseen.read(blind, snapshot, store)


def test_the_table_has_forecasts_beside_what_was_found():
    points = points_of({m: it for m, it in DIGITS.items() if m <= 8000})
    rows = list(lines(points, 0.93))
    assert rows[0].split() == ["models", "LDS", "95%", "interval", "forecast", "by", "the", "points", "before"]
    assert rows[1].split()[:2] == ["125", "0.289"] and "forecast" not in rows[1]
    found = next(row.split() for row in rows if row.lstrip().startswith("8,000"))
    assert float(found[1]) == 0.917 and float(found[6]) <= 0.917 <= float(found[8])
    assert rows[-2].split()[0] == "32,000" and len(rows[-2].split()) == 5
    assert rows[-1].startswith("LDS 0.93 takes ")
    assert list(lines(points[:2]))[-1] == "too few points to forecast the LDS of more models"
    for document in documents(points, 0.9999):
        json.dumps(document, allow_nan=False)
    assert document == {"wanted_lds": 0.9999, "models": {"value": None, "low": document["models"]["low"], "high": None}}


def test_the_models_for_an_lds_have_a_price():
    points, options = points_of(DIGITS), argparse.Namespace(price=2.0, spot_discount=0.5)
    *_, found = documents(points, 0.93, pace=36.0)
    assert found["device_hours"] == {name: models / 100 for name, models in found["models"].items()}
    hours, text = found["device_hours"], spent(points, 0.93, 36.0, options)
    said = f"{hours['value']:,.4g} device-hours, {hours['value']:,.2f} at 2 per hour less 50%"
    assert text.startswith(f"at the 36.0 s that trainers took for each, these are {said} ({hours['low']:,.4g} to ")
    assert not spent(points, 0.93, None, options), "runs of version 0.2 do not say how long trainers took"
    assert not spent(points, 0.9999, 36.0, options), "no number of models is enough"
