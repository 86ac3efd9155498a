"""Optimizers as in-place tensor updates that fuse into the training step, and learning rate schedules."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from bbbrun.schema.optimizers import OptimizerConfig, Schedule


class Optimizer(Protocol):
    """The contract of an optimizer for a training step."""

    @property
    def slots(self) -> int:
        """The number of its state tensors of the parameter's shape, all starting at 0."""

    def rates(self, lr: Tensor, first: int) -> Tensor:
        """The numbers that `update` needs at each of M steps, (M, r) float64, from their learning rates (M,).

        first: the number of the first of these steps, counted from 0. Computed ahead on the host: powers and
        divisions of scalars would otherwise be repeated for every weight inside the compiled update.
        """

    def update(self, parameter: Tensor, gradient: Tensor, slots: list[Tensor], rates: Sequence[Tensor]) -> None:
        """Change parameter and slots in place; `rates` is the step's row of r numbers."""


class Sgd(NamedTuple):
    """v <- momentum * v + gradient; parameter <- parameter - lr * v."""

    momentum: float

    @property
    def slots(self) -> int:
        return 1 if self.momentum > 0 else 0

    def rates(self, lr: Tensor, first: int) -> Tensor:
        return lr.unsqueeze(1)

    def update(self, parameter: Tensor, gradient: Tensor, slots: list[Tensor], rates: Sequence[Tensor]) -> None:
        if self.momentum > 0:
            gradient = slots[0].mul_(self.momentum).add_(gradient)
        parameter.sub_(rates[0] * gradient)


class Adam(NamedTuple):
    """Adam with bias correction (Kingma and Ba, 2015, algorithm 1, in the order of section 2's last paragraph).

    With c1 = 1 - beta1^t and c2 = 1 - beta2^t, t = 1, 2, ..., the step lr (m / c1) / (sqrt(v / c2) + epsilon) is
    (lr sqrt(c2) / c1) m / (sqrt(v) + epsilon sqrt(c2)).
    """

    beta1: float
    beta2: float
    epsilon: float

    @property
    def slots(self) -> int:
        return 2

    def rates(self, lr: Tensor, first: int) -> Tensor:
        count = first + 1 + torch.arange(len(lr), dtype=torch.float64)
        root = torch.sqrt(1 - self.beta2**count)
        return torch.stack((lr * root / (1 - self.beta1**count), self.epsilon * root), dim=1)

    def update(self, parameter: Tensor, gradient: Tensor, slots: list[Tensor], rates: Sequence[Tensor]) -> None:
        mean = slots[0].mul_(self.beta1).add_((1 - self.beta1) * gradient)
        square = slots[1].mul_(self.beta2).add_((1 - self.beta2) * gradient.square())
        parameter.sub_(rates[0] * mean / (torch.sqrt(square) + rates[1]))


# name -> the optimizer of its options
OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda options: Sgd(options.momentum),
    "adam": lambda options: Adam(options.beta1, options.beta2, options.epsilon),
}


def build_optimizer(config: OptimizerConfig) -> Optimizer:
    """The optimizer that the configuration names."""
    return OPTIMIZERS[config.name](config)


def learning_rates(config: OptimizerConfig, epoch: int, epochs: int, minibatches: int) -> Tensor:
    """The learning rate of each step of an epoch (counted from 0), float64 (M,).

    At step s of S in all, with M steps an epoch: constant: lr. step: lr * decay_factor^floor(epoch / decay_epochs).
    inverse: lr / (1 + s / (M * decay_epochs)) (Robbins and Monro, "A Stochastic Approximation Method", 1951).
    cosine: lr * (1 + cos(pi s / S)) / 2 (Loshchilov and Hutter, "SGDR", 2017, without restarts).
    """
    done = epoch * minibatches + torch.arange(minibatches, dtype=torch.float64)
    match config.schedule:
        case Schedule.constant:
            return torch.full((minibatches,), config.lr, dtype=torch.float64)
        case Schedule.step:
            rate = config.lr * config.decay_factor ** (epoch // config.decay_epochs)
            return torch.full((minibatches,), rate, dtype=torch.float64)
        case Schedule.inverse:
            return config.lr / (1 + done / (minibatches * config.decay_epochs))
        case Schedule.cosine:
            return config.lr * 0.5 * (1 + torch.cos(math.pi * done / (epochs * minibatches)))
