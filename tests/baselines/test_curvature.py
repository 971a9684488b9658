import numpy as np
import pytest

from datamodels.baselines.gradients import curvature
from datamodels.train.workloads import factors
from datamodels.train.workloads.factors import FactoredGradients
from tests.baselines import networks as made


@pytest.fixture(scope="module", params=["mlp", "softmax"])
def network(request):
    """(gradients of a model, the matrix float64 made of whole Jacobians)."""
    trainer = made.trainer(request.param)
    found = FactoredGradients(trainer, trainer.train_many([np.arange(made.EXAMPLES)], [0])[0])
    layers, p = curvature.of(found)
    classes = range(made.CLASSES)
    by_class = [[factors.Layer(layer.inputs, layer.signals[c]) for layer in layers] for c in classes]
    jacobian = np.stack([factors.dense(one) for one in by_class], axis=1).astype(np.float64)  # [e, classes, P]
    inner = np.array([np.diag(row) - np.outer(row, row) for row in p.astype(np.float64)])
    return found, np.einsum("ecp,ecd,edq->pq", jacobian, inner, jacobian) / made.EXAMPLES


@pytest.fixture(scope="module")
def case(network):
    """(layers of every class's logit, probabilities, the matrix)."""
    found, matrix = network
    return *curvature.of(found), matrix


def vectors(matrix, count=5):
    return np.random.default_rng(1).normal(size=(count, len(matrix))).astype(np.float32)


def test_the_product_is_that_of_the_whole_matrix(case):
    layers, p, matrix = case
    given = vectors(matrix)
    np.testing.assert_allclose(curvature.multiply(given, layers, p), given @ matrix, rtol=1e-3, atol=1e-5)


def test_the_matrix_is_that_of_whole_jacobians_and_has_that_of_the_last_layer_as_its_block(network):
    found, matrix = network
    np.testing.assert_allclose(curvature.matrix(found), matrix, rtol=1e-3, atol=1e-6)
    last = curvature.matrix(found.last())
    np.testing.assert_allclose(last, matrix[-len(last) :, -len(last) :], rtol=1e-3, atol=1e-6)
    solved = curvature.exact(found, 0.1)(vectors(matrix)) @ (matrix + 0.1 * np.eye(len(matrix)))
    np.testing.assert_allclose(solved, vectors(matrix), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("damping", [0.3, 0.01])
def test_conjugate_gradients_solve_the_equations(case, damping):
    layers, p, matrix = case
    given = vectors(matrix)
    found = curvature.solve(given, layers, p, damping)
    residual = found @ (matrix + damping * np.eye(len(matrix))) - given
    assert (np.linalg.norm(residual, axis=1) < 1.5 * curvature.TOLERANCE * np.linalg.norm(given, axis=1)).all()


def test_the_approximation_is_the_inverse_where_the_curvature_is_what_it_takes_it_to_be():
    """One layer, inputs along the axes, the same probabilities for all: a Kronecker product."""
    p = np.tile(np.array([[0.2, 0.8]], dtype=np.float32), (3, 1))
    layer = factors.Layer(np.diag([1.0, 2.0, 3.0]).astype(np.float32), np.stack([np.eye(2, dtype=np.float32)] * 3, 1))
    given = vectors(np.eye(6))
    block = np.kron(np.diag([1.0, 4.0, 9.0]) / 3, np.diag(p[0]) - np.outer(p[0], p[0]))
    exact = np.linalg.solve(block + 0.1 * np.eye(6), given.T).T
    np.testing.assert_allclose(curvature.ekfac([layer], p, 0.1)(given), exact, rtol=1e-4, atol=1e-5)


def test_the_approximation_is_nearer_to_the_inverse_than_none(case):
    layers, p, matrix = case
    given, damping = vectors(matrix), 0.05
    exact = np.linalg.solve(matrix + damping * np.eye(len(matrix)), given.T).T
    error = np.linalg.norm(curvature.ekfac(layers, p, damping)(given) - exact)
    scaled = given / (np.trace(matrix) / len(matrix) + damping)
    assert error < 0.8 * np.linalg.norm(scaled - exact)


def test_weight_decay_is_damping_where_there_is_enough():
    assert curvature.damping(0.05) == 0.05
    assert curvature.damping(0.0) == curvature.LEAST_DAMPING
