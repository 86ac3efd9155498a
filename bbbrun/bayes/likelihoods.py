"""Likelihoods: the nll of targets given a network's outputs, and the densities behind it."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Likelihood = Callable[[Tensor, Tensor], Tensor]  # (outputs (B, K), targets (B, ...)) -> nll of each example (B,)
Conditional = Callable[[Tensor], tuple[Tensor, Tensor]]  # outputs (..., K) -> mean (...), sigma (...)

_HALVINGS = 60  # enough to narrow any bracket to the last bits of a float64


def categorical(outputs: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(outputs)[label] of each example (B,), nats, for outputs (B, K) and labels int64 (B,)."""
    return F.cross_entropy(outputs, labels, reduction="none")


def fixed_sigma(sigma: float) -> Conditional:
    """N(a, sigma^2) of one output a."""

    def conditional(outputs: Tensor) -> tuple[Tensor, Tensor]:
        mean = outputs[..., 0]
        return mean, torch.full_like(mean, sigma)

    return conditional


def predicted_sigma(scale: float, floor: float) -> Conditional:
    """N(a, (floor + scale * softplus(b))^2) of two outputs (a, b)."""

    def conditional(outputs: Tensor) -> tuple[Tensor, Tensor]:
        return outputs[..., 0], floor + scale * F.softplus(outputs[..., 1])

    return conditional


def gaussian(conditional: Conditional) -> Likelihood:
    """-log N(target; mean, sigma^2) of each example (B,), nats; `conditional` gives mean and sigma from the outputs."""

    def likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
        return -log_normal(targets, *conditional(outputs))

    return likelihood


def log_normal(y: Tensor, mean: Tensor | float, sigma: Tensor) -> Tensor:
    """log N(y; mean, sigma^2) = -((y - mean) / sigma)^2 / 2 - log sigma - log(2 pi) / 2, nats; the shapes broadcast."""
    return -0.5 * ((y - mean) / sigma).square() - torch.log(sigma) - 0.5 * math.log(2 * math.pi)


def log_mixture(y: Tensor, means: Tensor, sigmas: Tensor, shares: Tensor | None = None) -> Tensor:
    """log sum_s share_s N(y; mean_s, sigma_s^2), nats (N,), for y (N,) and means and sigmas (S, N).

    shares (S,) sum to 1, by default 1/S each. An equal mixture of Gaussians, one for each draw of the weights, is the
    posterior predictive of a regression.
    """
    densities = log_normal(y, means, sigmas)
    if shares is None:
        return torch.logsumexp(densities, dim=0) - math.log(len(means))
    return torch.logsumexp(densities + shares.log()[:, None], dim=0)


def mixture_coverage(y: Tensor, means: Tensor, sigmas: Tensor, probability: float = 0.5) -> float:
    """The share of the y (N,), percent, that lie in the mixture's central interval of this probability.

    Those with abs(F(y) - 1/2) <= probability / 2, F(y) = mean over s of Phi((y - mean_s) / sigma_s), for means, sigmas
    (S, N), float64.
    """
    below: Tensor = torch.special.ndtr((y - means) / sigmas).mean(dim=0)
    return 100 * int(((below - 0.5).abs() <= probability / 2).sum()) / len(y)


def mixture_quantile(probability: float, means: Tensor, sigmas: Tensor, shares: Tensor | None = None) -> Tensor:
    """The y (N,) at which sum_s share_s Phi((y - mean_s) / sigma_s) = probability, for means, sigmas (S, N), float64.

    shares (S,) sum to 1, by default 1/S each. By bisection: y lies between the least and the greatest of the
    components' own quantiles.
    """
    means, sigmas = means.double(), sigmas.double()
    own = means + sigmas * torch.special.ndtri(torch.tensor(probability, dtype=torch.float64, device=means.device))
    low: Tensor = own.amin(dim=0)
    high: Tensor = own.amax(dim=0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        parts = torch.special.ndtr((middle - means) / sigmas)
        below = (parts.mean(dim=0) if shares is None else shares @ parts) < probability
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
