"""The regression task: a number in, a Gaussian out, judged on test points and drawn over a grid."""

import pandas as pd
import torch
from torch import Tensor

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.likelihoods import (
    Conditional,
    fixed_sigma,
    gaussian,
    log_mixture,
    mixture_coverage,
    mixture_quantile,
    predicted_sigma,
)
from bbbrun.bayes.methods import build_method, drawn
from bbbrun.bayes.networks import Network, build_network, layered
from bbbrun.bayes.predictive import network_outputs
from bbbrun.bayes.uncertainty import NumberMixture
from bbbrun.data.curve import curve_points
from bbbrun.data.layouts import ColumnsLayout
from bbbrun.schema.config import Config
from bbbrun.schema.datasets import RegressionCurveConfig
from bbbrun.schema.methods import NetworkConfig
from bbbrun.tasks.predictor import Predictor
from bbbrun.training.task import Column, Judgement, Predictions, Problem, Task

COLUMNS = (
    Column("test_rmse", "test RMSE"),
    Column("test_nll", "test nll", "nats per example"),
    Column("coverage_50", "test points in the central 50 %", "percent"),
)

QUANTILES = (5, 25, 50, 75, 95)  # percent, of the table of predictions


def conditional_gaussian(config: RegressionCurveConfig) -> tuple[Conditional, int]:
    """The map from outputs to the Gaussian of y given x and w, and the number of outputs that it takes."""
    if config.likelihood_sigma is not None:
        return fixed_sigma(config.likelihood_sigma), 1
    return predicted_sigma(config.sigma_scale, config.sigma_floor), 2


def on_unit_range(network: Network, low: float, high: float) -> Network:
    """The network applied to inputs mapped from [low, high] onto [-1, 1]."""
    apply, layers, middle, half = network.apply, network.layers, (low + high) / 2, (high - low) / 2
    if layers is None:
        return network._replace(apply=lambda weights, x: apply(weights, (x - middle) / half))
    return layered(network.shapes, lambda affine, x: layers(affine, (x - middle) / half), network.operations)


class NumberTable(NumberMixture):
    """The predictive of numbers as a table: mean, standard deviations and quantiles of the mixture of Gaussians."""

    def table(self, rows: slice) -> pd.DataFrame:
        predicted = self.prediction(rows, [percent / 100 for percent in QUANTILES])
        columns = {"mean": predicted.mean, "standard_deviation": predicted.total}
        columns |= {f"q{percent:02}": each for percent, each in zip(QUANTILES, predicted.quantiles.T, strict=True)}
        columns |= {"aleatoric": predicted.aleatoric, "epistemic": predicted.epistemic}
        return pd.DataFrame({name: column.numpy() for name, column in columns.items()})


def predictor(dataset: RegressionCurveConfig, options: NetworkConfig) -> Predictor:
    """The predictor of a network of these options, for y at x."""
    network, conditional = _network(dataset, options)
    return Predictor(network, ColumnsLayout(("x",)), 0, lambda outputs: conditional(outputs.double()), NumberTable)


def _network(dataset: RegressionCurveConfig, options: NetworkConfig) -> tuple[Network, Conditional]:
    conditional, outputs = conditional_gaussian(dataset)
    network = build_network(options, (1,), outputs)
    return on_unit_range(network, dataset.x_low, dataset.x_high) if dataset.scale_inputs else network, conditional


def regression_task(config: Config, device: torch.device) -> Task:
    """The task of the regression curve, with its points drawn from the seed."""
    dataset, method = config.dataset, build_method(config.method)
    assert isinstance(dataset, RegressionCurveConfig)
    train, test = (split.to(device) for split in curve_points(dataset, config.seed))
    grid = torch.linspace(dataset.grid_low, dataset.grid_high, dataset.grid_points, dtype=torch.float64)
    points = grid.unsqueeze(1).to(device, torch.float32)
    network, conditional = _network(dataset, config.network)

    def components(parameters: list[Tensor], inputs: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Means and sigmas (S, N) of the predictive mixture, float64; S = 1 where the weights are not random."""
        return conditional(network_outputs(network, drawn(method, network, parameters, draws), inputs).double())

    def evaluate(parameters: list[Tensor], draws: Draws) -> Judgement:
        means, sigmas = components(parameters, test.inputs, draws)
        y = test.labels.double()
        row = {
            "test_rmse": (means.mean(dim=0) - y).square().mean().sqrt().item(),
            "test_nll": -log_mixture(y, means, sigmas).mean().item(),
            "coverage_50": mixture_coverage(y, means, sigmas),
        }
        return Judgement(row, lambda: predictions(parameters, draws))

    def predictions(parameters: list[Tensor], draws: Draws) -> Predictions:
        means, sigmas = components(parameters, points, draws)
        columns = {
            "x": grid,
            "median": mixture_quantile(0.5, means, sigmas),
            "q25": mixture_quantile(0.25, means, sigmas),
            "q75": mixture_quantile(0.75, means, sigmas),
            "f_q25": means.quantile(0.25, dim=0),
            "f_q75": means.quantile(0.75, dim=0),
        }
        table = pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})
        return Predictions(table, (train.inputs[:, 0].cpu(), train.labels.cpu()))

    return Task(
        Problem(train.inputs, train.labels, network, gaussian(conditional)),
        COLUMNS,
        evaluate,
        shown=("test_rmse", "test_nll", "nll", "complexity"),
    )
