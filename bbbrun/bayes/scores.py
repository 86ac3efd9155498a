"""Scores of predictions: predicted probabilities (N, K) against labels (N,), or detection of foreign inputs."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def error_percent(probabilities: Tensor, labels: Tensor) -> float:
    """The share of examples whose most probable class is wrong, percent."""
    return 100 * int((probabilities.argmax(dim=1) != labels).sum()) / len(labels)


def mean_nll(probabilities: Tensor, labels: Tensor) -> float:
    """The mean of -log p(label), nats per example; a probability of 0 counts as the smallest normal float."""
    chosen = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
    return -chosen.clamp_min(torch.finfo(chosen.dtype).tiny).double().log().mean().item()


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """The mean of sum_k (p_k - [label = k])^2, from 0 to 2.

    Source: Brier, "Verification of forecasts expressed in terms of probability", 1950.
    """
    certain = torch.nn.functional.one_hot(labels, probabilities.shape[1])
    return (probabilities.double() - certain).square().sum(dim=1).mean().item()


def expected_calibration_error(
    probabilities: Tensor, labels: Tensor, bins: int = 15, equal_mass: bool = False
) -> float:
    """sum_b n_b / N * abs(accuracy_b - confidence_b) over bins of confidence, percent.

    The bins are equally wide, or with equal_mass hold equally many examples, by the order of their confidence.
    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3; equal mass: Nixon et al.,
    "Measuring calibration in deep learning", 2019.
    """
    confidence, predicted = probabilities.double().max(dim=1)
    excess = confidence - (predicted == labels).double()
    if equal_mass:
        rank = torch.empty_like(predicted)
        rank[confidence.argsort(stable=True)] = torch.arange(len(labels), device=rank.device)
        index = rank * bins // len(labels)
    else:
        index = (confidence * bins).long().clamp(0, bins - 1)
    sums = torch.zeros(bins, dtype=torch.float64, device=excess.device).index_add_(0, index, excess)
    return 100 * (sums.abs().sum() / len(labels)).item()


def risk_by_coverage(confidence: Tensor, wrong: Tensor) -> Tensor:
    """The share of wrong predictions among the k most confident, k = 1 .. N, (N,): the risk of abstaining on the rest.

    Equally confident predictions each count with their mean error, whatever their order in the file.
    Source: El-Yaniv and Wiener, "On the foundations of noise-free selective classification", 2010.
    """
    levels, group, size = confidence.unique(return_inverse=True, return_counts=True)
    average = torch.zeros(len(levels), dtype=torch.float64).index_add_(0, group, wrong.double()) / size
    ordered = average[group[confidence.argsort(descending=True, stable=True)]]
    risk: Tensor = ordered.cumsum(0) / torch.arange(1, len(ordered) + 1)
    return risk


def coverage_at_risk(risk: Tensor, most: float) -> float:
    """The largest share of the inputs, percent, of which at most `most` (a share) are wrong; of `risk_by_coverage`."""
    within = (risk <= most + 1e-12).nonzero()
    return 100 * (int(within[-1]) + 1) / len(risk) if len(within) else 0.0


class Detection(NamedTuple):
    """How well a score separates foreign inputs, for which it should be higher, from the test set; from 0 to 1.

    auroc: the chance that a foreign input has a higher score than a test input. aupr: average precision, foreign inputs
    positive. fpr95: the share of the test set detected as foreign at the threshold that detects 95 % of foreign inputs.
    """

    auroc: float
    aupr: float
    fpr95: float


def detection(of_test: NDArray[np.float64], of_foreign: NDArray[np.float64]) -> Detection:
    """The `Detection` from scores of the test set's inputs (N,) and of foreign ones (M,), by scikit-learn."""
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    values = np.concatenate([of_test, of_foreign])
    foreign = np.repeat([0, 1], [len(of_test), len(of_foreign)])
    false_positive, true_positive, _ = roc_curve(foreign, values, drop_intermediate=False)
    fpr95 = float(false_positive[np.argmax(true_positive >= 0.95)])
    return Detection(float(roc_auc_score(foreign, values)), float(average_precision_score(foreign, values)), fpr95)
