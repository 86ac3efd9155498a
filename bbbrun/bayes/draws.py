"""Draws of the weights for predictions, and the noise of each draw."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.runtime.noise import Stream, standard_normal
from bbbrun.runtime.noise_blocks import block_size, standard_normal_block

# (posterior, seed, step, number of the draw) -> weights (P,), eps (P,); the last three are int32 scalars
Sampler = Callable[[DiagonalGaussian, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def draw_weights(posterior: DiagonalGaussian, seed: Tensor, step: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluation draw number `draw` at `step`: (weights, eps), both (P,); seed, step and draw are int32 scalars."""
    eps = standard_normal(seed, step, draw + int(Stream.EVALUATE), len(posterior.mu), posterior.mu.device)
    return posterior.sample(eps), eps


@dataclass(frozen=True, slots=True)
class Draws:
    """The draws of one prediction: numbers 0 .. count - 1 at (seed, step), by `sampler`, which may be compiled."""

    seed: int
    step: int
    count: int
    sampler: Sampler = draw_weights

    def sample(self, posterior: DiagonalGaussian, number: int) -> tuple[Tensor, Tensor]:
        """Draw number `number` of the posterior: (weights, eps), both (P,)."""
        device = posterior.mu.device
        numbers = (torch.tensor(each, dtype=torch.int32, device=device) for each in (self.seed, self.step, number))
        return self.sampler(posterior, *numbers)


class BlockSampler:
    """The draws of `draw_weights`, bit for bit, for a posterior that does not change; block by block."""

    def __init__(self) -> None:
        self._rho, self._sigma = torch.empty(0), torch.empty(0)

    def __call__(self, posterior: DiagonalGaussian, seed: Tensor, step: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        mu, size = posterior.mu, len(posterior.mu)
        if mu.device.type != "cpu":
            return draw_weights(posterior, seed, step, draw)
        if posterior.rho is not self._rho:
            self._rho, self._sigma = posterior.rho, posterior.sigma
        sigma, weights, eps = self._sigma, torch.empty_like(mu), torch.empty_like(mu)
        numbers = (int(seed), int(step), int(draw) + int(Stream.EVALUATE))
        count = block_size()
        for first in range(0, size, count):
            block = slice(first, min(first + count, size))
            eps[block] = standard_normal_block(*numbers, first, block.stop - first)
            torch.mul(sigma[block], eps[block], out=weights[block]).add_(mu[block])
        return weights, eps
