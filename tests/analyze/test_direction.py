"""Analyses obey the direction of the output: a loss and its negative have the same helpful and harmful examples."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodels.analyze.patterns import conflicts, leakage, review
from datamodels.analyze.target import strongest
from datamodels.analyze.what_if import mislabel
from datamodels.analyze.what_if.relabel import relabelling
from datamodels.analyze.what_if.support import FOUND, removal, support
from datamodels.baselines.compare import without_best
from datamodels.errors import InputError
from datamodels.fit.data import problem
from datamodels.outputs import LOSS, MARGIN, Output
from datamodels.testing import committed
from tests.helpers.properties import examples

RUN = committed.make_run(targets="both")
D, N = RUN.design.columns, RUN.n


def solution_of(theta, intercept):
    zero = np.zeros(N)
    fields = {"lambda_": zero, "gap": zero, "heldout_r2": zero, "intercept": intercept}
    return problem.of_dense(theta.astype(np.float32), status=[problem.OK] * N, **fields)


def world(seed):
    """Return (weights, intercepts); weights are rounded, so that some are equal and some are 0."""
    rng = np.random.default_rng(seed)
    return np.round(rng.normal(0.2, 1, size=(N, D)) * 4) / 4, np.round(rng.normal(1, 2, size=N) * 4) / 4


def declared(output):
    return dataclasses.replace(RUN, declared=output)


def everything(run, solution):
    """Return what analyses say of a run, without values of outputs."""
    found = {
        "strongest": [[[c for c, _ in side] for side in strongest(solution, j, 8, run.output)] for j in range(N)],
        "support": [(s.status, s.columns.tolist()) for s in (support(run, solution, j, limit=D) for j in range(N))],
        "best": [without_best(run, solution.dense([j])[0], j, 5).tolist() for j in range(N)],
        "overall": [side.column.tolist() for side in review.overall(run, solution, 6)],
        "fragile": [getattr(review.fragile(run, solution, N, 0.5), name) for name in ("count", "of", "wrong")],
    }
    for j in range(N):
        made = relabelling(run, solution, j, limit=D)
        found[f"relabel {j}"] = made.label, made.support.status, made.support.columns.tolist()
    for by in (mislabel.OWN, mislabel.HARM):
        suspects = mislabel.suspects(run, solution, D, by=by)
        found[by] = suspects.example.tolist(), suspects.score.tolist()
    against = conflicts.of_fit(run, solution, groups="classes")
    found["conflicts"] = [getattr(against, name).tolist() for name in ("source", "target", "harmed", "sure")]
    pairs = leakage.by_weights(run, solution, 10)
    found["leaks"] = pairs.target.tolist(), pairs.example.tolist(), pairs.score.tolist()
    return found


@examples(5)
@given(seed=st.integers(0, 2**32), threshold=st.sampled_from([0.0, 0.5, -1.25]))
def test_the_negative_of_an_output_has_the_same_examples(seed, threshold):
    theta, intercept = world(seed)
    up = Output("score", higher_is_better=True, threshold=threshold)
    down = Output("penalty", higher_is_better=False, threshold=-threshold)
    high = everything(declared(up), solution_of(theta, intercept))
    assert high == everything(declared(down), solution_of(-theta, -intercept))


def test_the_support_of_a_loss_raises_it_past_the_threshold():
    theta, intercept = world(3)
    run, solution = declared(dataclasses.replace(LOSS, lowest=None)), solution_of(theta, intercept)  # some are negative
    found = [support(run, solution, j, limit=D, threshold=float(intercept[j]) + theta[j].sum() + 1) for j in range(N)]
    assert any(one.status == FOUND for one in found)
    for j, one in enumerate(found):
        assert (theta[j, one.columns] < 0).all() and (np.diff(one.curve) > 0).all()
        if one.status == FOUND:
            assert one.curve[-1] > intercept[j] + theta[j].sum() - theta[j, RUN.own[j]] * (RUN.own[j] >= 0) + 1 - 1e-6


def test_without_a_direction_columns_raise_and_lower_and_nothing_is_wrong():
    run, solution = declared(Output("prediction")), solution_of(*world(0))
    raising, lowering = strongest(solution, 0, 4, run.output)
    assert [w for _, w in raising] == sorted((w for _, w in raising), reverse=True) and raising[0][1] > 0
    assert lowering[0][1] < 0 and run.output.effects == ("raising", "lowering")
    assert (np.diff(removal(run, solution, 0, 5)[1]) < 0).all()
    for ask in (
        lambda: support(run, solution, 0, threshold=1.0),
        lambda: relabelling(run, solution, 0),
        lambda: review.fragile(run, solution, 3, 0.5),
        lambda: mislabel.suspects(run, solution, 3),
    ):
        with pytest.raises(InputError, match="'prediction' is neither better high nor low"):
            ask()


def test_without_a_threshold_it_must_be_given():
    run, solution = declared(LOSS), solution_of(*world(0))
    with pytest.raises(InputError, match="'loss' has no threshold"):
        support(run, solution, 0)
    assert support(run, solution, 0, threshold=-100.0).status == "wrong"
    found = review.review(run, solution, k=3, share=0.1)
    assert found.fragile is None and "has no threshold" in found.left_out["fragile"] and found.suspects is not None


def test_margins_are_as_they_always_were():
    """What is declared and what is assumed of classes is the same."""
    solution = solution_of(*world(1))
    assert RUN.declared is None and RUN.output == MARGIN
    assert everything(RUN, solution) == everything(declared(MARGIN), solution)
    theta = solution.dense(range(N))
    fitted = np.flatnonzero(RUN.own >= 0)
    own = -(solution.intercept[fitted] + solution.theta[fitted] @ RUN.design.inclusion)
    np.testing.assert_array_equal(mislabel.own(RUN, solution)[RUN.own[fitted]], own)
    order = np.argsort(-theta[0][theta[0] > 0], kind="stable")[:4]
    assert support(RUN, solution, 0, threshold=-1e6, limit=D).columns[:4].tolist() == (
        np.flatnonzero(theta[0] > 0)[order].tolist()
    )
