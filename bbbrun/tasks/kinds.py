"""The kinds of task, by data set: how a run of each is prepared and carried out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from bbbrun.bayes.methods import build_method
from bbbrun.bayes.modules import require_function
from bbbrun.bayes.networks import starting_weights
from bbbrun.data.images import load_images
from bbbrun.data.tables.form import Form, form_of, text_of
from bbbrun.data.tables.load import load_table
from bbbrun.errors import UserError, line_of
from bbbrun.runs.files import INPUTS
from bbbrun.runs.reader import Run
from bbbrun.runs.writer import RunFolder
from bbbrun.schema.config import Config
from bbbrun.schema.datasets import BanditDatasetConfig, DatasetConfig, ImageDatasetConfig, RegressionCurveConfig
from bbbrun.schema.methods import ModuleConfig, NetworkConfig
from bbbrun.schema.tables import TabularConfig
from bbbrun.tasks import bandit, classification, regression, table
from bbbrun.tasks.agent import agent_network
from bbbrun.tasks.classification import classification_task
from bbbrun.tasks.predictor import Predictor
from bbbrun.tasks.regression import regression_task
from bbbrun.training.loop import columns, fit
from bbbrun.training.session import Outcome
from bbbrun.training.task import EPOCHS, Column, Task


class Prepared(NamedTuple):
    """A run whose data are loaded: the columns of its metrics.csv, and a function that runs it, one folder per replica.

    inputs: the text of inputs.json of each replica. about: lines for the user.
    """

    columns: tuple[Column, ...]
    play: Callable[[list[RunFolder]], list[Outcome]]
    inputs: tuple[str, ...] = ()
    about: tuple[str, ...] = ()


# Data are read before a run has its folder, so that missing data leave no folder: (configurations, device) -> run
Prepare = Callable[[list[Config], torch.device], Prepared]


def _by_epochs(configs: list[Config], tasks: list[Task], device: torch.device) -> Prepared:
    problem, options = tasks[0].problem, configs[0].network
    build_method(configs[0].method).require_trainable(problem.network)
    if isinstance(options, ModuleConfig):
        weights = starting_weights(problem.network, options, configs[0].seed).to(device)
        try:
            require_function(problem.network, weights, problem.inputs)
        except (Exception, SystemExit) as error:
            raise UserError(f"network.target={options.target}: {line_of(error)}") from error
    return Prepared(columns(tasks[0]), lambda runs: fit(configs, tasks, runs, device))


def _images(configs: list[Config], device: torch.device) -> Prepared:
    images = load_images(configs[0].dataset, device)
    return _by_epochs(configs, [classification_task(config, images) for config in configs], device)


def _curve(configs: list[Config], device: torch.device) -> Prepared:
    return _by_epochs(configs, [regression_task(config, device) for config in configs], device)


def _table(configs: list[Config], device: torch.device) -> Prepared:
    # Replicas of one split share its tensors.
    tables = {repr(config.dataset): config.dataset for config in configs}
    loaded = {key: load_table(dataset).to(device) for key, dataset in tables.items()}
    per_run = [loaded[repr(config.dataset)] for config in configs]
    tasks = [table.table_task(config, each) for config, each in zip(configs, per_run, strict=True)]
    lines = (table.about(per_run[0].form),)
    return _by_epochs(configs, tasks, device)._replace(
        inputs=tuple(text_of(each.form) for each in per_run), about=lines
    )


def _bandit(configs: list[Config], device: torch.device) -> Prepared:
    [config] = configs
    contexts = bandit.bandit_of(config)
    build_method(config.method).require_trainable(agent_network(config, contexts))
    return Prepared(bandit.COLUMNS, lambda runs: [bandit.play(config, contexts, runs[0], device)])


class Kind(NamedTuple):
    """prepare: makes a run. predictor: (options of its data set and network, run) -> its Predictor.

    None where predictions are not of inputs: a bandit's network judges actions.
    """

    prepare: Prepare
    predictor: Callable[[Any, NetworkConfig, Run], Predictor] | None


_KINDS: dict[type[DatasetConfig], Kind] = {
    ImageDatasetConfig: Kind(_images, lambda dataset, network, run: classification.predictor(dataset, network)),
    RegressionCurveConfig: Kind(_curve, lambda dataset, network, run: regression.predictor(dataset, network)),
    TabularConfig: Kind(_table, lambda dataset, network, run: table.predictor(dataset, network, form_in(run))),
    BanditDatasetConfig: Kind(_bandit, None),
}


def _kind(dataset: Any) -> Kind:
    [kind] = [kind for options, kind in _KINDS.items() if isinstance(dataset, options)]
    return kind


# Every column of any metrics.csv, by name, for the labels of figures and tables.
COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (*EPOCHS, *classification.COLUMNS, *regression.COLUMNS, *table.COLUMNS, *bandit.COLUMNS)
}


def form_in(run: Run) -> Form:
    """The form of the table that a run learnt; raises UserError where it cannot be read."""
    return form_of(run.inputs(), str(run.folder / INPUTS))


def predictor(run: Run) -> Predictor:
    """The predictor of a run's network, from its record alone, without its data.

    Raises UserError for a bandit, whose network judges actions.
    """
    dataset, network = run.options("dataset"), run.network()
    build = _kind(dataset).predictor
    if build is None:
        raise UserError(f"dataset={dataset.name}: its network judges actions; name runs of images, curves or tables")
    return build(dataset, network, run)


def prepare(configs: list[Config], device: torch.device) -> Prepared:
    """Read the data of a run, or of its replicas, and prepare it.

    Raises UserError where data are missing or wrong, and where the method cannot train the network.
    """
    return _kind(configs[0].dataset).prepare(configs, device)
