import pytest

from datamodels.runners.pipeline import needed
from tests.runners.cluster.conftest import spec


@pytest.mark.parametrize(
    ("until", "fields", "names"),
    [
        ("sample", {}, {"sampler", "aggregator"}),
        ("aggregate", {}, {"sampler", "aggregator"}),
        ("fit", {}, {"sampler", "aggregator", "fitter"}),
        ("query", {}, {"sampler", "aggregator", "fitter", "query"}),
        ("sample", {"until": {"lds": 0.5}}, {"sampler", "aggregator"}),
        ("train", {"until": {"lds": 0.5}}, {"sampler", "aggregator", "fitter"}),
    ],
)
def test_a_run_needs_the_services_that_its_stages_call(until, fields, names):
    assert set(needed(spec(evaluate={"subsets": 10, "models": 2}, **fields), until)) == names
