"""The classification task: images in, class probabilities out, judged on validation and test images."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bbbrun.bayes.networks import mlp
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.predictive import Sampler, class_probabilities, posterior_predictive
from bbbrun.bayes.scores import error_percent, expected_calibration_error, mean_nll
from bbbrun.data.images import Images, Split
from bbbrun.schema.config import Config
from bbbrun.training.trainer import Task

COLUMNS = [
    "valid_error",
    "test_error",
    "test_error_mean",
    "test_nll",
    "test_ece",
    "valid_error_mean",
    "valid_nll",
]


def categorical_nll(outputs: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(outputs)[label] of each example (B,), nats, for outputs (B, K) and labels (B,)."""
    return F.cross_entropy(outputs, labels, reduction="none")


def classification_task(config: Config, images: Images) -> Task:
    """Say how the network is trained and judged on these images."""
    network = mlp(images.train.inputs.shape[1], config.network.hidden, images.classes)
    held_out = torch.cat([images.valid.inputs, images.test.inputs])

    def evaluate(parameters: list[Tensor], draws: int, step: int, sampler: Sampler) -> dict[str, float]:
        # For Bayes by Backprop parameters[0] is mu: this is the prediction with w = mu.
        plain = class_probabilities(network, parameters[0], held_out)
        if len(parameters) == 1:
            return _judge(plain, images.valid, images.test)
        posterior = DiagonalGaussian(*parameters)
        predictive = posterior_predictive(network, posterior, held_out, draws, config.seed, step, sampler)
        at_mean = _judge(plain, images.valid, images.test)
        means = {f"{name}_mean": at_mean[name] for name in ("test_error", "valid_error") if name in at_mean}
        return _judge(predictive, images.valid, images.test) | means

    shown = ["test_error", "valid_error", "nll", "complexity"]
    train = images.train
    chance = 100 * (1 - (train.labels.bincount().max() / len(train.labels)).item())
    return Task(train.inputs, train.labels, network, categorical_nll, COLUMNS, evaluate, shown, chance=chance)


def _judge(probabilities: Tensor, valid: Split, test: Split) -> dict[str, float]:
    on_valid, on_test = probabilities.split([len(valid.labels), len(test.labels)])
    row = {
        "test_error": error_percent(on_test, test.labels),
        "test_nll": mean_nll(on_test, test.labels),
        "test_ece": expected_calibration_error(on_test, test.labels),
    }
    if len(valid.labels):
        row |= {
            "valid_error": error_percent(on_valid, valid.labels),
            "valid_nll": mean_nll(on_valid, valid.labels),
        }
    return row
