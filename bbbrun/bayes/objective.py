"""The variational free energy over minibatches and its gradient (paper, sections 3.2 and 3.4)."""

from typing import NamedTuple

import torch
from torch import Tensor

from bbbrun.bayes.posterior import DiagonalGaussian, Gradient, Moments
from bbbrun.bayes.priors import Prior
from bbbrun.schema.methods import MinibatchWeights


def minibatch_weights(kind: MinibatchWeights, minibatches: int) -> Tensor:
    """The share of the complexity of each minibatch of an epoch, float64 (M,), summing to 1.

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


def complexity_gradient(posterior: Moments, prior: Prior, eps: Tensor) -> Gradient:
    """The gradient of log q(w given theta) - log P(w) at w = mu + sigma * eps, without any log density.

    log q depends on w, mu and sigma only through eps and sigma, so its terms cancel down to -1 / sigma in sigma:
        mu:    -score(w)
        sigma: -score(w) * eps - 1 / sigma.
    Source: Blundell et al. 2015, section 3.2, steps 5 and 6.
    """
    score = prior.score(posterior.sample(eps))
    return Gradient(-score, -score * eps - 1 / posterior.sigma)


def free_energy_gradient(
    posterior: Moments, nll: Gradient, complexity: Gradient, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient of weight * complexity + nll in mu and in rho, both (P,).

        delta mu  = dnll/dmu + weight * dcomplexity/dmu
        delta rho = (dnll/dsigma + weight * dcomplexity/dsigma) / (1 + exp(-rho)).

    With both terms at one draw w, dnll/dmu = dnll/dw and dnll/dsigma = dnll/dw * eps, this is section 3.2's.
    `weight` is the minibatch's weight times the temperature, without dimensions.
    Source: Blundell et al. 2015, section 3.2, steps 5 and 6.
    """
    return nll.mu + weight * complexity.mu, (nll.sigma + weight * complexity.sigma) * posterior.slope
