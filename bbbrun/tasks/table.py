"""The task of a table: a number or a class per row, judged in the target's own units, predicted from raw columns."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.likelihoods import Conditional, gaussian, log_mixture, mixture_coverage, predicted_sigma
from bbbrun.bayes.methods import build_method, drawn
from bbbrun.bayes.networks import Network, build_network, with_constant
from bbbrun.bayes.predictive import network_outputs
from bbbrun.data.images import Images, Split
from bbbrun.data.tables.form import Form, Target
from bbbrun.data.tables.load import Table
from bbbrun.data.tables.values import TableLayout
from bbbrun.schema.config import Config
from bbbrun.schema.methods import NetworkConfig
from bbbrun.schema.tables import Noise, TabularConfig
from bbbrun.tasks.classification import ClassTable, classification_task
from bbbrun.tasks.predictor import Predictor
from bbbrun.tasks.regression import COLUMNS as ON_TEST
from bbbrun.tasks.regression import NumberTable
from bbbrun.training.task import Column, Judgement, Problem, Task

COLUMNS = (
    *ON_TEST,
    Column("valid_rmse", "validation RMSE"),
    Column("valid_nll", "validation nll", "nats per example"),
)


def table_task(config: Config, table: Table) -> Task:
    """The task of training and judging the network on this table, on the table's device."""
    parts = (table.train, table.valid, table.test)
    classes = table.form.target.classes
    if classes:
        return classification_task(config, Images(*parts, len(classes)))
    return _regression(config, table.form, parts)


def _regression(config: Config, form: Form, parts: Sequence[Split]) -> Task:
    """Trained on the standardised target, to which nll and free energy refer; judged in the target's own units."""
    train, valid, test = parts
    dataset, method = config.dataset, build_method(config.method)
    assert isinstance(dataset, TabularConfig)
    network = _gaussian_network(dataset, config.network, form)
    conditional = predicted_sigma(1.0, dataset.sigma_floor)
    restored = _in_own_units(conditional, form.target)

    def evaluate(parameters: list[Tensor], draws: Draws) -> Judgement:
        inputs = torch.cat([valid.inputs, test.inputs])
        outputs = network_outputs(network, drawn(method, network, parameters, draws), inputs)
        means, sigmas = restored(outputs.double())
        y = form.target.mean + form.target.scale * torch.cat([valid.labels, test.labels]).double()
        squares, nll = (means.mean(dim=0) - y).square(), -log_mixture(y, means, sigmas)
        row: dict[str, float] = {}
        for name, rows in (("valid", slice(len(valid.labels))), ("test", slice(len(valid.labels), None))):
            if len(y[rows]):
                row |= {f"{name}_rmse": squares[rows].mean().sqrt().item(), f"{name}_nll": nll[rows].mean().item()}
        if len(test.labels):
            on_test = slice(len(valid.labels), None)
            row["coverage_50"] = mixture_coverage(y[on_test], means[:, on_test], sigmas[:, on_test])
        return Judgement(row)

    return Task(
        Problem(train.inputs, train.labels, network, gaussian(conditional)),
        COLUMNS,
        evaluate,
        shown=("test_rmse", "test_nll", "nll", "complexity"),
    )


def _gaussian_network(dataset: TabularConfig, options: NetworkConfig, form: Form) -> Network:
    """The network with two outputs, the parameters of a Gaussian: the second depends on the inputs or is one weight."""
    if dataset.noise is Noise.varying:
        return build_network(options, (form.width,), 2)
    return with_constant(build_network(options, (form.width,), 1))


def _in_own_units(conditional: Conditional, target: Target) -> Conditional:
    """The Gaussian of the target itself, from the `conditional` of the standardised target."""

    def restored(outputs: Tensor) -> tuple[Tensor, Tensor]:
        mean, sigma = conditional(outputs)
        return target.mean + target.scale * mean, target.scale * sigma

    return restored


def predictor(dataset: TabularConfig, options: NetworkConfig, form: Form) -> Predictor:
    """The predictor of a network of these options, for rows in the units of the table of `form`."""
    classes = form.target.classes
    layout = TableLayout(form)
    if classes:
        return Predictor(
            build_network(options, (form.width,), len(classes)),
            layout,
            len(classes),
            lambda outputs: [outputs],
            lambda rows, shares: ClassTable(rows, classes, shares),
            form.meaning,
        )
    restored = _in_own_units(predicted_sigma(1.0, dataset.sigma_floor), form.target)
    network = _gaussian_network(dataset, options, form)
    return Predictor(network, layout, 0, lambda outputs: restored(outputs.double()), NumberTable, form.meaning)


def about(form: Form) -> str:
    """How a table was read, in one line."""
    kinds = f"{len(form.features)} columns ({sum(bool(each.levels) for each in form.features)} of categories)"
    rows = " / ".join(f"{count:,}" for count in form.rows)
    classes = form.target.classes
    target = f"classification of {form.target.name!r}, {len(classes)} classes"
    if not classes:
        target = f"regression of {form.target.name!r}, mean {form.target.mean:.4g}, deviation {form.target.scale:.4g}"
    return f"table: {rows} rows to train, validate and test; {kinds}, {form.width} inputs; {target}"
