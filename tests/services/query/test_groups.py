"""Clusters, components and conflicts from the query service, on a real socket."""

import numpy as np
import pytest
from datamodels.services.query.service import service

from datamodels.analyze.patterns import conflicts
from datamodels.analyze.patterns.clusters import clusters
from datamodels.analyze.patterns.components import components
from datamodels.errors import InputError, RunNotFoundError
from datamodels.query.weights import WeightStore
from datamodels.rpc.clients.query import QueryClient
from datamodels.rpc.serve import Server
from datamodels.run import runs
from datamodels.settings import ClientSettings, ServeSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import fitted, linear

D = linear.D


def make_run(**fields):
    return linear.make_run(targets="both", m=100, **fields)


def make_store(folder):
    """Return (store, run, theta). The targets form two groups by label; each has weights on its own columns."""
    store, run = LocalStore(folder), make_run()
    rng, half = np.random.default_rng(0), run.target_labels % 2 == 0
    theta = rng.normal(size=(run.n, D)) * 0.1
    theta[:, :20] += np.outer(half, rng.normal(size=20))
    theta[:, 20:] += np.outer(~half, rng.normal(size=20))
    theta[3] = 0
    runs.create(store, run)
    fitted.commit_fit(store, run, theta.astype(np.float32))
    return store, run


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Yield (client, run, theta)."""
    store, run = make_store(tmp_path_factory.mktemp("store"))
    bare = make_run(name="bare")
    runs.create(store, bare)
    fitted.commit_fit(store, bare, np.zeros((run.n, D), np.float32))
    weights = WeightStore(store)
    with (
        Server(ServeSettings(), [service(weights)]) as server,
        QueryClient(server.address, ClientSettings()) as client,
    ):
        yield client, run, weights.fitted(run.name)


def same(found, expected, *names):
    for name in names:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("columns", [False, True])
def test_clusters_equal_those_of_the_core_and_have_labels(served, columns):
    client, run, known = served
    found = client.clusters(run.name, columns=columns, k=2).found
    expected = clusters(known.theta.T if columns else known.theta, k=2, seed=run.spec.seed)
    same(found, expected, "cluster", "sizes", "central", "eigenvalues", "bandwidth")
    np.testing.assert_array_equal(found.labels, run.labels if columns else run.target_labels)


def test_the_number_of_clusters_is_chosen_if_it_is_not_given(served):
    client, run, _ = served
    found = client.clusters(run.name).found
    assert len(found.sizes) == 2 and found.cluster[3] == -1
    kept = found.cluster >= 0
    assert len({*zip(found.cluster[kept], run.target_labels[kept] % 2, strict=True)}) == 2


@pytest.mark.parametrize("columns", [False, True])
def test_components_equal_those_of_the_core_and_have_labels(served, columns):
    client, run, known = served
    found = client.components(run.name, columns=columns, k=3, extremes=4).found
    expected = components(known.theta.T if columns else known.theta, k=3, extremes=4, seed=run.spec.seed)
    same(found, expected, "share", "interval", "high", "low", "high_score", "low_feature", "scores")
    assert (len(found.labels), len(found.feature_labels)) == ((D, run.n) if columns else (run.n, D))
    assert client.components(run.name).found.high.shape == (5, 10)


@pytest.mark.parametrize("asked", [{}, {"groups": "clusters", "k": 2}])
def test_conflicts_equal_those_of_the_core(served, asked):
    client, run, known = served
    found = client.conflicts(run.name, **asked).found
    expected = conflicts.of_fit(run, known.solution, **asked)
    same(found, expected, "source", "target", "effect", "interval", "harmed", "sure", "pairs")
    assert found.pairs == (4 if asked else 12)


def test_classes_are_named_by_their_labels(tmp_path):
    run = make_run()
    weights = np.zeros((run.n, D))
    weights[np.ix_(run.target_labels == 1, run.labels == 3)] = -0.1
    store = LocalStore(tmp_path)
    fitted.commit_fit(store, run, weights.astype(np.float32))
    runs.create(store, run)
    found = conflicts.of_fit(run, WeightStore(store).fitted(run.name).solution)
    assert (found.source.tolist(), found.target.tolist()) == ([3], [1])


@pytest.mark.parametrize(
    "ask, error, fault",
    [
        (lambda c, run: c.clusters("nope"), RunNotFoundError, "no such run"),
        (lambda c, run: c.clusters(run, k=1), InputError, "k = 1: must be 2 to"),
        (lambda c, run: c.clusters(run, k=47), InputError, "k = 47: must be 2 to"),
        (lambda c, run: c.clusters(make_run(name="bare").name), InputError, "0 of 46 have weights"),
        (lambda c, run: c.components(run, k=40), InputError, "k = 40: must be 1 to 39"),
        (lambda c, run: c.components(run, extremes=1001), InputError, "extremes = 1001: must be 0 to 1000"),
        (lambda c, run: c.components(make_run(name="bare").name), InputError, "all vectors are equal"),
        (lambda c, run: c.conflicts(run, groups="x"), InputError, "must be classes or clusters"),
        (lambda c, run: c.conflicts(run, k=3), InputError, "the number of classes cannot be chosen"),
    ],
)
def test_bad_arguments_raise_the_errors_of_the_service(served, ask, error, fault):
    client, run, _ = served
    with pytest.raises(error, match=fault):
        ask(client, run.name)
