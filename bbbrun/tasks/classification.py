"""The classification task: images in, class probabilities out, judged on validation and test images."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.likelihoods import categorical
from bbbrun.bayes.methods import build_method, drawn
from bbbrun.bayes.networks import build_network
from bbbrun.bayes.predictive import class_probabilities, posterior_predictive
from bbbrun.bayes.scores import error_percent, expected_calibration_error, mean_nll
from bbbrun.bayes.uncertainty import predict_classes
from bbbrun.data.images import IMAGES, Images, Split
from bbbrun.schema.config import Config
from bbbrun.schema.datasets import ImageDatasetConfig
from bbbrun.schema.methods import NetworkConfig
from bbbrun.training.task import Column, Predictor, Problem, Task

COLUMNS = (
    Column("valid_error", "validation error", "percent", True),
    Column("test_error", "test error", "percent", True),
    Column("test_error_mean", "test error, w = mu", "percent", True),
    Column("test_nll", "test nll", "nats per example", True),
    Column("test_ece", "expected calibration error", "percent", True),
    Column("valid_error_mean", "validation error, w = mu", "percent", True),
    Column("valid_nll", "validation nll", "nats per example", True),
)


def classification_task(config: Config, images: Images) -> Task:
    """Say how the network is trained and judged on these images."""
    train, method = images.train, build_method(config.method)
    network = build_network(config.network, train.inputs.shape[1:], images.classes)
    held_out = torch.cat([images.valid.inputs, images.test.inputs])

    def evaluate(parameters: list[Tensor], draws: Draws) -> dict[str, float]:
        predictive = posterior_predictive(network, drawn(method, network, parameters, draws), held_out)
        row = _judge(predictive, images.valid, images.test)
        mean = method.mean(parameters)
        if mean is not None:
            at_mean = _judge(class_probabilities(network, mean, held_out), images.valid, images.test)
            row |= {f"{name}_mean": at_mean[name] for name in ("test_error", "valid_error") if name in at_mean}
        return row

    chance = 100 * (1 - (train.labels.bincount().max() / len(train.labels)).item())
    return Task(
        Problem(train.inputs, train.labels, network, categorical),
        COLUMNS,
        evaluate,
        shown=("test_error", "valid_error", "nll", "complexity"),
        chance=chance,
    )


def predictor(dataset: ImageDatasetConfig, options: NetworkConfig) -> Predictor:
    """Class probabilities of images (N, H, W) in pixel values, by a network of these options."""
    shape = IMAGES[dataset.name].shape
    network = build_network(options, shape, IMAGES[dataset.name].classes)

    def predict(draws: Iterable[Tensor], inputs: ArrayLike) -> pd.DataFrame:
        pixels = torch.as_tensor(np.asarray(inputs, dtype=np.float32))
        if pixels[0].numel() != math.prod(shape) or not pixels.isfinite().all():
            raise ValueError(f"inputs must be images (N, {shape[1]}, {shape[2]}) of finite pixels, not {pixels.shape}")
        predicted = predict_classes(network, draws, pixels.view(-1, *shape) / dataset.pixel_divisor)
        probability, label = predicted.probabilities.max(dim=1)
        columns = {"class": label, "probability": probability}
        columns |= {f"p{k}": column for k, column in enumerate(predicted.probabilities.unbind(1))}
        columns |= {name: getattr(predicted, name) for name in ("total", "aleatoric", "epistemic")}
        return pd.DataFrame({name: column.numpy() for name, column in columns.items()})

    return Predictor(network, predict)


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
