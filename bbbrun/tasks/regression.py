"""The regression task: a number in, a Gaussian of its value out, judged on test points and drawn over a grid."""

from collections.abc import Callable

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from bbbrun.bayes.likelihoods import log_normal
from bbbrun.bayes.mixtures import log_mixture, mixture_quantile
from bbbrun.bayes.networks import Network, layered, mlp
from bbbrun.bayes.predictive import Sampler, network_outputs
from bbbrun.data.curve import curve_points
from bbbrun.schema.config import Config
from bbbrun.schema.datasets import RegressionCurveConfig
from bbbrun.training.trainer import Task

COLUMNS = ["test_rmse", "test_nll"]

Conditional = Callable[[Tensor], tuple[Tensor, Tensor]]  # outputs (..., K) -> mean (...), sigma (...)


def conditional_gaussian(config: RegressionCurveConfig) -> Conditional:
    """How outputs give the Gaussian of y given x and w.

    Two outputs (a, b): mean a, sigma = sigma_floor + sigma_scale * softplus(b). With likelihood_sigma set, one
    output: the mean.
    """

    def conditional(outputs: Tensor) -> tuple[Tensor, Tensor]:
        mean = outputs[..., 0]
        if config.likelihood_sigma is not None:
            return mean, torch.full_like(mean, config.likelihood_sigma)
        return mean, config.sigma_floor + config.sigma_scale * F.softplus(outputs[..., 1])

    return conditional


def on_unit_range(network: Network, low: float, high: float) -> Network:
    """The network behind the map of [low, high] onto [-1, 1]."""
    assert network.layers is not None
    layers, middle, half = network.layers, (low + high) / 2, (high - low) / 2
    return layered(network.shapes, lambda affine, x: layers(affine, (x - middle) / half))


def regression_task(config: Config, device: torch.device) -> Task:
    """Draw the points and say how the network is trained, judged and shown."""
    dataset = config.dataset
    assert isinstance(dataset, RegressionCurveConfig)
    train, test = (split.to(device) for split in curve_points(dataset, config.seed))
    grid = torch.linspace(dataset.grid_low, dataset.grid_high, dataset.grid_points, dtype=torch.float64)
    points = grid.unsqueeze(1).to(device, torch.float32)
    network = mlp(1, config.network.hidden, 2 if dataset.likelihood_sigma is None else 1)
    if dataset.scale_inputs:
        network = on_unit_range(network, dataset.x_low, dataset.x_high)
    conditional = conditional_gaussian(dataset)

    def nll(outputs: Tensor, y: Tensor) -> Tensor:
        return -log_normal(y, *conditional(outputs))

    def components(
        parameters: list[Tensor], inputs: Tensor, draws: int, step: int, sampler: Sampler
    ) -> tuple[Tensor, Tensor]:
        """Means and sigmas (S, N) of the predictive mixture, float64; S = 1 where the weights are not random."""
        return conditional(network_outputs(network, parameters, inputs, draws, config.seed, step, sampler).double())

    def evaluate(parameters: list[Tensor], draws: int, step: int, sampler: Sampler) -> dict[str, float]:
        means, sigmas = components(parameters, test.inputs, draws, step, sampler)
        y = test.labels.double()
        return {
            "test_rmse": (means.mean(dim=0) - y).square().mean().sqrt().item(),
            "test_nll": -log_mixture(y, means, sigmas).mean().item(),
        }

    def predictions(parameters: list[Tensor], draws: int, step: int, sampler: Sampler) -> pd.DataFrame:
        means, sigmas = components(parameters, points, draws, step, sampler)
        columns = {
            "x": grid,
            "median": mixture_quantile(0.5, means, sigmas),
            "q25": mixture_quantile(0.25, means, sigmas),
            "q75": mixture_quantile(0.75, means, sigmas),
            "f_q25": means.quantile(0.25, dim=0),
            "f_q75": means.quantile(0.75, dim=0),
        }
        return pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})

    shown = ["test_rmse", "test_nll", "nll", "complexity"]
    return Task(train.inputs, train.labels, network, nll, COLUMNS, evaluate, shown, predictions)
