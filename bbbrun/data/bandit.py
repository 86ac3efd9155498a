"""Contextual bandits as whole tensors: contexts, expected rewards of each action, and the spread of rewards."""

from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

from bbbrun.data.wheel import wheel_contexts, wheel_expected
from bbbrun.runtime.noise import Stream, integers, standard_normal
from bbbrun.schema.datasets import DatasetConfig, MushroomConfig, WheelConfig


class RewardNoise(Enum):
    """The distribution of xi, of mean 0 and variance 1: -1 or 1 with equal chance, or N(0, 1)."""

    coin = "coin"
    normal = "normal"


class Bandit(NamedTuple):
    """N contexts of D inputs and K actions: reward = expected + spread * xi.

    contexts float32 (N, D), expected and spread float32 (N, K), edible bool (N,) for mushrooms.
    """

    contexts: Tensor
    expected: Tensor
    spread: Tensor
    noise: RewardNoise
    edible: Tensor | None

    def oracle(self, rows: int | slice = slice(None)) -> Tensor:
        """The best action's expected reward in the contexts `rows`, by default all (N,), for the regret."""
        return self.expected[rows].amax(dim=-1)

    def rewards(self, rows: Tensor, actions: Tensor, xi: Tensor) -> Tensor:
        """The rewards of `actions` in the contexts `rows`; the arguments and the result have one shape."""
        return self.expected[rows, actions] + self.spread[rows, actions] * xi


def load_bandit(config: DatasetConfig, seed: int, steps: int) -> Bandit:
    """The bandit that the configuration names, on the CPU; a generated one has a context for each of `steps`.

    Mushrooms: action 0 passes, 1 eats. Raises UserError where files are missing or wrong.
    """
    match config:
        case MushroomConfig():
            from bbbrun.data.mushroom import load_mushrooms

            contexts, edible = load_mushrooms(config.root)
            return _mushrooms(contexts, edible, config)
        case WheelConfig():
            contexts = wheel_contexts(seed, steps)
            expected = wheel_expected(contexts, config)
            return Bandit(contexts, expected, torch.full_like(expected, config.sigma), RewardNoise.normal, None)
        case _:
            raise TypeError(f"no bandit for {config!r}")


def visits(config: DatasetConfig, seed: int, steps: int, rows: int) -> Tensor:
    """The context of each interaction, of `rows` contexts, int64 (steps,); element t depends on (seed, t) alone.

    Mushrooms are drawn uniformly with repetition; generated contexts are shown once each, in their order.
    """
    match config:
        case MushroomConfig():
            return integers(seed, 0, Stream.VISITS, steps, rows)
        case WheelConfig():
            assert rows >= steps
            return torch.arange(steps)
        case _:
            raise TypeError(f"no bandit for {config!r}")


def reward_noise(noise: RewardNoise, seed: int, steps: int, draw: int = 0) -> Tensor:
    """xi of each interaction, float32 (steps,); element t depends on (seed, t, draw) alone."""
    match noise:
        case RewardNoise.coin:
            return 2 * integers(seed, 0, Stream.REWARD + draw, steps, 2).to(torch.float32) - 1
        case RewardNoise.normal:
            return standard_normal(seed, 0, Stream.REWARD + draw, steps)


def _mushrooms(contexts: Tensor, edible: Tensor, config: MushroomConfig) -> Bandit:
    high, low = config.poisonous_rewards
    expected = torch.tensor([[0, (high + low) / 2], [0, config.edible_reward]], dtype=torch.float32)
    spread = torch.tensor([[0, (high - low) / 2], [0, 0]], dtype=torch.float32)
    kind = edible.to(torch.int64)
    return Bandit(contexts, expected[kind], spread[kind], RewardNoise.coin, edible)
