"""Draws of the weights for predictions: which noise each is made of."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.runtime.noise import Stream, standard_normal

_BLOCK = 1 << 16  # weights made at once: half as many pairs, and torch splits what has more than 32,768 elements

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


def draw_in_blocks(posterior: DiagonalGaussian, seed: Tensor, step: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """What `draw_weights` gives, bit for bit, made block by block on all threads where it runs uncompiled.

    Of the noise's 200 operations each one reads and writes all weights: in blocks these stay in a core's cache, and
    2.4 million weights take a tenth of the time. Blocks are so small that torch leaves each to one thread.
    """
    size = len(posterior.mu)
    if posterior.mu.device.type != "cpu" or size <= 2 * _BLOCK:
        return draw_weights(posterior, seed, step, draw)
    weights, eps = torch.empty_like(posterior.mu), torch.empty_like(posterior.mu)
    number = draw + int(Stream.EVALUATE)

    @torch.no_grad()
    def fill(first: int) -> None:
        block = slice(first, first + _BLOCK)
        noise = standard_normal(seed, step, number, len(eps[block]), first=first)
        eps[block] = noise
        weights[block] = DiagonalGaussian(posterior.mu[block], posterior.rho[block]).sample(noise)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        deque(threads.map(fill, range(0, size, _BLOCK)), maxlen=0)
    return weights, eps
