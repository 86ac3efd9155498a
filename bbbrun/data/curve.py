"""The paper's regression curve (section 5.2): its formula, and points of it drawn from the seed."""

import math

import torch
from torch import Tensor

from bbbrun.data.images import Split
from bbbrun.runtime.noise import Stream, standard_normal, uniform
from bbbrun.schema.datasets import RegressionCurveConfig

_NOISE_LEVELS = 2001  # equally probable values of the noise, over which quartiles are taken


def curve(x: Tensor, e: Tensor | float = 0.0) -> Tensor:
    """y = x + 0.3 sin(2 pi (x + e)) + 0.3 sin(4 pi (x + e)) + e; without noise e, the noiseless curve.

    Source: Blundell et al. 2015, section 5.2.
    """
    return x + 0.3 * torch.sin(2 * math.pi * (x + e)) + 0.3 * torch.sin(4 * math.pi * (x + e)) + e


def curve_quartiles(config: RegressionCurveConfig, x: Tensor) -> Tensor:
    """The quartiles (2, N) of y at each x (N,), over the noise e ~ N(0, noise_sigma^2), in double precision."""
    levels = (torch.arange(_NOISE_LEVELS, dtype=torch.float64) + 0.5) / _NOISE_LEVELS
    e = config.noise_sigma * torch.special.ndtri(levels)
    return curve(x.double().unsqueeze(1), e).quantile(torch.tensor([0.25, 0.75], dtype=torch.float64), dim=1)


def curve_points(config: RegressionCurveConfig, seed: int) -> tuple[Split, Split]:
    """Training and test points, inputs (N, 1) and values (N,), float32 on the CPU, a function of the seed.

    x is uniform on [x_low, x_high), e ~ N(0, noise_sigma^2); both splits are drawn alike.
    """

    def split(points: int, x_stream: Stream, noise_stream: Stream) -> Split:
        x = config.x_low + (config.x_high - config.x_low) * uniform(seed, 0, x_stream, points)
        e = config.noise_sigma * standard_normal(seed, 0, noise_stream, points)
        return Split(x.unsqueeze(1), curve(x, e))

    return (
        split(config.train_points, Stream.DATA, Stream.DATA_NOISE),
        split(config.test_points, Stream.TEST, Stream.TEST_NOISE),
    )
