"""Priors over the weights: densities that factorise over weights, with the gradient of their logarithm.

README.md says what to touch to add one.
"""

from typing import Protocol

import torch
from torch import Tensor

from bbbrun.densities import log_normal
from bbbrun.options import GaussianPriorConfig, PriorConfig, ScaleMixtureConfig
from bbbrun.posterior import DiagonalGaussian, Gradient


class Prior(Protocol):
    """What the objective asks of a prior."""

    def log_prob(self, weights: Tensor) -> Tensor:
        """log P(w) of each weight, nats, shape of `weights`."""

    def score(self, weights: Tensor) -> Tensor:
        """d log P(w) / dw of each weight, shape of `weights`."""


class Gaussian:
    """P(w) = N(w; 0, sigma^2); sigma is a tensor without dimensions."""

    def __init__(self, sigma: Tensor) -> None:
        self.sigma = sigma
        self._precision = sigma.square().reciprocal()

    def log_prob(self, weights: Tensor) -> Tensor:
        """-(w / sigma)^2 / 2 - log sigma - log(2 pi) / 2, nats."""
        return log_normal(weights, 0.0, self.sigma)

    def score(self, weights: Tensor) -> Tensor:
        """-w / sigma^2."""
        return -weights * self._precision

    def kl_gradient(self, posterior: DiagonalGaussian) -> Gradient:
        """The gradient of KL(q || P) in mu and in sigma, with s this prior's deviation.

        KL = log(s / sigma) + (sigma^2 + mu^2) / (2 s^2) - 1/2, so mu / s^2 and sigma / s^2 - 1 / sigma.
        """
        sigma = posterior.sigma
        return Gradient(posterior.mu * self._precision, sigma * self._precision - 1 / sigma)


class ScaleMixture:
    """P(w) = pi N(w; 0, sigma1^2) + (1 - pi) N(w; 0, sigma2^2); all three are tensors without dimensions.

    Source: Blundell et al. 2015, equation 7.
    """

    def __init__(self, pi: Tensor, sigma1: Tensor, sigma2: Tensor) -> None:
        self.pi, self.sigma1, self.sigma2 = pi, sigma1, sigma2
        # Once, not in `score`: a compiled step would compute them anew for every few weights.
        self._wide_precision = sigma1.square().reciprocal()
        self._precision_gap = sigma2.square().reciprocal() - self._wide_precision
        self._offset = torch.log(sigma1 / sigma2) - torch.logit(pi)

    def log_prob(self, weights: Tensor) -> Tensor:
        """log of equation 7, nats, in log space: finite wherever the result has a finite representation."""
        wide = torch.log(self.pi) + log_normal(weights, 0.0, self.sigma1)
        narrow = torch.log1p(-self.pi) + log_normal(weights, 0.0, self.sigma2)
        return torch.logaddexp(wide, narrow)

    def score(self, weights: Tensor) -> Tensor:
        """-w (1 / sigma1^2 + r (1 / sigma2^2 - 1 / sigma1^2)), r the narrow component's share of the density at w.

        r = sigmoid(log((1 - pi) / pi) + log(sigma1 / sigma2) - w^2 (1 / sigma2^2 - 1 / sigma1^2) / 2): one
        sigmoid, and no density that could underflow. The narrow share, not 1 - the wide one: times
        1 / sigma2^2, of the order of millions, the rounding of 1 - r would swamp 1 / sigma1^2.
        """
        narrow = torch.sigmoid(self._offset - weights.square() * (0.5 * self._precision_gap))
        return -weights * (self._wide_precision + narrow * self._precision_gap)


def build_prior(config: PriorConfig, device: torch.device | str) -> Prior:
    """The prior that the configuration names, its numbers float32 tensors on `device`.

    Tensors, not Python numbers: a compiled step then serves every value of a sweep.
    """

    def scalar(value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float32, device=device)

    match config:
        case ScaleMixtureConfig():
            return ScaleMixture(scalar(config.pi), scalar(config.sigma1), scalar(config.sigma2))
        case GaussianPriorConfig():
            return Gaussian(scalar(config.sigma))
    raise TypeError(f"no prior for {config!r}")
