"""Equal mixtures of Gaussians, one for each draw of the weights: the predictive distribution of a regression."""

import math

import torch
from torch import Tensor

from bbbrun.bayes.likelihoods import log_normal

_HALVINGS = 60  # brings any bracket down to the last bits of a float64


def log_mixture(y: Tensor, means: Tensor, sigmas: Tensor) -> Tensor:
    """log (1/S sum_s N(y; mean_s, sigma_s^2)), nats (N,), for y (N,) and means and sigmas (S, N)."""
    return torch.logsumexp(log_normal(y, means, sigmas), dim=0) - math.log(len(means))


def mixture_quantile(probability: float, means: Tensor, sigmas: Tensor) -> Tensor:
    """The y (N,) at which 1/S sum_s Phi((y - mean_s) / sigma_s) = probability, for means and sigmas (S, N), float64.

    By bisection: y lies between the least and the greatest of the components' own quantiles.
    """
    means, sigmas = means.double(), sigmas.double()
    own = means + sigmas * torch.special.ndtri(torch.tensor(probability, dtype=torch.float64, device=means.device))
    low: Tensor = own.amin(dim=0)
    high: Tensor = own.amax(dim=0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = torch.special.ndtr((middle - means) / sigmas).mean(dim=0) < probability
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
