import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from datamodels.train.images import networks
from datamodels.train.images.optimisers import (
    ALIGNMENT,
    NEWTON_SCHULZ,
    FlatState,
    Muon,
    Nesterov,
    of_one_shape,
    orthogonal,
)

CPU = torch.device("cpu")


def matrix(rows, columns, seed=0):
    return torch.randn((rows, columns), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def places(vector, tensors):
    """Return the position in `vector` of the numbers of each tensor, filters being channels last."""
    starts = [(tensor.data_ptr() - vector.data_ptr()) // vector.itemsize for tensor in tensors]
    return [slice(start, start + tensor.numel()) for start, tensor in zip(starts, tensors, strict=True)]


def in_order(tensor):
    return (tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor).reshape(-1)


def test_a_network_lives_in_one_vector():
    network = networks.resnet9(3, 2, fast=True)
    x = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    flat = FlatState(network, CPU, torch.float64)
    network.start(x, torch.Generator().manual_seed(1))
    network.eval()
    before, kept = network(x), flat.state.clone()
    flat.state.mul_(1.5)
    assert not torch.allclose(network(x), before)
    flat.state.copy_(kept)
    assert torch.equal(network(x), before)
    numbers, taken = [*network.parameters(), *network.buffers()], torch.zeros(len(flat.state), dtype=torch.int64)
    for tensor, place in zip(numbers, places(flat.state, numbers), strict=True):
        assert torch.equal(flat.state[place], in_order(tensor))
        taken[place] += 1
    assert taken.max() == 1 and taken.sum() == sum(p.numel() for p in numbers)
    assert (flat.state[taken == 0] == 0).all()
    trained = sum(p.numel() for p in network.parameters())
    assert taken[: len(flat.weights)].sum() == trained and len(flat.gradient) == len(flat.weights)
    assert [stop - start for start, stop, _ in flat.filters] == [p.numel() for p in network.parameters() if p.ndim == 4]


def test_gradients_of_all_parameters_are_in_the_other_vector():
    network = networks.resnet9(3, 2)
    flat = FlatState(network, CPU, torch.float64)
    x = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network.start(x, torch.Generator().manual_seed(1))
    flat.gradient.zero_()
    network(x).square().sum().backward()
    gradients, there = [p.grad for p in network.parameters()], places(flat.weights, list(network.parameters()))
    left, nonzero = flat.gradient.clone(), 0
    for gradient, place in zip(gradients, there, strict=True):
        assert torch.equal(flat.gradient[place], in_order(gradient))
        nonzero += int(left[place].count_nonzero())
        left[place] = 0
    assert (left == 0).all()
    assert nonzero > 0.9 * sum(g.numel() for g in gradients)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_begin_where_kernels_of_cuda_may_read_many_numbers_at_once(fast, dtype):
    """With three classes and odd widths, no tensor ends at an aligned position by chance."""
    network = networks.resnet9(3, 3, fast=fast)
    flat = FlatState(network, CPU, dtype)
    for vector, tensors in (
        (flat.state, [*network.parameters(), *network.buffers()]),
        (flat.gradient, [p.grad for p in network.parameters()]),
    ):
        assert all(place.start * vector.itemsize % ALIGNMENT == 0 for place in places(vector, tensors))


def test_nesterov_is_that_of_pytorchs_documentation():
    """Compared with the documentation of torch.optim.SGD, because the class takes ten seconds to import."""
    weights, gradient = matrix(1, 6)[0], torch.zeros(6, dtype=torch.float64)
    expected, velocity = weights.clone(), 0
    ours = Nesterov(weights, gradient, 0.8, 0.1)
    for step in range(5):
        gradient.copy_(matrix(1, 6, step)[0])
        full = gradient + 0.1 * expected
        velocity = 0.8 * velocity + full
        expected = expected - 0.3 * (full + 0.8 * velocity)
        ours.step(torch.tensor([0.3], dtype=torch.float64))
        torch.testing.assert_close(weights, expected, rtol=1e-12, atol=1e-12)


def test_orthogonal_keeps_directions_and_evens_out_lengths():
    for rows, columns in ((6, 20), (20, 6), (8, 8)):
        u, _, v = torch.linalg.svd(matrix(rows, columns), full_matrices=False)
        scale = torch.linspace(1, 0.05, min(rows, columns), dtype=torch.float64)
        found = u.T @ orthogonal((u * scale @ v)[None])[0] @ v.T
        lengths = found.diagonal()
        assert (lengths > 0.6).all() and (lengths < 1.3).all()
        assert (found - torch.diag(lengths)).abs().max() < 1e-9


def test_muon_turns_filters_and_leaves_the_rest_to_nesterov():
    """Each bank as if it were alone, also those that are updated together."""
    network = networks.resnet9(3, 2)
    flat = FlatState(network, CPU, torch.float64)
    assert list(map(len, of_one_shape(flat.filters))) == [1, 1, 2, 1, 2, 1]
    flat.weights.copy_(matrix(1, len(flat.weights))[0])
    first = flat.filters[-1][1]
    expected = [flat.weights[start:stop].numpy().reshape(rows, -1).copy() for start, stop, rows in flat.filters]
    velocity = [np.zeros_like(bank) for bank in expected]
    rest = flat.weights[first:].clone()
    others = Nesterov(rest, torch.zeros_like(rest), 0.85, 0.0)
    muon, rate = Muon(flat, 0.5), torch.tensor([0.1], dtype=torch.float64)
    for step in range(3):
        gradient = matrix(1, len(flat.weights), 10 + step)[0]
        flat.gradient.copy_(gradient)
        muon.step(rate)
        for k, (start, stop, rows) in enumerate(flat.filters):
            bank = gradient[start:stop].numpy().reshape(rows, -1)
            velocity[k] = 0.5 * velocity[k] + bank
            turned = expected[k] * rows**0.5 / np.linalg.norm(expected[k])
            expected[k] = turned - 0.1 * newton_schulz(bank + 0.5 * velocity[k])
        others._gradient.copy_(gradient[first:])
        others.step(rate)
    for (start, stop, _), bank in zip(flat.filters, expected, strict=True):
        np.testing.assert_allclose(flat.weights[start:stop].numpy(), bank.ravel(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(flat.weights[first:], rest, rtol=1e-12, atol=0)


def newton_schulz(bank):
    """Five steps of the iteration for one matrix, as it is published."""
    a, b, c = NEWTON_SCHULZ
    x = bank / (np.linalg.norm(bank) + 1e-7)
    x = x.T if len(x) > x.shape[1] else x
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if len(bank) > bank.shape[1] else x


def test_a_step_of_muon_asks_for_few_kernels():
    """A GPU launches one or two for each operation. For each bank alone, there would be 399."""
    flat = FlatState(networks.resnet9(3, 2, fast=True), CPU, torch.float32)
    muon, rate, names = Muon(flat, 0.5), torch.tensor([0.1]), []

    class Counting(TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), options=None):
            names.append(function.__name__)
            return function(*arguments, **(options or {}))

    flat.gradient.copy_(matrix(1, len(flat.gradient))[0])
    with Counting():
        muon.step(rate)
    counted = [name for name in names if name not in ("__get__", "to")]
    assert (names.count("matmul"), names.count("baddbmm")) == (25, 50), "five times for each of five shapes"
    assert len(counted) <= 130


def test_a_start_forgets_what_was_before():
    network = networks.resnet9(3, 2)
    flat = FlatState(network, CPU, torch.float64)
    for optimiser in (Muon(flat, 0.5), Nesterov(flat.weights, flat.gradient, 0.9, 0.0)):
        results = []
        for noise in (0, 5):
            for seed in range(noise):  # another training, of other gradients
                flat.gradient.copy_(matrix(1, len(flat.weights), 100 + seed)[0])
                optimiser.step(torch.ones(1, dtype=torch.float64))
            optimiser.start()
            flat.weights.copy_(matrix(1, len(flat.weights), 1)[0])
            flat.gradient.copy_(matrix(1, len(flat.weights), 2)[0])
            optimiser.step(torch.ones(1, dtype=torch.float64))
            results.append(flat.weights.clone())
        assert torch.equal(*results)
