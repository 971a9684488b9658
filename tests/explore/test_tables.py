import numpy as np
import pytest

from datamodels.display import stored
from datamodels.explore import facts
from datamodels.explore.tables import Table
from datamodels.query.weights import WeightStore
from datamodels.run import runs
from datamodels.testing import fitted
from tests.display.test_stored import D, N, make


@pytest.fixture
def fit():
    """A fit whose targets are test examples and training examples, with titles, and a weight of one on itself."""
    names = {"titles": [f"pool-{i}" for i in range(D)], "titles_test": [f"test-{i}" for i in range(N)]}
    store, run, data = make(**names, texts=[f"Said {i}" for i in range(D)], texts_test=["asked"] * N)
    stored.write(store, run, data)
    theta = fitted.make_theta(run)
    theta[N + 3, 3] = 7.0  # target N + 3 is training example 3
    fitted.commit_fit(store, run, theta, intercept=np.zeros(run.n))
    return WeightStore(store).fitted(run.name), stored.open_looks(store, runs.read(store, run.name)), theta


def test_targets_that_are_training_examples_are_found_by_what_these_say(fit):
    found, looks, theta = fit
    table = Table(facts.of_targets(found, None, looks))
    assert [row["target"] for row in table.page(search="POOL-3").rows] == [N + 3]
    assert [row["target"] for row in table.page(search="said 17").rows] == [N + 17]
    assert [row["target"] for row in table.page(search="#2").rows] == [2]
    row = table.page(filters=[f"target={N + 3}"]).rows[0]
    assert row["own"] == 3 and row["predicted"] == pytest.approx(theta[N + 3].sum() - 7.0, rel=1e-5)
    assert row["wrong"] == float(row["predicted"] < 0) and row["lds"] is None


def test_facts_are_those_of_the_weights(fit):
    found, looks, theta = fit
    table = Table(facts.of_columns(found, looks))
    rows = table.page(limit=1000).rows
    assert [row["column"] for row in rows] == list(range(D))
    np.testing.assert_allclose([row["mean"] for row in rows], theta.mean(axis=0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose([row["strongest"] for row in rows], np.abs(theta).max(axis=0), rtol=1e-6)
    assert [row["helped"] for row in rows] == (theta > 0).sum(axis=0).tolist()
    assert [row["title"] for row in table.page(sort=["-targets"], limit=1).rows] == [
        f"pool-{np.lexsort((np.arange(D), -(theta != 0).sum(axis=0)))[0]}"
    ]


def test_a_table_reads_no_file(fit):
    import duckdb

    found, looks, _ = fit
    table = Table(facts.of_targets(found, None, looks))
    with pytest.raises(duckdb.Error):
        table._base.execute("SELECT * FROM read_text('/etc/hostname')")
    with pytest.raises(duckdb.Error):
        table._base.execute("SET enable_external_access = true")
