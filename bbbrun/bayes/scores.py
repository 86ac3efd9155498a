"""What a prediction is judged by, out of predicted probabilities (N, K) and labels (N,)."""

import torch
from torch import Tensor


def error_percent(probabilities: Tensor, labels: Tensor) -> float:
    """The share of examples whose most probable class is wrong, percent."""
    return 100 * int((probabilities.argmax(dim=1) != labels).sum()) / len(labels)


def mean_nll(probabilities: Tensor, labels: Tensor) -> float:
    """The mean of -log p(label), nats per example; a probability of 0 counts as the smallest normal float."""
    chosen = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
    return -chosen.clamp_min(torch.finfo(chosen.dtype).tiny).double().log().mean().item()


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """sum_b n_b / N * abs(accuracy_b - confidence_b) over equal bins of confidence, percent.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3.
    """
    confidence, predicted = probabilities.double().max(dim=1)
    excess = confidence - (predicted == labels).double()
    index = (confidence * bins).long().clamp(0, bins - 1)
    sums = torch.zeros(bins, dtype=torch.float64, device=excess.device).index_add_(0, index, excess)
    return 100 * (sums.abs().sum() / len(labels)).item()
