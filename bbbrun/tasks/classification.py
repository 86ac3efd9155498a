"""The classification task: images in, class probabilities out, judged on validation and test images."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.likelihoods import categorical
from bbbrun.bayes.methods import build_method, drawn
from bbbrun.bayes.networks import build_network
from bbbrun.bayes.predictive import class_probabilities, posterior_predictive
from bbbrun.bayes.scores import error_percent, expected_calibration_error, mean_nll
from bbbrun.bayes.uncertainty import ClassMixture
from bbbrun.data.images import IMAGES, Images, Split
from bbbrun.data.layouts import ImageLayout
from bbbrun.schema.config import Config
from bbbrun.schema.datasets import ImageDatasetConfig
from bbbrun.schema.methods import NetworkConfig
from bbbrun.tasks.predictor import Predictor
from bbbrun.training.task import Column, Judgement, Predictions, Problem, Task

COLUMNS = (
    Column("valid_error", "validation error", "percent"),
    Column("test_error", "test error", "percent"),
    Column("test_error_mean", "test error, w = mu", "percent"),
    Column("test_nll", "test nll", "nats per example"),
    Column("test_ece", "expected calibration error", "percent"),
    Column("valid_error_mean", "validation error, w = mu", "percent"),
    Column("valid_nll", "validation nll", "nats per example"),
)


def classification_task(config: Config, images: Images) -> Task:
    """The task of training and judging the network on these images."""
    train, method = images.train, build_method(config.method)
    network = build_network(config.network, train.inputs.shape[1:], images.classes)
    held_out = torch.cat([images.valid.inputs, images.test.inputs])

    def evaluate(parameters: list[Tensor], draws: Draws) -> Judgement:
        predictive = posterior_predictive(network, drawn(method, network, parameters, draws), held_out)
        row = _judge(predictive, images.valid, images.test)
        mean = method.mean(parameters)
        if mean is not None:
            at_mean = _judge(class_probabilities(network, mean, held_out), images.valid, images.test)
            row |= {f"{name}_mean": at_mean[name] for name in ("test_error", "valid_error") if name in at_mean}
        on_test = predictive[len(images.valid.labels) :]
        return Judgement(row, (lambda: Predictions(_each_image(on_test, images.test.labels))) if len(on_test) else None)

    chance = 100 * (1 - (train.labels.bincount().max() / len(train.labels)).item())
    return Task(
        Problem(train.inputs, train.labels, network, categorical),
        COLUMNS,
        evaluate,
        shown=("test_error", "valid_error", "nll", "complexity"),
        chance=chance,
    )


def _each_image(probabilities: Tensor, labels: Tensor) -> pd.DataFrame:
    """A row for each test image, so that two networks can be compared image by image.

    label: the true class. class: the predicted one. probability: that of the true class, to four digits.
    """
    of_label = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
    columns = {"label": labels, "class": probabilities.argmax(dim=1)}
    table = pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})
    return table.assign(probability=[f"{number:.4g}" for number in of_label.tolist()])


class ClassTable(ClassMixture):
    """The predictive of classes as a table: the class, its probability, all of them, and the uncertainty in nats.

    labels: the names of the classes, numbers or texts.
    """

    def __init__(self, rows: int, labels: Sequence[Any], shares: Sequence[float]) -> None:
        super().__init__(rows, len(labels), shares)
        self._labels = labels

    def table(self, rows: slice) -> pd.DataFrame:
        predicted = self.prediction(rows)
        probability, chosen = predicted.probabilities.max(dim=1)
        texts = any(isinstance(label, str) for label in self._labels)
        names = [f"p_{label}" if texts else f"p{label}" for label in self._labels]
        columns = {"probability": probability} | dict(zip(names, predicted.probabilities.unbind(1), strict=True))
        columns |= {name: getattr(predicted, name) for name in ("total", "aleatoric", "epistemic")}
        table = pd.DataFrame({name: column.numpy() for name, column in columns.items()})
        labels: Any = pd.Series(self._labels, dtype="string" if texts else "int64")
        table.insert(0, "class", labels.iloc[chosen.numpy()].array)
        return table


def predictor(dataset: ImageDatasetConfig, options: NetworkConfig) -> Predictor:
    """The predictor of a network of these options, for the classes of images in pixel values."""
    shape, classes, _, brightest = IMAGES[dataset.name]
    layout = ImageLayout(shape, dataset.pixel_divisor, brightest)
    return Predictor(
        build_network(options, shape, classes),
        layout,
        classes,
        lambda outputs: [outputs],
        lambda rows, shares: ClassTable(rows, range(classes), shares),
    )


def _judge(probabilities: Tensor, valid: Split, test: Split) -> dict[str, float]:
    on_valid, on_test = probabilities.split([len(valid.labels), len(test.labels)])
    row: dict[str, float] = {}
    if len(test.labels):
        row |= {
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
