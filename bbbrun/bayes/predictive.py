"""Predictions: the posterior predictive, a mean of PROBABILITIES over draws of the weights (paper, equation 1)."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bbbrun.bayes.networks import Network
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.runtime.noise import Stream, standard_normal
from bbbrun.schema.options import BayesByBackpropConfig, MethodConfig

_CHUNK = 1000  # examples in one forward pass: as fast as more, and a 1200-unit layer's activations take 5 MB

Sampler = Callable[[DiagonalGaussian, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def draw_weights(posterior: DiagonalGaussian, seed: Tensor, step: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluation draw number `draw` at `step`: (weights, eps), both (P,); seed, step and draw are int32 scalars."""
    eps = standard_normal(seed, step, draw + int(Stream.EVALUATE), len(posterior.mu), posterior.mu.device)
    return posterior.sample(eps), eps


def evaluation_draws(method: MethodConfig, last: bool) -> int:
    """How many draws an evaluation averages over: method.test_samples, or method.final_samples for the last one."""
    if not isinstance(method, BayesByBackpropConfig):
        return 1
    return method.final_samples if last and method.final_samples else method.test_samples


@torch.no_grad()
def class_probabilities(network: Network, weights: Tensor, inputs: Tensor) -> Tensor:
    """softmax of the network's outputs (N, K) for flat weights (P,) and inputs (N, D)."""
    chunks = [network.predict(weights, chunk).softmax(dim=1) for chunk in inputs.split(_CHUNK)]
    return torch.cat(chunks)


@torch.no_grad()
def posterior_predictive(
    network: Network,
    posterior: DiagonalGaussian,
    inputs: Tensor,
    draws: int,
    seed: int,
    step: int,
    sampler: Sampler,
) -> Tensor:
    """P(y given x, D) = mean over S = `draws` draws w of softmax(network(w, x)), (N, K).

    Source: Blundell et al. 2015, equation 1.
    """
    total: Tensor | float = 0.0
    for weights in _draws(posterior, draws, seed, step, sampler):
        total = total + class_probabilities(network, weights, inputs)
    assert isinstance(total, Tensor)
    return total / draws


@torch.no_grad()
def network_outputs(
    network: Network, parameters: list[Tensor], inputs: Tensor, draws: int, seed: int, step: int, sampler: Sampler
) -> Tensor:
    """network(w, x) of each of S = `draws` draws w, (S, N, K); S = 1 where `parameters` are weights, not (mu, rho)."""
    if len(parameters) == 1:
        return network(parameters[0], inputs).unsqueeze(0)
    posterior = DiagonalGaussian(*parameters)
    return torch.stack([network(weights, inputs) for weights in _draws(posterior, draws, seed, step, sampler)])


def _draws(posterior: DiagonalGaussian, draws: int, seed: int, step: int, sampler: Sampler) -> Iterator[Tensor]:
    device = posterior.mu.device
    key, now = (torch.tensor(value, dtype=torch.int32, device=device) for value in (seed, step))
    for draw in range(draws):
        # Its eps is let go before the weights are used.
        yield sampler(posterior, key, now, torch.tensor(draw, dtype=torch.int32, device=device))[0]
