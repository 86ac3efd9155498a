"""Draws of the weights for predictions: which noise each is made of."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.runtime.noise import Stream, standard_normal

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
