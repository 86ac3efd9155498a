"""Pruning by signal-to-noise (paper, section 5.1): the weights of lowest abs(mu) / sigma set to zero."""

import torch
from torch import Tensor

from bbbrun.bayes.posterior import DiagonalGaussian


def pruning_mask(posterior: DiagonalGaussian, percent: float) -> Tensor:
    """1.0 for each weight that stays and 0.0 for the `percent` of lowest signal-to-noise, (P,).

    A removed weight is zero itself, in mean and in variance: w * mask, not rho = 0, which would be a sigma of 0.69.
    """
    ratio = posterior.signal_to_noise()
    mask = torch.ones_like(ratio)
    mask[ratio.argsort(stable=True)[: round(len(ratio) * percent / 100)]] = 0
    return mask


def decibels(posterior: DiagonalGaussian) -> Tensor:
    """10 log10(abs(mu) / sigma) of each weight (P,); near the axis of the paper's Figure 4."""
    return 10 * torch.log10(posterior.signal_to_noise().double())
