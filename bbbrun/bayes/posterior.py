"""The variational posterior: a diagonal Gaussian over one flat vector of weights (paper, section 3.2)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bbbrun.runtime.elementary import exp


class Gradient(NamedTuple):
    """The gradient of a function in mu and in sigma, both (P,)."""

    mu: Tensor
    sigma: Tensor


class Moments(NamedTuple):
    """mu, sigma and slope = d sigma / d rho of a posterior, each (P,), which a step uses more than once."""

    mu: Tensor
    sigma: Tensor
    slope: Tensor

    def sample(self, eps: Tensor) -> Tensor:
        """w = mu + sigma * eps (P,)."""
        return self.mu + self.sigma * eps


class DiagonalGaussian(NamedTuple):
    """q(w given theta) = N(w; mu, sigma^2), sigma = log(1 + exp(rho)), theta = (mu, rho), both of shape (P,).

    Source: Blundell et al. 2015, section 3.2.
    """

    mu: Tensor
    rho: Tensor

    @property
    def sigma(self) -> Tensor:
        """sigma = softplus(rho) (P,); positive and finite in float32 for rho from -50 to 50 and beyond."""
        return self.moments().sigma

    def moments(self) -> Moments:
        """mu, sigma and d sigma / d rho = 1 / (1 + exp(-rho)), from one exponential and one division.

        softplus(rho) = max(rho, 0) + log(1 + x), x = exp(-abs(rho)), and log(1 + x) = 2 artanh(x / (2 + x)), whose
        series is exact to float32's last bits by its seventh term because x <= 1. A vectorised log1p costs three
        times as much.
        """
        x = exp(-self.rho.abs())
        shared = 1 / ((1 + x) * (2 + x))
        s = x * (1 + x) * shared
        z = s.square()
        series = 1 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (1 / 11 + z * (1 / 13))))))
        # maximum, not relu: its gradient at rho = 0 is the right one, 1/2.
        sigma = torch.maximum(self.rho, torch.zeros_like(self.rho)) + 2 * s * series
        return Moments(self.mu, sigma, torch.where(self.rho >= 0, 1.0, x) * (2 + x) * shared)

    def sample(self, eps: Tensor) -> Tensor:
        """w = mu + sigma * eps (P,), differentiable in mu and rho."""
        return self.moments().sample(eps)

    def log_prob_of_noise(self, eps: Tensor) -> Tensor:
        """log q(mu + sigma * eps given theta) of each weight, nats.

        -log sigma - eps^2 / 2 - log(2 pi) / 2. Exact where sigma is too small for mu + sigma * eps to
        differ from mu in floating point.
        """
        return -torch.log(self.sigma) - 0.5 * eps.square() - 0.5 * math.log(2 * math.pi)

    def signal_to_noise(self) -> Tensor:
        """abs(mu) / sigma of each weight (P,) (paper, section 5.1)."""
        return self.mu.abs() / self.sigma
