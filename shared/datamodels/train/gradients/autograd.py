"""Compute the gradients of any PyTorch network, example by example, by automatic differentiation.

`torch.func` differentiates many examples at once. A network that it cannot transform, because its code branches on the
values of tensors, is differentiated one example at a time.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from datamodels.errors import InputError, one_line
from datamodels.train.device import out_of_memory
from datamodels.train.gradients.base import Gradients, LayerFactors, slices
from datamodels.train.gradients.layers import hooked, is_dense, is_product, is_transposed, transformable
from datamodels.train.gradients.layers import inputs as inputs_of
from datamodels.train.gradients.layers import signals as signals_of

Model = dict[str, torch.Tensor]
Tree = Any
"""A tensor, or a tuple or a dict of tensors, with examples as their first dimension."""
Batch = Callable[[slice], tuple[Tree, torch.Tensor]]
"""Returns x and y of a slice of examples."""

MOST_PREDICTIONS = 1024
"""The most predictions of one example, such as logits, whose second derivatives are computed."""
MOST_FACTORS = 32
"""The most factors of one example's curvature. If there are more predictions, factors are random mixtures of theirs,
whose expected outer products are the same."""


@dataclasses.dataclass(frozen=True, eq=False)
class Functions:
    """What is differentiated: functions of a model's tensors by name and of minibatches.

    network      the structure of models, in the mode for outputs
    trained      names of the tensors that training changes by gradients
    losses       returns the loss of each example, [rows]
    outputs      returns the output of each example, [rows]
    predictions  returns logits or predictions, [rows, ...]
    loss_of      returns the losses [rows] of predictions; None if the loss is not a function of them
    odds         returns the log odds of the right label [rows], or the prediction if the loss is its squared error,
                 of predictions; None if there are neither
    slopes       returns by how much the loss falls as those rise, [rows], of predictions
    factors      returns random factors of the curvature of each loss, [rows, predictions, count], of predictions, if
                 the loss is a sum over positions; otherwise None
    labelled     returns which positions of each example have a label, bool[rows, t], of y; None if it has no positions
    """

    network: nn.Module
    trained: Sequence[str]
    losses: Callable[[Model, Tree, torch.Tensor], torch.Tensor]
    outputs: Callable[[Model, Tree, torch.Tensor], torch.Tensor]
    predictions: Callable[[Model, Tree], torch.Tensor]
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None
    odds: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None
    slopes: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    pool: Batch
    targets: Batch
    examples: int
    target_count: int
    weight_decay: float
    factors: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor | None] = lambda predicted, y, count: None
    labelled: Callable[[torch.Tensor], torch.Tensor | None] = lambda y: None


class NetworkGradients(Gradients):
    """Gradients of a network with given numbers.

    layers  names of parameters or modules, or patterns such as `head.*`; by default all. Raises InputError if one
            matches nothing
    """

    def __init__(self, functions: Functions, model: Model, layers: Sequence[str] = ()):
        self._functions, self._layers = functions, layers
        self._names = _matching(functions.trained, layers)
        self._model = {name: tensor.detach() for name, tensor in model.items()}
        self._weights = {name: self._model[name] for name in self._names}
        self._loops = False
        self.parameters = sum(tensor.numel() for tensor in self._weights.values())
        self.examples, self.targets = functions.examples, functions.target_count
        self.weight_decay = functions.weight_decay

    def of_losses(self, rows: slice) -> np.ndarray:
        return self._of_each(self._functions.losses, self._functions.pool, rows)

    def of_target_losses(self, rows: slice) -> np.ndarray:
        return self._of_each(self._functions.losses, self._functions.targets, rows)

    def of_outputs(self, rows: slice) -> np.ndarray:
        return self._of_each(self._functions.outputs, self._functions.targets, rows)

    def of_odds(self, rows: slice) -> np.ndarray:
        odds = self._odds()
        predictions = self._functions.predictions
        return self._of_each(lambda model, x, y: odds(predictions(model, x), y), self._functions.pool, rows)

    @torch.no_grad()
    def odds_slopes(self) -> np.ndarray:
        self._odds()
        found = [self._functions.slopes(self._functions.predictions(self._model, x), y) for x, y in self._pool()]
        return torch.cat(found).float().cpu().numpy()

    def of_curvature(self, rows: slice) -> np.ndarray:
        found = []
        for part in _parts(rows, self.examples, 4 * self.parameters * MOST_FACTORS):
            x, y = self._functions.pool(part)
            roots = self._roots(x, y)

            def mixed(weights: Model, x: Tree, root: torch.Tensor) -> torch.Tensor:
                predicted = self._functions.predictions(self._model | weights, _mapped(lambda t: t[None], x))
                return predicted.reshape(-1).to(root.dtype) @ root

            found.append(self._differentiated(mixed, x, roots))
        return np.concatenate(found)

    def factors(self, rows: slice) -> list[LayerFactors]:
        x, y = self._functions.pool(rows)
        roots = self._roots(x, y)
        modules = self._factored()
        calls: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {name: [] for name in modules}
        live = {name: self._model[name].clone().requires_grad_() for name in self._names}

        def keep(name: str):
            def hook(module: nn.Module, arguments: Any, output: torch.Tensor) -> torch.Tensor:
                calls[name].append((arguments[0].detach(), output))
                return output.clone()  # what follows may change it in place

            return hook

        with hooked((module, keep(name)) for name, module in modules.items()), torch.enable_grad():
            predicted = self._functions.predictions(self._model | live, x).reshape(len(y), -1)
        places = [output for made in calls.values() for _, output in made]
        signals = []
        for at in range(roots.shape[2]):
            total = (predicted * roots[:, :, at]).sum()
            signals.append(torch.autograd.grad(total, places, retain_graph=True, allow_unused=True))
        found, first = [], 0
        for name, module in modules.items():
            made = calls[name]
            if made:
                of_layer = [
                    torch.cat(
                        [
                            signals_of(module, torch.zeros_like(output) if signal is None else signal, len(y))
                            for (_, output), signal in zip(made, row[first : first + len(made)], strict=True)
                        ],
                        dim=1,
                    )
                    for row in signals
                ]
                inputs = torch.cat([inputs_of(module, given, len(y)) for given, _ in made], dim=1)
                found.append(LayerFactors(self._columns(module), _numpy(inputs), _numpy(torch.stack(of_layer))))
            first += len(made)
        return found

    def last(self) -> NetworkGradients:
        module = self._last_module()
        own = {id(parameter) for parameter in module.parameters(recurse=False)}
        named = [n for n, parameter in self._functions.network.named_parameters() if id(parameter) in own]
        return NetworkGradients(self._functions, self._model, [n for n in named if n in self._functions.trained])

    def representations(self) -> tuple[np.ndarray, np.ndarray]:
        module = self._last_module()
        return self._inputs_of(module, self._pool()), self._inputs_of(module, self._targets())

    def _of_each(self, function: Callable[[Model, Tree, torch.Tensor], torch.Tensor], batch: Batch, rows: slice):
        """Return float32[rows, parameters]: the gradient of a function of minibatches for each example."""

        def of_one(weights: Model, x: Tree, y: torch.Tensor) -> torch.Tensor:
            return function(self._model | weights, _mapped(lambda t: t[None], x), y[None]).reshape(1)

        count = self.examples if batch is self._functions.pool else self.targets
        parts = _parts(rows, count, 4 * self.parameters)
        found = [self._differentiated(of_one, *batch(part))[:, 0] for part in parts]
        return np.concatenate(found) if found else np.empty((0, self.parameters), dtype=np.float32)

    def _differentiated(self, function: Callable[..., torch.Tensor], x: Tree, other: torch.Tensor) -> np.ndarray:
        """Return float32[rows, r, parameters] of a function of (weights, x of one example, other), which gives [r]."""
        if not self._loops:
            try:
                with transformable():
                    found = torch.vmap(torch.func.jacrev(function), in_dims=(None, 0, 0))(self._weights, x, other)
                return _numpy(
                    torch.cat([found[name].reshape(*found[name].shape[:2], -1) for name in self._names], dim=2)
                )
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                self._loops = True
        live = {name: tensor.clone().requires_grad_() for name, tensor in self._weights.items()}
        rows = []
        for row in range(len(other)):
            of_row = []
            for value in function(live, _row(x, row), other[row]):
                slopes = torch.autograd.grad(
                    value, list(live.values()), retain_graph=True, allow_unused=True, materialize_grads=True
                )
                of_row.append(torch.cat([slope.reshape(-1) for slope in slopes]))
            rows.append(torch.stack(of_row))
        return _numpy(torch.stack(rows))

    def _odds(self) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        if self._functions.odds is None:
            raise InputError(
                "trainer.options.loss: TRAK needs logits of classes, or the squared error of one number per example"
            )
        return self._functions.odds

    @torch.no_grad()
    def _roots(self, x: Tree, y: torch.Tensor) -> torch.Tensor:
        """Return [rows, predictions, r]: square roots of the second derivatives of each loss by the predictions."""
        loss_of = self._functions.loss_of
        if loss_of is None:
            raise InputError("trainer.options.loss: the network computes its loss itself, so its curvature is unknown")
        predicted = self._functions.predictions(self._model, x)
        drawn = self._functions.factors(predicted, y, MOST_FACTORS)
        if drawn is not None:
            return drawn
        shape, size = predicted.shape[1:], predicted[0].numel()
        if size > MOST_PREDICTIONS:
            raise InputError(f"the network predicts {size:,} numbers per example; at most {MOST_PREDICTIONS:,} allowed")

        def loss(flat: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            return loss_of(flat.reshape(1, *shape), label[None]).reshape(())

        try:
            second = torch.vmap(torch.func.hessian(loss))(predicted.reshape(len(y), -1).float(), y)
        except (RuntimeError, TypeError, AttributeError) as error:
            if out_of_memory(error):
                raise
            raise InputError(
                f"trainer.options.loss: has no second derivatives by the logits alone: {one_line(error)}"
            ) from error
        values, vectors = torch.linalg.eigh(second.cpu())
        roots = (vectors * values.clamp_min(0).sqrt()[:, None]).to(predicted.device)
        if size <= MOST_FACTORS:
            return roots
        generator = torch.Generator().manual_seed(0)
        mixtures = torch.randn((size, MOST_FACTORS), generator=generator) / MOST_FACTORS**0.5
        return roots @ mixtures.to(predicted.device)

    def _factored(self) -> dict[str, nn.Module]:
        """Return the layers whose gradients are products: dense ones and convolutions, of the chosen weights."""
        names = {id(parameter): name for name, parameter in self._functions.network.named_parameters()}
        found = {
            name: module
            for name, module in self._functions.network.named_modules()
            if is_product(module) and names.get(id(module.weight)) in self._weights
        }
        if not found:
            raise InputError("the chosen layers have no torch.nn.Linear or Conv2d, which EK-FAC needs")
        return found

    def _columns(self, module: nn.Module) -> np.ndarray:
        """Return the places of a layer's matrix [out, in + 1] in the vector of weights."""
        names = {id(parameter): name for name, parameter in self._functions.network.named_parameters()}
        sizes = [tensor.numel() for tensor in self._weights.values()]
        starts = dict(zip(self._weights, itertools.accumulate([0, *sizes]), strict=False))
        weight, bias = module.weight, module.bias
        assert isinstance(weight, torch.Tensor)
        places = np.arange(weight.numel()).reshape(len(weight), -1)
        places = places.T if is_transposed(module) else places
        found = starts[names[id(weight)]] + places
        if bias is not None:
            if names[id(bias)] not in starts:
                raise InputError(f"layers: {names[id(weight)]!r} is chosen without its bias, which EK-FAC needs")
            found = np.hstack([found, starts[names[id(bias)]] + np.arange(len(places))[:, None]])
        return found.reshape(-1)

    def _last_module(self) -> nn.Module:
        """Return the module with trained parameters of its own that is called last."""
        names = {id(p): name for name, p in self._functions.network.named_parameters()}
        order: list[nn.Module] = []
        own = [
            module
            for module in self._functions.network.modules()
            if any(names.get(id(p)) in self._functions.trained for p in module.parameters(recurse=False))
        ]

        def note(module: nn.Module, arguments: Any, output: Any) -> None:
            order.append(module)

        with hooked((module, note) for module in own), torch.no_grad():
            self._functions.predictions(self._model, self._functions.pool(slice(0, 1))[0])
        if not order:
            raise InputError("trainer.options.build: no layer of the network with weights of its own is called")
        return order[-1]

    @torch.no_grad()
    def _inputs_of(self, module: nn.Module, batches: Iterator[tuple[Tree, torch.Tensor]]) -> np.ndarray:
        """Return the inputs of a module, float32[rows, f].

        Of a layer for sequences, it is their mean over positions: those with a label, if labels are of positions.
        """
        found: list[np.ndarray] = []
        labelled: torch.Tensor | None = None

        def keep(module: nn.Module, arguments: Any, output: Any) -> None:
            given = arguments[0]
            if is_dense(module) and given.ndim > 2:
                counted = given.new_ones(given.shape[:-1])
                if labelled is not None and labelled.shape == counted.shape:
                    counted = labelled.to(given.dtype)
                total = (given * counted[..., None]).flatten(1, -2).sum(dim=1)
                given = total / counted.flatten(1).sum(dim=1, keepdim=True).clamp_min(1)
            found.append(_numpy(given.flatten(1)))

        with hooked([(module, keep)]):
            for x, y in batches:
                labelled = self._functions.labelled(y)
                self._functions.predictions(self._model, x)
        return np.concatenate(found)

    def _pool(self) -> Iterator[tuple[Tree, torch.Tensor]]:
        return (self._functions.pool(rows) for rows in slices(self.examples, 1))

    def _targets(self) -> Iterator[tuple[Tree, torch.Tensor]]:
        return (self._functions.targets(rows) for rows in slices(self.targets, 1))


def class_margin(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the logit of the right class less the largest other one, [rows], of logits [rows, classes]."""
    right = y[:, None] == torch.arange(logits.shape[1], device=logits.device)
    return logits.gather(1, y[:, None])[:, 0] - logits.masked_fill(right, -torch.inf).amax(dim=1)


def class_odds(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return log(p / (1 - p)) for the probability p of the right class, [rows], of logits [rows, classes]."""
    right = y[:, None] == torch.arange(logits.shape[1], device=logits.device)
    return logits.gather(1, y[:, None])[:, 0] - logits.masked_fill(right, -torch.inf).logsumexp(dim=1)


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that a pattern matches, or that are parts of a module that it matches; all for no pattern."""

    def matches(name: str, pattern: str) -> bool:
        return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")

    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            raise InputError(f"layers = {pattern!r}: matches none of {', '.join(names)}")
    return [name for name in names if not patterns or any(matches(name, pattern) for pattern in patterns)]


def _parts(rows: slice, count: int, bytes_each: int) -> Iterator[slice]:
    start, stop, _ = rows.indices(count)
    return (slice(start + part.start, start + part.stop) for part in slices(stop - start, bytes_each))


def _mapped(function: Callable[[torch.Tensor], torch.Tensor], tree: Tree) -> Tree:
    if isinstance(tree, dict):
        return {name: function(tensor) for name, tensor in tree.items()}
    return tuple(map(function, tree)) if isinstance(tree, tuple) else function(tree)


def _row(tree: Tree, row: int) -> Tree:
    return _mapped(lambda tensor: tensor[row], tree)


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
