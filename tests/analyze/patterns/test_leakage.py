import dataclasses

import numpy as np
import pytest

from datamodels.analyze.patterns import leakage
from datamodels.errors import InputError, NotReadyError, SpecError
from datamodels.run import runs, specs
from datamodels.train import Dataset
from tests.analyze.what_if.test_support import solve

D, N, SIDE = 30, 4, 8


def pictures():
    """Random pictures in which example 10 + t is made of target t: a copy, brighter, shifted, fainter."""
    rng = np.random.default_rng(0)
    x, x_test = rng.random((D, SIDE, SIDE)), rng.random((N, SIDE, SIDE))
    x[10], x[11], x[13] = x_test[0], x_test[1] + 0.4, 0.3 * x_test[3]
    x[12] = rng.random((SIDE, SIDE))
    x[12, 1:, :-1] = x_test[2, :-1, 1:]
    return Dataset(x, np.arange(D) % 3, x_test, np.arange(N) % 3, image_shape=(SIDE, SIDE))


def make_run(data, **fields):
    document = {"name": "leaky", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100}
    return runs.resolve(specs.parse(document | fields), data)


def weights(n=N):
    theta = np.random.default_rng(1).normal(size=(n, D)).astype(np.float32)
    theta[np.arange(N), np.arange(10, 10 + N)] = [9, 8, 7, 0]
    return theta


def test_copies_that_are_shifted_or_of_another_brightness_come_first():
    data = pictures()
    found = leakage.by_inputs(make_run(data), data, solve(weights()), 12)
    assert found.by == leakage.BY_INPUTS
    assert {*zip(found.target[:4].tolist(), found.example[:4].tolist(), strict=True)} == {(t, 10 + t) for t in range(N)}
    np.testing.assert_allclose(found.score[:4], 0, atol=5e-3)
    assert (np.diff(found.score) >= 0).all() and 0.5 < found.score[4] <= 1
    worth = dict(zip(found.target[:4].tolist(), found.weight[:4].tolist(), strict=True))
    assert worth == {0: 9, 1: 8, 2: 7, 3: 0}


def test_what_is_no_picture_is_compared_by_standardised_features_of_any_scale():
    rng = np.random.default_rng(2)
    scale = 10.0 ** np.arange(-3, 4)
    x, x_test = rng.normal(size=(D, 7)), rng.normal(size=(N, 7))
    x[5] = x_test[1] + 0.05 * rng.normal(size=7)
    data = Dataset(x * scale + 3, np.arange(D) % 3, x_test * scale + 3, np.arange(N) % 3)
    found = leakage.by_inputs(make_run(data), data, solve(weights()), 3)
    assert (found.target[0], found.example[0]) == (1, 5)
    z, z_test = ((part - x.mean(axis=0)) / x.std(axis=0) for part in (x, x_test))
    distance = np.linalg.norm(z_test[:, None] - z, axis=2)
    ordinary = np.sort(distance, axis=1)[:, leakage.FIFTH - 1]
    for target, example, score in zip(found.target, found.example, found.score, strict=True):
        assert score == pytest.approx(distance[target, example] / ordinary[target], abs=1e-4)


def test_the_parts_that_are_compared_at_once_change_nothing():
    rng = np.random.default_rng(3)
    targets, pool = rng.normal(size=(1100, 3)).astype("f4"), rng.normal(size=(9000, 3)).astype("f4")
    index, distance = leakage._nearest(targets, pool, [lambda part: part])
    for row in (0, 1023, 1024, 1099):
        true = np.linalg.norm(pool - targets[row], axis=1)
        np.testing.assert_array_equal(index[row], np.argsort(true)[: leakage.FIFTH])
        np.testing.assert_allclose(distance[row], np.sort(true)[: leakage.FIFTH], atol=3e-3)


def test_a_training_example_that_is_a_target_is_no_leak_of_itself():
    data = pictures()
    run = make_run(data, targets="both")
    found = leakage.by_inputs(run, data, solve(weights(run.n)), 100)
    assert found.target.max() < N
    assert leakage.by_weights(run, solve(weights(run.n)), 100).target.max() < N


def test_by_weights_the_share_of_what_helps_ranks():
    data, theta = pictures(), weights()
    found = leakage.by_weights(make_run(data), solve(theta), 5)
    assert found.by == leakage.BY_WEIGHTS
    share = np.maximum(theta, 0) / np.maximum(theta, 0).sum(axis=1, keepdims=True)
    top = np.argsort(-share, axis=1)[:, : leakage.EACH]
    pairs = sorted(((t, c) for t in range(N) for c in top[t]), key=lambda pair: -share[pair])[:5]
    assert [*zip(found.target, found.example, strict=True)] == pairs
    np.testing.assert_allclose(found.score, [share[pair] for pair in pairs], rtol=1e-6)
    np.testing.assert_array_equal(found.weight, [theta[pair] for pair in pairs])


def test_columns_that_are_groups_are_compared_example_by_example():
    data = dataclasses.replace(pictures(), groups=np.arange(D) // 2)
    run = make_run(data, design={"kind": "grouped"})
    theta = np.arange(N * D // 2, dtype=np.float32).reshape(N, -1)
    found = leakage.by_inputs(run, data, solve(theta), 4)
    assert set(found.example.tolist()) == {10, 11, 12, 13}
    np.testing.assert_array_equal(found.weight, theta[found.target, found.example // 2])
    assert found.measured is None
    eighths = np.full(np.count_nonzero(theta), 2, dtype=np.int8)
    found = leakage.by_inputs(run, data, dataclasses.replace(solve(theta), measured=eighths), 4)
    np.testing.assert_array_equal(found.measured, found.weight / 4)


def test_five_copies_of_one_target_are_all_copies():
    data = pictures()
    x = data.x.copy()
    x[:6] = data.x_test[0]
    data = dataclasses.replace(data, x=x)
    found = leakage.by_inputs(make_run(data), data, solve(weights()), 4)
    assert set(found.target.tolist()) == {0} and (found.score == 0).all()


def test_what_cannot_be_asked_is_refused():
    data = pictures()
    run = make_run(data)
    for ask in (lambda **k: leakage.by_weights(run, **k), lambda **k: leakage.by_inputs(run, data, **k)):
        with pytest.raises(InputError, match="k = 0: must be at least 1"):
            ask(solution=solve(weights()), k=0)
    with pytest.raises(InputError, match="all its targets are training examples"):
        leakage.by_weights(make_run(data, targets="train"), solve(weights(D)), 5)
    with pytest.raises(NotReadyError, match="no example helps any target"):
        leakage.by_weights(run, solve(-np.abs(weights())), 5)
    other = dataclasses.replace(data, x_test=data.x_test[:2], y_test=data.y_test[:2])
    with pytest.raises(SpecError, match="was created with 30 and 4"):
        leakage.by_inputs(run, other, solve(weights()), 5)
    words = Dataset(np.array(["a"] * D), data.y, np.array(["a"] * N), data.y_test)
    with pytest.raises(SpecError, match="no numbers"):
        leakage.by_inputs(make_run(words), words, solve(weights()), 5)
