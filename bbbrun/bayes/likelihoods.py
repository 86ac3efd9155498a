"""The Gaussian density that priors and likelihoods share."""

import math

import torch
from torch import Tensor


def log_normal(y: Tensor, mean: Tensor | float, sigma: Tensor) -> Tensor:
    """log N(y; mean, sigma^2) = -((y - mean) / sigma)^2 / 2 - log sigma - log(2 pi) / 2, nats; the shapes broadcast."""
    return -0.5 * ((y - mean) / sigma).square() - torch.log(sigma) - 0.5 * math.log(2 * math.pi)
