"""Priors over the weights: densities that factorise over weights, with the gradient of their logarithm.

README.md says how to add one.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from bbbrun.bayes.likelihoods import log_normal
from bbbrun.bayes.posterior import Gradient, Moments
from bbbrun.runtime.elementary import sigmoid
from bbbrun.schema.methods import PriorConfig


class Prior(Protocol):
    """The contract of a prior: a NamedTuple of tensors, so that replicas can stack them."""

    def log_prob(self, weights: Tensor) -> Tensor:
        """log P(w) of each weight, nats, shape of `weights`."""

    def score(self, weights: Tensor) -> Tensor:
        """d log P(w) / dw of each weight, shape of `weights`."""


class Gaussian(NamedTuple):
    """P(w) = N(w; 0, sigma^2); sigma, and precision = 1 / sigma^2, are tensors without dimensions."""

    sigma: Tensor
    precision: Tensor

    @classmethod
    def of(cls, sigma: Tensor | float) -> "Gaussian":
        """The prior of this deviation; raises ValueError where it is not positive."""
        sigma = _positive(sigma)
        return cls(sigma, sigma.square().reciprocal())

    def log_prob(self, weights: Tensor) -> Tensor:
        """-(w / sigma)^2 / 2 - log sigma - log(2 pi) / 2, nats."""
        return log_normal(weights, 0.0, self.sigma)

    def score(self, weights: Tensor) -> Tensor:
        """-w / sigma^2."""
        return -weights * self.precision

    def kl_gradient(self, posterior: Moments) -> Gradient:
        """The gradient of KL(q || P) in mu and in sigma, with s this prior's deviation.

        KL = log(s / sigma) + (sigma^2 + mu^2) / (2 s^2) - 1/2, so mu / s^2 and sigma / s^2 - 1 / sigma.
        """
        return Gradient(posterior.mu * self.precision, posterior.sigma * self.precision - 1 / posterior.sigma)


class ScaleMixture(NamedTuple):
    """P(w) = pi N(w; 0, sigma1^2) + (1 - pi) N(w; 0, sigma2^2); tensors without dimensions.

    The other fields are computed from these three by `of`. Source: Blundell et al. 2015, equation 7.
    """

    pi: Tensor
    sigma1: Tensor
    sigma2: Tensor
    wide_precision: Tensor
    precision_gap: Tensor
    offset: Tensor

    @classmethod
    def of(cls, pi: Tensor | float, sigma1: Tensor | float, sigma2: Tensor | float) -> "ScaleMixture":
        """The prior of these three numbers; raises ValueError where one is not positive, and for a pi of 1 or more."""
        pi, sigma1, sigma2 = _positive(pi), _positive(sigma1), _positive(sigma2)
        if not bool((pi < 1).all()):
            raise ValueError(f"pi must be above 0 and below 1, not {pi}")
        # Here, not in `score`: a compiled step would compute them again for every few weights.
        wide_precision = sigma1.square().reciprocal()
        gap = sigma2.square().reciprocal() - wide_precision
        return cls(pi, sigma1, sigma2, wide_precision, gap, torch.log(sigma1 / sigma2) - torch.logit(pi))

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
        narrow = sigmoid(self.offset - weights.square() * (0.5 * self.precision_gap))
        return -weights * (self.wide_precision + narrow * self.precision_gap)


class Laplace(NamedTuple):
    """P(w) = exp(-abs(w) / b) / (2 b); the scale b is a tensor without dimensions. Its deviation is sqrt(2) b."""

    scale: Tensor

    @classmethod
    def of(cls, scale: Tensor | float) -> "Laplace":
        """The prior of this scale; raises ValueError where it is not positive."""
        return cls(_positive(scale))

    def log_prob(self, weights: Tensor) -> Tensor:
        """-abs(w) / b - log(2 b), nats."""
        return -weights.abs() / self.scale - torch.log(2 * self.scale)

    def score(self, weights: Tensor) -> Tensor:
        """-sign(w) / b, and 0 at the kink."""
        return -weights.sign() / self.scale


# name -> the prior of its options; None for methods that use none
PRIORS: dict[str, Callable[[Any], Prior | None]] = {
    "scale_mixture": lambda options: ScaleMixture.of(options.pi, options.sigma1, options.sigma2),
    "gaussian": lambda options: Gaussian.of(options.sigma),
    "laplace": lambda options: Laplace.of(options.scale),
    "none": lambda options: None,
}


def build_prior(config: PriorConfig, device: torch.device | str) -> Prior | None:
    """The prior that the configuration names, its numbers float32 tensors on `device`; None for prior=none.

    Tensors, not Python numbers: every value of a sweep then finds the same compiled step in torch's cache.
    """
    prior = PRIORS[config.name](config)
    return prior and placed(prior, device)


def placed(prior: Prior, device: torch.device | str) -> Prior:
    """The same prior, its numbers on `device`."""
    kind: Any = type(prior)
    same: Prior = kind(*(part.to(device) for part in cast(Sequence[Tensor], prior)))
    return same


def _positive(value: Tensor | float) -> Tensor:
    number = torch.as_tensor(value, dtype=torch.float32)
    if not bool((number.isfinite() & (number > 0)).all()):
        raise ValueError(f"the numbers of a prior must be positive and finite, not {value}")
    return number


def join_priors(priors: Sequence[Prior]) -> Prior | None:
    """The priors of R replicas, of one kind, as one prior with numbers (R,); a single prior or None unchanged."""
    if len(priors) < 2:
        return priors[0] if priors else None
    parts: Any = zip(*(cast(Sequence[Tensor], prior) for prior in priors), strict=True)
    kind: Any = type(priors[0])
    joined: Prior = kind(*(torch.stack(part) for part in parts))
    return joined
