"""The variational free energy over minibatches and its gradient (paper, sections 3.2 and 3.4)."""

from typing import NamedTuple

import torch
from torch import Tensor

from bbbrun.options import MinibatchWeights
from bbbrun.posterior import DiagonalGaussian
from bbbrun.priors import Prior


def minibatch_weights(kind: MinibatchWeights, minibatches: int) -> Tensor:
    """The share of the complexity that each minibatch of an epoch carries, float64 (M,), summing to 1.

    uniform: 1 / M. paper: 2^(M-i) / (2^M - 1), i = 1 .. M, computed as 2^-i / (1 - 2^-M), which cannot overflow.
    Source: Blundell et al. 2015, section 3.4 and equation 9.
    """
    if kind is MinibatchWeights.uniform:
        return torch.full((minibatches,), 1 / minibatches, dtype=torch.float64)
    index = torch.arange(1, minibatches + 1, dtype=torch.float64)
    return torch.exp2(-index) / (1 - 2.0**-minibatches)


class FreeEnergy(NamedTuple):
    """The parts of equation 8 and their sum, tensors without dimensions, nats."""

    free_energy: Tensor
    nll: Tensor
    complexity: Tensor
    log_posterior: Tensor
    log_prior: Tensor


def free_energy(
    posterior: DiagonalGaussian,
    prior: Prior,
    eps: Tensor,
    nll: Tensor,
    weight: float | Tensor,
    temperature: float,
) -> FreeEnergy:
    """weight * temperature * complexity + nll for the draw w = mu + sigma * eps, with its parts.

    complexity = log q(w given theta) - log P(w), summed over the weights, from this one draw. `nll` is
    -log P(D_i given w), summed over the minibatch. Differentiable in mu and rho through w.
    Source: Blundell et al. 2015, equation 8.
    """
    log_posterior = posterior.log_prob_of_noise(eps).sum()
    log_prior = prior.log_prob(posterior.sample(eps)).sum()
    complexity = log_posterior - log_prior
    return FreeEnergy(weight * temperature * complexity + nll, nll, complexity, log_posterior, log_prior)


def free_energy_gradient(
    posterior: DiagonalGaussian, prior: Prior, eps: Tensor, weights: Tensor, dnll: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient of weight * complexity + nll in mu and in rho, both (P,), without any log density.

    With f = weight * (log q - log P) + nll and w = mu + sigma * eps, section 3.2 has
        delta mu  = df/dw + df/dmu
        delta rho = df/dw * eps / (1 + exp(-rho)) + df/drho.
    log q depends on w, mu and rho only through eps and sigma, so its terms cancel down to
    -weight / sigma in the gradient of sigma:
        shared    = dnll - weight * score(w)
        delta mu  = shared
        delta rho = (shared * eps - weight / sigma) * sigmoid(rho).

    `dnll` is dnll/dw (P,); `weight` is the minibatch's weight times the temperature, without dimensions.
    Source: Blundell et al. 2015, section 3.2, steps 5 and 6.
    """
    sigma, slope = posterior.sigma_and_slope()
    shared = dnll - weight * prior.score(weights)
    return shared, (shared * eps - weight / sigma) * slope
