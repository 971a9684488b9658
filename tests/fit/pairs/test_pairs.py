import numpy as np
import pytest

from datamodels.fit.data import examples
from datamodels.fit.pairs import inputs, pairs
from datamodels.run import runs, specs
from datamodels.run.dataset import Dataset

N, TARGETS = 40, 7


def inputs_of(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, 6)), rng.normal(size=(TARGETS, 6))


def named(found, name):
    return found.names.index(name)


def test_features_of_classes():
    x, theirs = inputs_of()
    y, labels = np.arange(N) % 3, np.arange(TARGETS) % 4  # the pool lacks class 3
    found = pairs.of_arrays(x, y, theirs, labels, alpha=0.5)
    features = found.of(np.arange(TARGETS))
    assert features.shape == (len(found.names), TARGETS, N) and np.isfinite(features).all()
    np.testing.assert_array_equal(features[named(found, "same class")], labels[:, None] == y)
    np.testing.assert_allclose(found.of(np.array([4, 1])), features[:, [4, 1]], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("y", ["texts", "one text", "one class", "numbers", "several numbers", "none"])
def test_labels_of_every_kind(y):
    x, theirs = inputs_of()
    rng = np.random.default_rng(1)
    labels = {
        "texts": rng.choice(["a", "b"], N + TARGETS),
        "one text": np.repeat("a", N + TARGETS),
        "one class": np.ones(N + TARGETS, dtype=np.int64),
        "numbers": rng.normal(size=N + TARGETS),
        "several numbers": rng.normal(size=(N + TARGETS, 2)),
        "none": np.array([{"box": i} for i in range(N + TARGETS)], dtype=object),
    }[y]
    found = pairs.of_arrays(x, labels[:N], theirs, labels[N:], alpha=0.5)
    features = found.of(np.arange(TARGETS))
    assert len(found.names) == len(features) <= pairs.MOST and np.isfinite(features).all()
    influences = {name.split(",")[0] for name in found.names if name.startswith("influence")}
    assert influences == {
        "texts": {"influence"},
        "one text": set(),
        "none": set(),
    }.get(y, {f"influence on {way}" for way in ("prediction", "squared error", "absolute error")})
    assert any(name.startswith("similar") for name in found.names), "inputs can be compared without labels"


def test_the_influence_on_a_squared_error_is_twice_the_miss_times_that_on_the_prediction():
    x, theirs = inputs_of()
    y = np.random.default_rng(1).normal(size=N + TARGETS)
    found = pairs.of_arrays(x, y[:N], theirs, y[N:], alpha=1.0)  # then all models are the same
    prediction, square, size = (
        found.of(np.arange(TARGETS))[named(found, f"influence on {way}, linear, 0.001")]
        for way in ("prediction", "squared error", "absolute error")
    )
    miss = (square / prediction / 2)[:, :1]
    np.testing.assert_allclose(square, 2 * miss * prediction, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(size, np.sign(miss) * prediction, rtol=1e-3, atol=1e-6)


def test_a_group_has_the_sum_over_its_examples_and_a_pinned_column_nothing():
    x, theirs = inputs_of()
    y, labels = np.arange(N) % 3, np.arange(TARGETS) % 3
    groups = np.random.default_rng(2).integers(5, size=N)
    groups[groups == 3] = 4  # an empty column
    single = pairs.of_arrays(x, y, theirs, labels, alpha=0.5).of(np.arange(TARGETS))
    varies = np.array([True, True, False, True, True])
    grouped = pairs.of_arrays(x, y, theirs, labels, alpha=0.5, columns=(groups, 5), varies=varies)
    found = grouped.of(np.arange(TARGETS))
    for c in range(5):
        wanted = single[:, :, groups == c].sum(axis=2) * varies[c]
        np.testing.assert_allclose(found[:, :, c], wanted, rtol=1e-3, atol=1e-5)


def test_the_features_of_a_run_are_those_of_its_data_set():
    x, theirs = inputs_of()
    dataset = Dataset(x, np.arange(N) % 2, theirs, np.arange(TARGETS) % 2)
    spec = {"name": "a", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 60, "targets": "both"}
    run = runs.resolve(specs.parse(spec), dataset)
    found = pairs.of_run(run, examples.of_dataset(run, dataset))
    targets = dataset.targets("both")
    wanted = pairs.of_arrays(x, dataset.y, targets.x, targets.y, alpha=0.5)
    np.testing.assert_array_equal(found.of(np.arange(run.n)), wanted.of(np.arange(run.n)))


@pytest.mark.parametrize("shape", [(300, 120), (120, 300)])
def test_sketched_components_say_what_exact_ones_do(shape, monkeypatch):
    """Inputs whose variance is in some directions, as that of images and texts is."""
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.normal(size=(shape[1], 60)))[0].T
    x = rng.normal(size=(shape[0] + 5, 60)) * 0.85 ** np.arange(60) @ basis
    y = np.arange(len(x)) % 3
    given = x[:-5], y[:-5], x[-5:], y[-5:]
    monkeypatch.setattr(pairs, "COMPONENTS", 16)
    exact = pairs.of_arrays(*given, alpha=0.5).of(np.arange(5))
    monkeypatch.setattr(inputs, "EXACT", 50)
    sketched = pairs.of_arrays(*given, alpha=0.5).of(np.arange(5))
    size = np.abs(exact).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(sketched / size, exact / size, atol=0.01)
