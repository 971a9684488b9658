import dataclasses

import numpy as np

from datamodels.analyze.patterns import closeness, leakage
from datamodels.run import runs, specs
from datamodels.train import Dataset
from tests.analyze.what_if.test_support import solve

T, P = 60, 240


def judged(data):
    document = {"name": "close", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100}
    run = runs.resolve(specs.parse(document), data)
    return leakage.by_inputs(run, data, solve(np.zeros((len(data.y_test), len(data.y)), dtype=np.float32)), 5)


def cloud(seed=0, dimensions=6):
    """Points of one normal distribution, so that no target is closer to the pool than pool examples are."""
    rng = np.random.default_rng(seed)
    x, x_test = rng.normal(size=(P, dimensions)), rng.normal(size=(T, dimensions))
    return Dataset(x, np.arange(P) % 3, x_test, np.arange(T) % 3)


def test_chance_alone_stands_out_in_few_runs_and_says_so():
    found = [judged(cloud(seed)) for seed in range(40)]
    assert sum((pairs.close.expected < closeness.LEVEL).any() for pairs in found) <= 6
    close = found[0].close
    assert close.verdict.startswith("Nothing stands out: the closest pair has distance 0.")
    assert close.compared == "the numbers of each input, each standardised over the pool"
    assert set(close.same.tolist()) == {closeness.NOTHING}


def test_the_expected_number_is_how_many_are_as_close():
    """Of 40 clouds without leaks, about as many targets are as close as are expected to be."""
    found = [judged(cloud(seed)) for seed in range(40)]
    nearest = np.array([pairs.close.expected.min() for pairs in found])
    for level in (0.5, 1.0):
        assert abs(np.mean(nearest < level) - (1 - np.exp(-level))) < 0.25


def test_a_copy_and_a_near_copy_stand_out():
    data = cloud()
    x = data.x.copy()
    x[7], x[9] = data.x_test[3], data.x_test[4] + 0.01
    close = judged(dataclasses.replace(data, x=x)).close
    assert close.same[:2].tolist() == [closeness.INPUT, closeness.NOTHING] and (close.expected[:2] < 0.05).all()
    assert "1 of 60 targets are copies of training examples: their inputs are equal." in close.verdict
    assert "1 more of 60 targets are closer to a training example than chance explains" in close.verdict


def test_texts_whose_features_agree_are_copies_only_if_their_words_do():
    rng = np.random.default_rng(1)
    x, x_test = rng.poisson(1.0, size=(P, 30)), rng.poisson(1.0, size=(T, 30))
    x[5], x[6] = x_test[0], x_test[1]
    texts, texts_test = [f"pool {i}" for i in range(P)], [f"test {i}" for i in range(T)]
    texts[5] = "  TEST\n0 "
    data = Dataset(x, np.arange(P) % 3, x_test, np.arange(T) % 3, texts=texts, texts_test=texts_test)
    found = judged(data)
    same = dict(zip(found.target.tolist(), found.close.same.tolist(), strict=True))
    assert (same[0], same[1]) == (closeness.TEXT, closeness.INPUT)
    assert set(found.close.said[:2]) == {"equal texts", "equal as compared, other texts"}
    assert found.close.compared.endswith(", and texts")
    assert "1 of 60 targets are copies of training examples: their texts are equal." in found.close.verdict
    assert "For 1 target, an example is equal as compared, but has another text." in found.close.verdict


def test_equal_inputs_do_not_stand_out_if_the_pool_is_full_of_them():
    """Rows of three binary features: any two may be equal, and none has leaked."""
    rng = np.random.default_rng(2)
    x, x_test = rng.integers(0, 2, size=(P, 3)), rng.integers(0, 2, size=(T, 3))
    close = judged(Dataset(x, np.arange(P) % 3, x_test, np.arange(T) % 3)).close
    assert (close.expected == T).all()
    assert "their inputs are equal; 60 are expected, since pool examples equal one another as often" in close.verdict
