"""The kinds of task, by data set: how a run of each is prepared and played to its end."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from bbbrun.bayes.methods import build_method
from bbbrun.data.images import load_images
from bbbrun.errors import UserError
from bbbrun.runs.writer import RunFolder
from bbbrun.schema.config import Config, option
from bbbrun.schema.datasets import BanditDatasetConfig, DatasetConfig, ImageDatasetConfig, RegressionCurveConfig
from bbbrun.schema.methods import NetworkConfig
from bbbrun.tasks import bandit, classification, regression
from bbbrun.tasks.agent import agent_network
from bbbrun.tasks.classification import classification_task
from bbbrun.tasks.regression import regression_task
from bbbrun.training.loop import columns, fit
from bbbrun.training.session import Outcome
from bbbrun.training.task import EPOCHS, Column, Predictor, Task


class Prepared(NamedTuple):
    """A run whose data are there: the columns of its metrics.csv, and what plays it, one folder a replica."""

    columns: tuple[Column, ...]
    play: Callable[[list[RunFolder]], list[Outcome]]


# Data are read before a run has its folder, so that what is missing leaves none: (configurations, device) -> run
Prepare = Callable[[list[Config], torch.device], Prepared]


def _by_epochs(configs: list[Config], tasks: list[Task], device: torch.device) -> Prepared:
    build_method(configs[0].method).require_trainable(tasks[0].problem.network)
    return Prepared(columns(tasks[0]), lambda runs: fit(configs, tasks, runs, device))


def _images(configs: list[Config], device: torch.device) -> Prepared:
    images = load_images(configs[0].dataset, device)
    return _by_epochs(configs, [classification_task(config, images) for config in configs], device)


def _curve(configs: list[Config], device: torch.device) -> Prepared:
    return _by_epochs(configs, [regression_task(config, device) for config in configs], device)


def _bandit(configs: list[Config], device: torch.device) -> Prepared:
    [config] = configs
    contexts = bandit.bandit_of(config)
    build_method(config.method).require_trainable(agent_network(config, contexts))
    return Prepared(bandit.COLUMNS, lambda runs: [bandit.play(config, contexts, runs[0], device)])


class Kind(NamedTuple):
    """prepare: how a run is made. predictor: (options of its data set and network) -> what predicts with its weights.

    None where predictions are not of inputs: a bandit's network judges actions.
    """

    prepare: Prepare
    predictor: Callable[[Any, NetworkConfig], Predictor] | None


_KINDS: dict[type[DatasetConfig], Kind] = {
    ImageDatasetConfig: Kind(_images, classification.predictor),
    RegressionCurveConfig: Kind(_curve, regression.predictor),
    BanditDatasetConfig: Kind(_bandit, None),
}


def _kind(dataset: Any) -> Kind:
    [kind] = [kind for options, kind in _KINDS.items() if isinstance(dataset, options)]
    return kind


# Every column of any metrics.csv, by name: where figures and tables read labels from.
COLUMNS: dict[str, Column] = {
    column.name: column for column in (*EPOCHS, *classification.COLUMNS, *regression.COLUMNS, *bandit.COLUMNS)
}


def predictor(config: dict[str, Any]) -> Predictor:
    """How the network of a run of this recorded configuration predicts; its data need not be there.

    Raises UserError for a bandit, whose network judges actions.
    """
    dataset, network = option("dataset", config["dataset"]), option("network", config["network"])
    build = _kind(dataset).predictor
    if build is None:
        raise UserError(f"dataset={dataset.name}: predictions are of images and of regressions")
    return build(dataset, network)


def prepare(configs: list[Config], device: torch.device) -> Prepared:
    """Read the data of a run, or of its replicas, and say how it is played.

    Raises UserError where data are missing or wrong, and where the method cannot train the network.
    """
    return _kind(configs[0].dataset).prepare(configs, device)
