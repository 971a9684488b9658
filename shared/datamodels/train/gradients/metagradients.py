"""Differentiate through a whole training: what an output becomes if an example has a little more weight in it.

This is MAGIC (Ilyas and Engstrom 2025, arXiv:2504.16430). If a training has a fixed seed and gives example i's loss the
weight w_i, an output of the trained model is a function of w. Its derivatives follow from one pass backward through the
steps. Let A be the derivative of the output by the state after a step. Example i of the step's minibatch adds
A . d state / d w_i to its derivative, and before the step A is A . d state / d (state before). That takes a product of
the curvature of the minibatch's loss with a vector. Many outputs go backward together: they need the same curvature.

All states of a training are kept if they fit, otherwise every sqrt(steps)th; those between are computed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from datamodels.train.device import out_of_memory
from datamodels.train.gradients.kinks import SpreadKinks
from datamodels.train.gradients.layers import transformable
from datamodels.train.gradients.replay import Replay

State = tuple[torch.Tensor, ...]

STATE_BYTES = 2**29
"""The most bytes of states that are kept all."""
TARGETS_AT_ONCE = 128
"""The most outputs that go backward together. For the digits, more are no faster."""
ADJOINT_BYTES = 2**26
"""Bytes of the derivatives of these outputs by a state. A step takes several times that."""


class Metagradients:
    """One training, and the derivatives of what it leads to.

    replay  the training
    guests  int[g]; examples that take part in the training with weight 0, at random places in minibatches. If one is a
            member, too, what counts is its visits as a guest
    visits  how often a guest is there for each time that a member is; each counts 1 / visits
    seed    of the places

    last    the state after the last step
    """

    def __init__(self, replay: Replay, guests: np.ndarray | Sequence[int] = (), visits: int = 1, seed: int = 0):
        self._replay, self._visits, self._loops = replay, visits, False
        self._guests = np.asarray(guests, dtype=np.int64)
        start = replay.start()
        size = _bytes(start)
        self._stride = 1 if size * replay.steps <= STATE_BYTES else math.isqrt(replay.steps - 1) + 1
        self._kept: list[State] = []
        state = start
        for step in range(replay.steps):
            if step % self._stride == 0:
                self._kept.append(state)
            state = self._advance(step, state)
        self.last = state
        self._places = self._draw(np.random.default_rng(seed))

    def of(self, slopes: Callable[[slice], np.ndarray], wanted: np.ndarray, examples: int) -> np.ndarray:
        """Return the derivatives of outputs by the weights of examples, [n, examples]; 0 for others than `wanted`.

        slopes    returns the derivatives of some outputs by the weights of the model of `last`, float[rows, parameters]
        wanted    bool[n]
        examples  number of examples of the pool
        """
        weights, rows = self.last[0], max(1, min(TARGETS_AT_ONCE, ADJOINT_BYTES // _bytes(self.last)))
        found = np.zeros((len(wanted), examples), dtype=np.float32 if weights.dtype == torch.float32 else np.float64)
        places = np.flatnonzero(wanted)
        for start in range(0, len(places), rows):
            block = places[start : start + rows]
            given = slopes(slice(int(block[0]), int(block[-1]) + 1))[block - block[0]]
            adjoint = torch.as_tensor(np.ascontiguousarray(given), dtype=weights.dtype, device=weights.device)
            found[block] = self._back(adjoint, examples).cpu().numpy()
        return found

    def _back(self, adjoint: torch.Tensor, examples: int) -> torch.Tensor:
        """Go from the derivatives by the last weights, [t, parameters], to those by examples, [t, examples]."""
        of_members, of_guests = (torch.zeros((len(adjoint), examples)).to(adjoint) for _ in range(2))
        adjoints = (adjoint, *(torch.zeros((len(adjoint), *tensor.shape)).to(tensor) for tensor in self.last[1:]))
        for step, state in self._backward():
            members, shares = self._replay.minibatch(step)
            live = state[0].detach().requires_grad_()
            scales = torch.ones_like(shares).requires_grad_()
            gradient = self._gradient(live, members, scales * shares, create_graph=True)
            adjoints, of_gradient = self._through_update(step, state, gradient.detach(), adjoints)
            curved, moved = self._batched((gradient,), [live, scales], (of_gradient,))
            adjoints = (adjoints[0] + curved, *adjoints[1:])
            of_members.index_add_(1, members, moved)
            guests = self._places[step].to(members.device)
            if len(guests):
                share = shares.mean() / self._visits
                of_guests.index_add_(1, guests, share * self._moved(state[0], guests, of_gradient))
        of_members[:, self._guests] = of_guests[:, self._guests]
        return of_members

    def _backward(self) -> Iterator[tuple[int, State]]:
        """Yield the number of each step and the state before it, from the last to the first."""
        for first in range((len(self._kept) - 1) * self._stride, -1, -self._stride):
            states = [self._kept[first // self._stride]]
            for step in range(first, min(first + self._stride, self._replay.steps) - 1):
                states.append(self._advance(step, states[-1]))
            for place in range(len(states) - 1, -1, -1):
                yield first + place, states[place]

    def _advance(self, step: int, state: State) -> State:
        members, shares = self._replay.minibatch(step)
        gradient = self._gradient(state[0].detach().requires_grad_(), members, shares)
        with torch.no_grad():
            return self._replay.update(step, state, gradient)

    def _gradient(
        self, live: torch.Tensor, rows: torch.Tensor, shares: torch.Tensor, *, create_graph: bool = False
    ) -> torch.Tensor:
        """Return the gradient of a minibatch's loss, [parameters]. With its graph, kinks have curvature."""
        with transformable(), SpreadKinks():
            loss = (shares * self._replay.losses(live, rows)).sum()
        return torch.autograd.grad(loss, live, create_graph=create_graph)[0]

    def _through_update(
        self, step: int, state: State, gradient: torch.Tensor, adjoints: State
    ) -> tuple[State, torch.Tensor]:
        """Return the derivatives by the state before an update, and those by its gradient, [t, parameters]."""
        before = [tensor.detach().requires_grad_() for tensor in (*state, gradient)]
        after = self._replay.update(step, tuple(before[:-1]), before[-1])
        *of_state, of_gradient = self._batched(after, before, adjoints)
        return tuple(of_state), of_gradient

    def _moved(self, weights: torch.Tensor, rows: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Return the products of vectors, [t, parameters], with the gradients of rows, [t, rows]."""
        if not self._loops:
            try:
                with transformable():
                    return torch.vmap(
                        lambda vector: torch.func.jvp(
                            lambda weights: self._replay.losses(weights, rows), (weights,), (vector,)
                        )[1]
                    )(vectors)
            except (RuntimeError, NotImplementedError) as error:
                if out_of_memory(error):
                    raise
                self._loops = True
        live, scales = weights.detach().requires_grad_(), torch.ones(len(rows)).to(weights).requires_grad_()
        gradient = self._gradient(live, rows, scales, create_graph=True)
        return self._batched((gradient,), [scales], (vectors,))[0]

    def _batched(self, of: State, by: list[torch.Tensor], slopes: State) -> tuple[torch.Tensor, ...]:
        """Return the derivatives of `of` by each of `by`, for all t slopes at once or, if need be, one by one."""

        def derivatives(given: State, batched: bool) -> tuple[torch.Tensor, ...]:
            return torch.autograd.grad(
                of, by, given, retain_graph=True, is_grads_batched=batched, allow_unused=True, materialize_grads=True
            )

        if not self._loops:
            try:
                return derivatives(slopes, True)
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                self._loops = True
        rows = [derivatives(tuple(slope[row] for slope in slopes), False) for row in range(len(slopes[0]))]
        return tuple(torch.stack(parts) for parts in zip(*rows, strict=True))

    def _draw(self, generator: np.random.Generator) -> list[torch.Tensor]:
        """Return the guests of each step. All are there once before any is there again."""
        rows = [self._replay.minibatch(step)[0] for step in range(self._replay.steps)]
        members = len(np.unique(torch.cat(rows).cpu().numpy()))
        ends = np.cumsum([0] + [len(part) for part in rows]) * len(self._guests) * self._visits // members
        rounds = -(-int(ends[-1]) // max(1, len(self._guests)))
        drawn = [self._guests[:0], *(generator.permutation(self._guests) for _ in range(rounds))]
        return list(torch.from_numpy(np.concatenate(drawn)[: ends[-1]]).split(np.diff(ends).tolist()))


def _bytes(state: State) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state)
