import pytest

from datamodels.plan import gradients
from datamodels.plan.cost import Speed
from tests.runners.test_gradients import SMALL, TREES, made


def test_the_plan_counts_training_and_scores_of_all_models():
    run, dataset = made(m=30)
    found = gradients.plan(run, dataset, Speed(2.0, trainers=3))
    assert found.models == 20 and 20 * 6.0 < found.seconds < 20 * 6.0 + 60
    parts = 4 * run.n * (2 * 60 + 6 * 60)
    assert found.memory > parts
    fewer = gradients.plan(run.with_fit({"estimator": "prior", "gradients": 3}), dataset, Speed(2.0))
    assert fewer.models == 3 and 3 * 2.0 < fewer.seconds < found.seconds


@pytest.mark.parametrize(
    "changes", [{"fit": {"estimator": "lasso"}}, {"fit": SMALL["fit"] | {"gradients": 0}}, {"trainer": TREES}]
)
def test_there_is_no_plan_without_gradients(changes):
    run, dataset = made(**changes)
    assert gradients.plan(run, dataset, Speed(1.0)) is None
