import threading

import numpy as np
import pytest

from datamodels.aggregate import manifest
from datamodels.aggregate.progress import CommittedModels
from datamodels.analyze.quality import evaluate, stopping
from datamodels.analyze.quality.interim import InterimEvaluations
from datamodels.analyze.quality.stopping import Stop, decide
from datamodels.analyze.quality.trend import Point
from datamodels.errors import CorruptObjectError
from datamodels.fit.data import examples
from datamodels.fit.job import fits
from datamodels.fit.job.job import FitJob
from datamodels.fit.pairs import pairs
from datamodels.run import designs, runs, specs
from datamodels.run.dataset import Dataset
from datamodels.run.specs import UntilSpec
from datamodels.settings import FitterSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import committed

LDS = UntilSpec(lds=0.9)


def point(models, lds, error=0.01):
    deviations = error * np.random.default_rng(0).normal(size=200)
    return Point(models, lds, (lds - 2 * error, lds + 2 * error), deviations)


def curve_to(models):
    return [point(m, 1 / np.sqrt(1.1 + 100 / m)) for m in (models // 8, models // 4, models // 2, models)]


def test_the_lower_end_of_the_interval_decides():
    assert decide(LDS, [point(100, 0.91)], 3) is None
    stop = decide(LDS, [point(100, 0.5), point(200, 0.93)], 3)
    assert (stop.fit, stop.models, stop.lds, stop.gain) == (3, 200, 0.93, None)
    assert str(stop) == "LDS 0.930 (0.910 to 0.950) of 200 models is at least 0.9"


def test_the_upper_end_of_the_gain_decides():
    points = curve_to(1600)
    gain = 1 / np.sqrt(1.1 + 100 / 3200) - 1 / np.sqrt(1.1 + 100 / 1600)
    assert decide(UntilSpec(slope=gain * 0.99), points, 0) is None
    stop = decide(UntilSpec(slope=gain * 1.5), points, 0)
    assert stop.gain.low <= gain <= stop.gain.high <= gain * 1.5
    assert "twice as many would bring 0.0" in str(stop) and stop.lds == points[-1].lds
    assert decide(UntilSpec(slope=0.9), points[-2:], 0) is None, "two points show no slope"


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


def test_of_two_decisions_under_one_rule_the_first_holds(store):
    stop = decide(LDS, [point(200, 0.95)], 1)
    other = Stop({"lds": None, "slope": 0.1}, 2, 300, 0.9, (0.8, 0.95), stopping.Estimate(0.01, 0.0, 0.02))
    assert stopping.find(store, "r", LDS) is None
    assert stopping.record(store, "r", stop) == stop
    assert stopping.record(store, "r", decide(LDS, [point(900, 0.99)], 7)) == stop
    assert stopping.record(store, "r", other) == other
    assert stopping.recorded(store, "r") == [stop, other]
    assert stopping.find(store, "r", LDS) == stop
    assert stopping.find(store, "r", UntilSpec(lds=0.91)) is None, "another rule, another decision"


def test_drivers_that_decide_at_once_agree(store):
    found = []

    def one(models):
        found.append(stopping.record(store, "r", decide(LDS, [point(models, 0.95)], 0)))

    threads = [threading.Thread(target=one, args=(models,)) for models in range(100, 108)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({stop.models for stop in found}) == 1 and len(stopping.recorded(store, "r")) == 1


def test_a_damaged_decision_is_named(store):
    stopping.record(store, "r", decide(LDS, [point(200, 0.95)], 1))
    (key,) = store.list("query/")
    store.delete(key)
    store.create(key, b"{}")
    with pytest.raises(CorruptObjectError, match=key):
        stopping.find(store, "r", LDS)


class Pipeline:
    """A run whose models arrive as the test says, fitted by the real job."""

    def __init__(self, folder, **until):
        self.store = LocalStore(folder / "store")
        fields = {"fit": {"solver": "gram"}, "evaluate": {"subsets": 12, "models": 3}}
        self.run = committed.make_run(m=640, until=until, **fields)
        runs.create(self.store, self.run)
        self.settings = FitterSettings(scratch=str(folder / "scratch"), device="cpu", threads=1)
        self.fits = 0
        self.points = []
        self.ranges = []

    def arrive(self, *ranges):
        """Models arrive; the manifest lists what has, as the aggregator's would."""
        everything = committed.commit(self.store, self.run).parts if not self.ranges else self.everything
        self.everything = everything
        self.ranges = manifest.merged(ranges)
        listed = [p for p in everything if any(r.start <= p.first and p.last <= r.stop for r in self.ranges)]
        manifest.create(self.store, manifest.read_newest(self.store, self.run.name).rewritten(listed))

    def fit(self):
        self.fits += 1
        stop = threading.Event()
        return FitJob(self.store, self.run.name).solve(self.settings, progress=lambda *progress: None, stop=stop).number

    def interim(self):
        return InterimEvaluations(self.run, self.store, self.fit, self.points.append)

    def poll(self, interim, eventually):
        """The decision once a look that is due has ended."""
        committed_models = sum(map(len, self.ranges))
        progress = CommittedModels(self.run.name, self.run.spec.models, committed_models, 0, self.ranges, 0)
        found = interim.poll(progress)
        if interim._running is not None:
            eventually(interim._running.done)
            found = interim.poll(progress)
        return found


def test_training_ends_once_the_lds_is_there(tmp_path, eventually):
    pipeline = Pipeline(tmp_path, lds=0.8)
    interim = pipeline.interim()
    assert interim.decided() is None
    pipeline.arrive(range(0, 200))
    assert pipeline.poll(interim, eventually) is None and pipeline.fits == 0, "no unseen subset's model is there yet"
    pipeline.arrive(range(0, 60), range(640, 676))
    assert pipeline.poll(interim, eventually) is None and pipeline.fits == 0, "six held-out models are too few"
    pipeline.arrive(range(0, 100), range(640, 676))
    early = pipeline.poll(interim, eventually)
    assert pipeline.fits == 1
    pipeline.arrive(range(0, 120), range(640, 676))
    if early is None:
        assert pipeline.poll(interim, eventually) is None and pipeline.fits == 1, "a fifth more is not a quarter more"
    pipeline.arrive(range(0, 400), range(640, 676))
    stop = early or pipeline.poll(interim, eventually)
    assert stop.lds > 0.8 and stop.interval[0] >= 0.8 and stop.models in (100, 400)
    assert len(pipeline.points) == pipeline.fits and (pipeline.points[-1].models, pipeline.points[-1].lds) == (
        stop.models,
        stop.lds,
    )
    interim.close()
    recorded = [evaluate.recorded(pipeline.store, pipeline.run.name, number) for number in range(pipeline.fits)]
    assert [found and found.lds for found in recorded] == [*(point.lds for point in pipeline.points[:-1]), None]
    # Whoever takes the pipeline again finds it, and interim no more.
    assert pipeline.interim().decided() == stop


class Explained(Pipeline):
    """A run of 1,000 columns whose outputs come from a feature of the pairs, with `estimator`."""

    def __init__(self, folder, estimator):
        self.store = LocalStore(folder / "store")
        rng, d, n = np.random.default_rng(0), 1000, 10
        x, y = rng.normal(size=(d + n, 4)).astype("f4"), rng.integers(3, size=d + n)
        dataset = Dataset(x[:d], y[:d], x[d:], y[d:])
        document = {"name": "explained", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 640}
        document |= {"evaluate": {"subsets": 12, "models": 3}, "chunk": 20, "sub_chunk": 10}
        document |= {"until": {"lds": 0.7}, "fit": {"estimator": estimator}}
        self.run = runs.resolve(specs.parse(document), dataset)
        runs.create(self.store, self.run)
        examples.write(self.store, self.run.with_fit({"estimator": "prior"}), dataset)
        self.settings = FitterSettings(scratch=str(folder / "scratch"), device="cpu", threads=1)
        self.fits, self.points, self.ranges = 0, [], [range(0)]
        given = examples.read(self.store, self.run.with_fit({"estimator": "prior"}))
        theta = pairs.of_run(self.run, given).of(np.arange(n))[0]

        def outputs(run, models):
            members = np.zeros((len(models), d))
            for row, model in enumerate(models):
                members[row, designs.subset(run.design, run.spec.subset_index(model))] = 1
            clean = (members - 0.5) @ theta.T / np.sqrt((theta**2).sum(axis=1))
            return (clean + 0.1 * np.random.default_rng(models).normal(size=clean.shape)).astype("f4")

        self.everything = committed.commit(self.store, self.run, outputs=outputs).parts


def test_a_prior_may_end_training_before_weights_could(tmp_path, eventually, monkeypatch):
    for name in ("COMPONENTS", "LANDMARKS", "SUBSETS"):
        monkeypatch.setattr(pairs, name, 4)
    for estimator in ("lasso", "prior"):
        pipeline = Explained(tmp_path / estimator, estimator)
        interim = pipeline.interim()
        pipeline.arrive(range(0, 90), range(640, 676))
        assert pipeline.poll(interim, eventually) is None and pipeline.fits == 0, "nine held-out models are too few"
        pipeline.arrive(range(0, 100), range(640, 676))
        stop = pipeline.poll(interim, eventually)
        interim.close()
        if estimator == "lasso":
            assert stop is None and pipeline.fits == 0, "it waits for 125 models, an eighth of the columns"
        else:
            assert stop.models == 100 and stop.interval[0] >= 0.7 and pipeline.fits == 1
            assert fits.read_fit(pipeline.store, pipeline.run.name, 0).choice["way"].startswith("prior")


def test_what_an_earlier_driver_fitted_tells_the_slope(tmp_path, eventually):
    pipeline = Pipeline(tmp_path, slope=0.2)
    for models in (80, 160, 320):
        pipeline.arrive(range(0, models), range(640, 676))
        pipeline.fit()
    pipeline.arrive(range(0, 600), range(640, 676))
    interim = pipeline.interim()
    stop = pipeline.poll(interim, eventually)
    assert stop.models == 600 and stop.gain.high <= 0.2
    interim.close()


def test_nothing_is_looked_at_when_all_is_trained(tmp_path, eventually):
    pipeline = Pipeline(tmp_path, lds=0.99)
    pipeline.arrive(range(0, 676))
    interim = pipeline.interim()
    assert pipeline.poll(interim, eventually) is None and pipeline.fits == 0
    interim.close()


def test_a_fit_that_fails_is_told(tmp_path, eventually):
    pipeline = Pipeline(tmp_path, lds=0.5)
    pipeline.arrive(range(0, 200), range(640, 676))

    def fail():
        raise CorruptObjectError("a part is damaged")

    interim = InterimEvaluations(pipeline.run, pipeline.store, fail, pipeline.points.append)
    with pytest.raises(CorruptObjectError, match="a part is damaged"):
        pipeline.poll(interim, eventually)
    interim.close()
