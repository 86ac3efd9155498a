"""Optimizers as in-place tensor updates that fuse into the training step, and learning rate schedules."""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from bbbrun.options import AdamConfig, OptimizerConfig, Schedule, SgdConfig


class Optimizer(Protocol):
    """What a training step asks of an optimizer."""

    @property
    def slots(self) -> int:
        """How many state tensors of the parameter's shape it keeps, all starting at 0."""

    def update(self, parameter: Tensor, gradient: Tensor, slots: list[Tensor], lr: Tensor, step: Tensor) -> None:
        """Change parameter and slots in place; `step` counts from 0; lr and step have no dimensions."""


class Sgd(NamedTuple):
    """v <- momentum * v + gradient; parameter <- parameter - lr * v."""

    momentum: float

    @property
    def slots(self) -> int:
        return 1 if self.momentum > 0 else 0

    def update(self, parameter: Tensor, gradient: Tensor, slots: list[Tensor], lr: Tensor, step: Tensor) -> None:
        if self.momentum > 0:
            gradient = slots[0].mul_(self.momentum).add_(gradient)
        parameter.sub_(lr * gradient)


class Adam(NamedTuple):
    """Adam with bias correction (Kingma and Ba, 2015, algorithm 1)."""

    beta1: float
    beta2: float
    epsilon: float

    @property
    def slots(self) -> int:
        return 2

    def update(self, parameter: Tensor, gradient: Tensor, slots: list[Tensor], lr: Tensor, step: Tensor) -> None:
        mean = slots[0].mul_(self.beta1).add_((1 - self.beta1) * gradient)
        square = slots[1].mul_(self.beta2).add_((1 - self.beta2) * gradient.square())
        count = step.to(torch.float32) + 1
        rate = lr / (1 - self.beta1**count)
        parameter.sub_(rate * mean / (torch.sqrt(square / (1 - self.beta2**count)) + self.epsilon))


def build_optimizer(config: OptimizerConfig) -> Optimizer:
    """The optimizer that the configuration names."""
    match config:
        case SgdConfig():
            return Sgd(config.momentum)
        case AdamConfig():
            return Adam(config.beta1, config.beta2, config.epsilon)
    raise TypeError(f"no optimizer for {config!r}")


def learning_rates(config: OptimizerConfig, epoch: int, epochs: int, minibatches: int) -> Tensor:
    """The learning rate of each step of an epoch (counted from 0), float64 (M,).

    constant: lr. step: lr * decay_factor^floor(epoch / decay_epochs). cosine: lr * (1 + cos(pi s / S)) / 2 at
    step s of S in all (Loshchilov and Hutter, "SGDR", 2017, without restarts).
    """
    match config.schedule:
        case Schedule.constant:
            return torch.full((minibatches,), config.lr, dtype=torch.float64)
        case Schedule.step:
            rate = config.lr * config.decay_factor ** (epoch // config.decay_epochs)
            return torch.full((minibatches,), rate, dtype=torch.float64)
        case Schedule.cosine:
            done = epoch * minibatches + torch.arange(minibatches, dtype=torch.float64)
            return config.lr * 0.5 * (1 + torch.cos(math.pi * done / (epochs * minibatches)))
