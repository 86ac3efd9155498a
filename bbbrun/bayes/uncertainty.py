"""What a prediction does not know, split in two: what data will always leave open, and what more data would settle."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from bbbrun.bayes.networks import Network
from bbbrun.bayes.predictive import class_probabilities


class ClassPrediction(NamedTuple):
    """The posterior predictive (N, K), and per example (N,) in nats the entropies it is split into.

    total: entropy of the predictive. aleatoric: mean over draws of each draw's entropy. epistemic: their difference,
    the mutual information of class and weights. Source: Depeweg et al., "Decomposition of uncertainty in Bayesian deep
    learning for efficient and risk-sensitive learning", ICML 2018.
    """

    probabilities: Tensor
    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


class NumberPrediction(NamedTuple):
    """The predictive mixture's mean (N,) and its standard deviations (N,): total^2 = aleatoric^2 + epistemic^2.

    aleatoric: root of the mean of the draws' variances. epistemic: deviation of the draws' means.
    """

    mean: Tensor
    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


def entropy(probabilities: Tensor) -> Tensor:
    """-sum_k p_k log p_k, nats (N,), for probabilities (N, K)."""
    total: Tensor = torch.special.entr(probabilities).sum(dim=-1)
    return total


@torch.no_grad()
def predict_classes(network: Network, draws: Iterable[Tensor], inputs: Tensor) -> ClassPrediction:
    """The posterior predictive of inputs (N, ...) over the draws (P,) of the weights, and its uncertainty."""
    # Double precision: the epistemic part is a small difference of entropies.
    total = torch.zeros((), dtype=torch.float64)
    entropies, count = torch.zeros((), dtype=torch.float64), 0
    for weights in draws:
        probabilities = class_probabilities(network, weights, inputs).double()
        total, entropies, count = total + probabilities, entropies + entropy(probabilities), count + 1
    predictive, aleatoric = total / count, entropies / count
    all_of_it = entropy(predictive)
    return ClassPrediction(predictive, all_of_it, aleatoric, all_of_it - aleatoric)


def predict_numbers(means: Tensor, sigmas: Tensor) -> NumberPrediction:
    """The moments of the equal mixture of the draws' Gaussians, for means and sigmas (S, N), float64."""
    aleatoric = sigmas.square().mean(dim=0)
    epistemic = means.var(dim=0, correction=0)
    parts = ((aleatoric + epistemic).sqrt(), aleatoric.sqrt(), epistemic.sqrt())
    return NumberPrediction(means.mean(dim=0), *parts)
