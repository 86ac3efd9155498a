"""Predictions: the posterior predictive, a mean of PROBABILITIES over draws of the weights (paper, section 3)."""

from collections.abc import Iterable

import torch
from torch import Tensor

from bbbrun.bayes.networks import Network

# Examples in one forward pass. On a CPU the activations of a 1200-unit layer then take 5 MB, and more gain little. On a
# GPU each pass waits for some ten launches.
_CHUNK, _CHUNK_CUDA = 1000, 10_000


@torch.no_grad()
def class_probabilities(network: Network, weights: Tensor, inputs: Tensor) -> Tensor:
    """softmax of the network's outputs (N, K) for flat weights (P,) and inputs (N, ...)."""
    size = _CHUNK_CUDA if inputs.is_cuda else _CHUNK
    chunks = [network.predict(weights, chunk).softmax(dim=1) for chunk in inputs.split(size)]
    return torch.cat(chunks)


@torch.no_grad()
def posterior_predictive(network: Network, draws: Iterable[Tensor], inputs: Tensor) -> Tensor:
    """P(y given x, D) = the mean over draws w (P,) of softmax(network(w, x)), (N, K).

    Source: Blundell et al. 2015, section 3.
    """
    total: Tensor | float = 0.0
    count = 0
    for weights in draws:
        total = total + class_probabilities(network, weights, inputs)
        count += 1
    assert isinstance(total, Tensor)
    return total / count


@torch.no_grad()
def network_outputs(network: Network, draws: Iterable[Tensor], inputs: Tensor) -> Tensor:
    """network(w, x) of each of S draws w (P,), (S, N, K)."""
    return torch.stack([network(weights, inputs) for weights in draws])
