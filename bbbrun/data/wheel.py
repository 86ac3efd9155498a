"""The wheel bandit: rewards whose rarity, and with it the need to explore, is set by one radius.

Source: Riquelme, Tucker and Snoek, "Deep Bayesian Bandits Showdown", ICLR 2018, arXiv 1802.09127, section 5.4.
"""

import math

import torch
from torch import Tensor

from bbbrun.runtime.noise import Stream, uniform
from bbbrun.schema.datasets import WheelConfig


def wheel_contexts(seed: int, size: int) -> Tensor:
    """Points uniform on the unit disk, float32 (size, 2); row t depends on (seed, t) alone.

    x = sqrt(u) (cos, sin)(2 pi v): the square of the radius is uniform.
    """
    u, v = uniform(seed, 0, Stream.CONTEXTS, 2 * size).view(size, 2).unbind(dim=1)
    radius, angle = torch.sqrt(u), 2 * math.pi * v
    return torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=1)


def wheel_expected(contexts: Tensor, config: WheelConfig) -> Tensor:
    """The expected reward of the five actions in each context, float32 (N, 5), for contexts (N, 2).

    mu1 for action 0 and mu2 for the others, but where norm(x) > delta mu3 for the one that the signs of x choose:
    1 for (+, +), 2 for (+, -), 3 for (-, +), 4 for (-, -).
    """
    assert contexts.dim() == 2
    assert contexts.shape[1] == 2
    expected = contexts.new_full((len(contexts), 5), config.mu2)
    expected[:, 0] = config.mu1
    outside = contexts.norm(dim=1) > config.delta
    right, upper = contexts[:, 0] > 0, contexts[:, 1] > 0
    chosen = 1 + 2 * (~right).to(torch.int64) + (~upper).to(torch.int64)
    expected[outside, chosen[outside]] = config.mu3
    return expected
