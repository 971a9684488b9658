import pytest

from datamodels.plan import cost
from datamodels.plan.cost import Speed
from datamodels.run import specs


def make(**fields):
    base = {"name": "a", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 1000, "chunk": 100}
    return specs.parse(base | {"sub_chunk": 10, "evaluate": {"subsets": 0}} | fields)


def test_the_reviews_estimate_for_imagenet_cars():
    """43,750 GPU-hours and $38,062.50 at alpha = 0.5.

    These figures are 150,000 models of 17.5 minutes, half of 35 minutes on all of the data, at $0.87 for an hour of a
    GPU.
    """
    given = make(m=150_000, chunk=150)
    estimate = cost.on_pods(given, Speed(each=cost.shortened(35 * 60, given.alpha)), pods=1000)
    assert estimate.hours == pytest.approx(43_750)
    assert estimate.cost(0.87) == pytest.approx(38_062.50)
    assert estimate.wall == pytest.approx(43.75 * 3600)


def test_this_machine_starts_each_trainer_once():
    estimate = cost.on_this_machine(make(), Speed(each=0.5, start=10, trainers=2))
    assert estimate.wall == 10 + 1000 * 0.5 and estimate.starts == 2 and estimate.busy == estimate.wall


def test_a_trainer_with_more_chunks_than_others_is_waited_for():
    speed = Speed(each=0.5, trainers=2)  # 1 s a model for each of two processes
    assert cost.on_this_machine(make(m=300), speed).wall == 200
    assert cost.on_this_machine(make(m=100), speed).wall == 100


@pytest.mark.parametrize(("pods", "wall"), [(1, 1000 * 2 + 10 * 30), (4, 3 * 230), (10, 230), (50, 230)])
def test_each_chunk_of_a_job_starts_anew(pods, wall):
    estimate = cost.on_pods(make(), Speed(each=2, start=30), pods)
    assert estimate.wall == wall and estimate.starts == 10
    assert estimate.busy == 1000 * 2 + 10 * 30


def test_a_short_last_chunk_alone_in_the_last_wave():
    assert cost.on_pods(make(m=410), Speed(each=1), pods=4).wall == 110
    assert cost.on_pods(make(m=510), Speed(each=1), pods=4).wall == 200
    assert cost.on_pods(make(m=410), Speed(each=1), pods=1).wall == 410


def test_spot_capacity_costs_less():
    estimate = cost.on_this_machine(make(), Speed(each=3.6))
    assert estimate.hours == 1
    assert estimate.cost(2.0) == 2.0 and estimate.cost(2.0, spot_discount=0.75) == 0.5


def test_groups_need_fewer_models_and_a_smaller_pool_shorter_ones_too():
    given = make(m=1000)
    assert cost.grouped(given, 200, 10) == cost.Fewer(20, 100, pytest.approx(0.9))
    assert cost.selected(given, 200, 0.5) == cost.Fewer(100, 500, pytest.approx(0.75))


def test_models_that_evaluate_are_trained_whatever_the_columns():
    given = make(m=1000, evaluate={"subsets": 50, "models": 20})
    assert cost.grouped(given, 200, 10).saving == pytest.approx(0.45)
