"""The uncertainty of a prediction in two parts: noise that data cannot reduce, and what more data would reduce.

The predictive is a mixture over draws of the weights, and over runs where there are several. Draw number s counts in
proportion to shares[s].
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bbbrun.bayes.likelihoods import log_mixture, mixture_quantile


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
    """The predictive mixture's mean (N,), its quantiles (N, Q), and standard deviations (N,).

    total^2 = aleatoric^2 + epistemic^2. aleatoric: root of the mean of the draws' variances. epistemic: deviation of
    the draws' means.
    """

    mean: Tensor
    quantiles: Tensor
    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


def entropy(probabilities: Tensor) -> Tensor:
    """-sum_k p_k log p_k, nats (N,), for probabilities (N, K)."""
    total: Tensor = torch.special.entr(probabilities).sum(dim=-1)
    return total


def class_prediction(probabilities: Tensor, aleatoric: Tensor) -> ClassPrediction:
    """The prediction of a predictive (N, K) and the mean entropy of its draws (N,)."""
    total = entropy(probabilities)
    # A mean of entropies is at most the entropy of the mean: a value below 0 is rounding.
    return ClassPrediction(probabilities, total, aleatoric, (total - aleatoric).clamp_min(0))


class ClassMixture:
    """Sums up the draws of N examples' class probabilities (N, K), in place, a block of rows at a time.

    In double precision: the epistemic part is a small difference of entropies.
    """

    def __init__(self, rows: int, classes: int, shares: Sequence[float]) -> None:
        self._shares = shares
        self._probabilities = torch.zeros(rows, classes, dtype=torch.float64)
        self._entropies = torch.zeros(rows, dtype=torch.float64)

    def add(self, rows: slice, draw: int, components: Sequence[Tensor]) -> None:
        """Add the logits (B, K), the only component, of draw number `draw` for these rows."""
        [outputs] = components
        probabilities = outputs.double().softmax(dim=1)
        self._probabilities[rows].add_(probabilities, alpha=self._shares[draw])
        self._entropies[rows].add_(entropy(probabilities), alpha=self._shares[draw])

    def prediction(self, rows: slice) -> ClassPrediction:
        """The mixture over all draws for these rows."""
        total = sum(self._shares)
        return class_prediction(self._probabilities[rows] / total, self._entropies[rows] / total)


class NumberMixture:
    """Collects the Gaussians of N examples under S draws of the weights, (S, N), a block of rows at a time."""

    def __init__(self, rows: int, shares: Sequence[float]) -> None:
        self._shares = torch.tensor(shares, dtype=torch.float64) / sum(shares)
        self._means = torch.empty(len(shares), rows, dtype=torch.float64)
        self._sigmas = torch.empty(len(shares), rows, dtype=torch.float64)

    def add(self, rows: slice, draw: int, components: Sequence[Tensor]) -> None:
        """Add the means and sigmas (B,) of draw number `draw` for these rows."""
        self._means[draw, rows], self._sigmas[draw, rows] = components

    def components(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Means and sigmas (S, B) of these rows, and the shares (S,), which sum to 1."""
        return self._means[:, rows], self._sigmas[:, rows], self._shares

    def log_density(self, rows: slice, y: Tensor) -> Tensor:
        """log of the predictive density at y (B,) of these rows, nats (B,)."""
        means, sigmas, shares = self.components(rows)
        return log_mixture(y, means, sigmas, shares)

    def prediction(self, rows: slice, probabilities: Sequence[float]) -> NumberPrediction:
        """The mixture over all draws for these rows, and its quantiles at these probabilities."""
        means, sigmas, shares = self.components(rows)
        mean = shares @ means
        aleatoric = shares @ sigmas.square()
        epistemic = shares @ (means - mean).square()
        deviations = ((aleatoric + epistemic).sqrt(), aleatoric.sqrt(), epistemic.sqrt())
        quantiles = [mixture_quantile(probability, means, sigmas, shares) for probability in probabilities]
        return NumberPrediction(mean, torch.stack(quantiles, dim=1), *deviations)
