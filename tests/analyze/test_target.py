import numpy as np
import pytest

from datamodels.analyze.patterns import similar
from datamodels.analyze.target import HARMFUL, HELPFUL, score_of, strongest
from datamodels.analyze.what_if import support
from datamodels.errors import TargetRangeError
from tests.report import made


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return made.findings(tmp_path_factory.mktemp("store"), targets="both")


def test_the_strongest_columns_of_each_sign(found):
    solution = found.fitted.solution
    theta = solution.dense(range(solution.n))
    for target in range(solution.n):
        helpful, harmful = strongest(solution, target, 4, found.run.output)
        order = np.argsort(theta[target], kind="stable")
        assert [c for c, _ in harmful] == [c for c in order[:4].tolist() if theta[target, c] < 0]
        assert [w for _, w in helpful] == sorted(theta[target][theta[target] > 0].tolist(), reverse=True)[:4]
    with pytest.raises(TargetRangeError):
        strongest(solution, solution.n, 4, found.run.output)


def test_a_target_has_what_the_analyses_say_of_it(found):
    targets, solution = found.fitted.targets, found.fitted.solution
    assert len(targets) == found.run.n
    one = targets[2]
    assert (one.number, one.status, one.nonzeros) == (2, "ok", len(solution.row(2)[0]))
    listed = (strongest(solution, 2, k, found.run.output)[i] for i, k in enumerate((HELPFUL, HARMFUL)))
    assert (one.helpful, one.harmful) == tuple(listed)
    assert one.similar.index.tolist() == similar.targets(solution.theta, 2, k=6).index.tolist()
    _, curve = support.removal(found.run, solution, 2, one.removal.limit)
    np.testing.assert_array_equal(one.removal.mean, curve)
    assert one.removal.support.status == support.support(found.run, solution, 2).status
    assert targets[1].similar is None and targets[1].nonzeros == 0


def test_what_models_say_is_counted_on_subsets_that_count(found):
    predictions = found.fitted.predictions
    own = next(j for j in range(found.run.n) if found.run.own[j] == 7)
    unseen = found.fitted.targets[own].unseen
    usable = predictions.counts[:, own]
    outputs = predictions.outputs[usable, :, own]
    np.testing.assert_allclose(unseen.means, outputs.mean(axis=1), rtol=1e-6)
    assert unseen.models == outputs.size and unseen.wrong.value == pytest.approx((outputs < 0).mean())
    assert (
        unseen.mean.value == pytest.approx(unseen.means.mean())
        and unseen.mean.low <= unseen.mean.value <= unseen.mean.high
    )


def test_a_score_that_was_cut_at_1_is_not_certain():
    """Few models for each subset: what is measured is 0.77, and the correction for their noise goes past 1."""
    predicted = np.arange(50.0)
    means = predicted + 25 * np.random.default_rng(0).permutation(50) / 25
    measured = score_of(0.0, predicted, means)
    cut = score_of(1.0, predicted, means)
    assert cut.value == cut.high == 1 and measured.low < cut.low < 0.95
    opposite = score_of(-1.0, -predicted, means)
    assert (opposite.low, opposite.high) == (-1, pytest.approx(-cut.low))
