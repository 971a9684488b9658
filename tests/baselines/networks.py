"""Small trained networks with what their gradients must be, by PyTorch's own differentiation."""

import numpy as np
import torch

from datamodels.baselines.context import Trained
from datamodels.train import Dataset
from datamodels.train.workloads.mlp import MLP, Softmax

EXAMPLES, TARGETS, FEATURES, CLASSES, HIDDEN = 30, 7, 4, 3, 5


def dataset(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(EXAMPLES + TARGETS, FEATURES)).astype(np.float32)
    y = np.argmax(x[:, :CLASSES] + rng.normal(size=(len(x), CLASSES)), axis=1)
    y[:CLASSES] = range(CLASSES)
    return Dataset(x[:EXAMPLES], y[:EXAMPLES], x[EXAMPLES:], y[EXAMPLES:])


def trainer(kind="mlp", **options):
    data = dataset()
    options = {"epochs": 4, "batch_size": 10, "weight_decay": 0.05} | options
    if kind == "mlp":
        return MLP(data, data.targets("test"), hidden=HIDDEN, **options)
    return Softmax(data, data.targets("test"), **options)


def function(kind):
    """Logits by parameters, as matrices [in, out] of each layer, and x with its column of ones."""
    if kind == "softmax":
        return lambda weights, x: x @ weights[0]

    def logits(weights, x):
        hidden = torch.relu(x @ weights[0])
        return torch.cat([hidden, torch.ones_like(hidden[..., :1])], dim=-1) @ weights[1]

    return logits


def weights(kind, given, model):
    """The same, of a trained model, in double precision."""
    found = [torch.tensor(matrix[0], dtype=torch.float64) for matrix in given.matrices(model[None])]
    found[-1] = found[-1].T.contiguous()
    return found


def gradient(scalar, parameters):
    """float64[parameters] of scalar(parameters), layer after layer."""
    live = [p.clone().requires_grad_() for p in parameters]
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(scalar(live), live)]).numpy()


def margin(logits, y):
    others = logits.clone()
    others[y] = -torch.inf
    return logits[y] - others.max()


def cross_entropy(logits, y):
    return torch.logsumexp(logits, 0) - logits[y]


def trained(given, models=2):
    """`Trained` of a trainer above, on its whole pool."""
    checkpoints = list(given.checkpoints_many(np.arange(EXAMPLES), range(models)))
    return Trained(given, checkpoints, 0.0)


def left_out(given, seeds=1):
    """float64[examples, n]: by how much the mean output falls when an example is taken out, by training without it."""
    everything = np.arange(EXAMPLES)
    sets = [everything] + [np.delete(everything, i) for i in everything]
    subsets = [subset for subset in sets for _ in range(seeds)]
    found = given.outputs_many(given.train_many(subsets, list(range(seeds)) * len(sets))).astype(np.float64)
    means = found.reshape(len(sets), seeds, -1).mean(axis=1)
    return means[0] - means[1:]
