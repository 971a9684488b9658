import dataclasses

import numpy as np
import pytest

from datamodels.errors import SpecError
from datamodels.fit.data import examples, prior
from datamodels.fit.data.prior import Prior
from datamodels.run import runs, specs
from datamodels.train import Dataset


def dataset(d=12, n=5, shape=(3,), dtype="f4", seed=0, **fields):
    rng = np.random.default_rng(seed)
    x = (100 * rng.random(size=(d + n, *shape))).astype(dtype)
    y = np.arange(d + n) % 4
    return Dataset(x[:d], y[:d], x[d:], y[d:], **fields)


def run_of(data, features=None, **fields):
    fit = {"estimator": "weighted"} | ({"features": features} if features else {})
    base = {"name": "try", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100, "fit": fit}
    return runs.resolve(specs.parse(base | fields), data)


def prior_of(run, data):
    return prior.of_run(run, examples.of_dataset(run, data))


def cosine(a, b):
    return (a / np.linalg.norm(a, axis=-1, keepdims=True)) @ (b / np.linalg.norm(b, axis=-1, keepdims=True)).T


@pytest.mark.parametrize(("shape", "dtype"), [((3,), "f4"), ((), "f8"), ((4, 4, 3), "u1")])
def test_similarity_is_the_cosine_of_the_centred_inputs(shape, dtype):
    data = dataset(shape=shape, dtype=dtype)
    made = prior_of(run_of(data), data)
    x, t = (a.reshape(len(a), -1).astype(float) for a in (data.x, data.x_test))
    np.testing.assert_allclose(made.targets @ made.columns.T, cosine(t - x.mean(axis=0), x - x.mean(axis=0)), atol=1e-5)


def test_a_group_has_the_mean_features_of_its_members():
    data = dataset(d=12, groups=np.arange(12) % 4)
    made = prior_of(run_of(data, design={"kind": "grouped"}), data)
    means = np.array([data.x[g::4].mean(axis=0) for g in range(4)]) - data.x.mean(axis=0)
    np.testing.assert_allclose(made.columns, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-5)


def test_factors_fall_with_similarity_and_have_a_mean_of_1():
    rng = np.random.default_rng(0)
    made = Prior(cosine_ready(rng.normal(size=(4, 6))), cosine_ready(rng.normal(size=(30, 6))))
    similarity = made.targets[[1, 3]] @ made.columns.T
    assert (made.factor(np.array([1, 3]), 0.0) == 1).all()
    for strength in (0.1, 1.0):
        factor = made.factor(np.array([1, 3]), strength)
        assert factor.mean(axis=1) == pytest.approx(1) and factor.min() > 0
        order = np.argsort(similarity, axis=1)
        assert (np.diff(np.take_along_axis(factor, order, axis=1), axis=1) < 0).all()
        spread = np.log(factor).std(axis=1)
        assert spread == pytest.approx(strength, rel=1e-6)


def cosine_ready(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_targets_that_are_alike_to_all_have_factors_of_1():
    made = Prior(np.zeros((2, 3), np.float32), np.eye(3, dtype=np.float32))
    assert (made.factor(np.arange(2), 1.0) == 1).all()


def test_a_function_of_the_users_makes_the_features():
    data = dataset()
    made = prior_of(run_of(data, features="numpy:square"), data)
    x, t = data.x.astype(float) ** 2, data.x_test.astype(float) ** 2
    np.testing.assert_allclose(made.targets @ made.columns.T, cosine(t - x.mean(axis=0), x - x.mean(axis=0)), atol=1e-5)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("nowhere:at_all", "fit.features = 'nowhere:at_all': cannot be imported"),
        ("numpy:no_such", "module numpy has no no_such"),
        ("numpy:ravel", r"gave float32\[36\] of 12 examples; must be numbers \[examples, features\]"),
        ("numpy:transpose", r"gave float32\[3, 12\] of 12 examples"),
        ("numpy:isfinite", None),
        ("numpy:full_like", "raised TypeError: "),
    ],
)
def test_features_that_are_none_are_refused(features, message):
    data = dataset()
    made = run_of(data, features=features)
    if message is None:
        assert prior_of(made, data).targets.shape == (5, 3)
        return
    with pytest.raises(SpecError, match=message):
        prior_of(made, data)


def test_inputs_that_are_no_numbers_or_not_finite_are_refused():
    words = Dataset(np.array(["a"] * 12), np.arange(12), np.array(["b"] * 5), np.arange(5))
    with pytest.raises(SpecError, match=r"no numbers; name a module:function"):
        prior_of(run_of(words), words)
    data = dataset()
    data.x[3, 1] = np.nan
    data = dataclasses.replace(data, feature_names=("mass", "age"))
    with pytest.raises(
        SpecError,
        match=r"the features of x have 1 value that cannot be computed with, in 1 example, the first is nan at example "
        r"3, column 1 \(age\); fill such values, in the data set or by a module:function",
    ):
        prior_of(run_of(data), data)


def test_a_data_set_that_has_changed_is_refused():
    made = run_of(dataset())
    with pytest.raises(SpecError, match=r"returned 11 examples and 5 targets, run try-.* was created with 12 and 5"):
        prior_of(made, dataset(d=11))


def test_fields_of_x_are_compared_field_after_field():
    x = np.zeros(2, dtype=[("words", "i4", (3,)), ("known", "?")])
    x["words"][1], x["known"][0] = [4, 5, 6], True
    np.testing.assert_array_equal(prior.flat(x), [[0, 0, 0, 1], [4, 5, 6, 0]])
