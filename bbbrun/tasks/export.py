"""A trained network for use without bbbrun: as a plain torch.nn module, with the lines that load it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bbbrun.bayes.draws import BlockSampler, Draws
from bbbrun.bayes.methods import BayesByBackprop, build_method
from bbbrun.bayes.modules import made_module
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.pruning import pruning_mask
from bbbrun.data.tables.form import Form
from bbbrun.errors import UserError
from bbbrun.runs.reader import Run
from bbbrun.schema.datasets import ImageDatasetConfig, RegressionCurveConfig
from bbbrun.schema.methods import ModuleConfig
from bbbrun.schema.tables import Noise, TabularConfig
from bbbrun.tasks.evaluation_sets import parts_of
from bbbrun.tasks.kinds import form_in, predictor
from bbbrun.tasks.prediction import parameters_of

HEADER = "# Written by bbbrun export."


class Usage(NamedTuple):
    """How inputs in raw units become the module's, (inputs - shift) / scale, and its names in code.

    Lists have a number for each column of the inputs. result: a name for its outputs. comment: describes inputs and
    outputs.
    """

    shift: float | list[float]
    scale: float | list[float]
    inputs: str
    result: str
    comment: str


class Exported(NamedTuple):
    """A module, and the lines that make it again from the file NAME.

    code: the lines that make the module without its weights.
    """

    module: nn.Module
    usage: Usage
    shape: tuple[int, ...]
    code: list[str]

    def lines(self, name: str) -> list[str]:
        """The Python lines that load the state dict in the file `name` and call the module."""
        return [
            "import torch",
            *self.code,
            f"module.load_state_dict(torch.load({name!r}, weights_only=True))",
            f"{self.usage.result} = module({_scaling(self.usage)})  # {self.usage.comment}",
        ]


def weights_of(run: Run, draw: int | None, seed: int, prune: float | None) -> Tensor:
    """The weights (P,) to export: a draw, or the mean, of which `prune` percent are set to zero by signal-to-noise.

    A run without a posterior has a single vector. Raises UserError for a draw or a pruning that the run lacks.
    """
    network, method = predictor(run).network, build_method(run.options("method"))
    parameters = parameters_of(run, network.size)
    if draw is not None:
        if draw >= method.available(draw + 1) or method.available(2) == 1:
            raise UserError(f"--draw {draw}: method={run.method} has {_count(method.available(2), method.copies)}")
        return method.draw(network, parameters, Draws(seed, 0, draw + 1, BlockSampler()), draw)
    mean = method.mean(parameters)
    if mean is None and method.copies > 1:
        raise UserError(f"method={run.method} has {method.copies} networks and no mean: name one, from 0, by --draw")
    mean = parameters[0] if mean is None else mean
    if prune is None:
        return mean
    if run.method != BayesByBackprop.name:
        raise UserError(f"--prune needs a posterior, and method={run.method} has none")
    return mean * pruning_mask(DiagonalGaussian(*parameters), prune)


def _count(draws: int, copies: int) -> str:
    return "no draws of its weights" if draws == 1 else f"the networks 0 to {copies - 1}"


def error_of(run: Run, weights: Tensor, root: str | None) -> tuple[str, float]:
    """The error of these weights alone, (P,), on the test set: the name of the number, and the number.

    root: the folder of the data. Raises UserError where it is missing.
    """
    predicts = predictor(run)
    [test] = parts_of(run, ["test"], root)
    inputs, truth = test.load()
    assert truth is not None
    outputs = predicts.network.predict(weights, predicts.layout.scaled(predicts.layout.raw(inputs)))
    if predicts.classes:
        return "test error (percent)", 100 * float((outputs.argmax(dim=1).numpy() != truth).mean())
    return "test RMSE", float(((predicts.components(outputs)[0].numpy() - truth) ** 2).mean() ** 0.5)


def exported(run: Run, weights: Tensor) -> Exported:
    """The run's network with these weights (P,); raises UserError for a network that is no plain torch.nn module."""
    predicts = predictor(run)
    options, module, usage = run.network(), nn.Module(), _usage(run)
    shapes, parts = predicts.network.shapes, predicts.network.unflatten(weights)
    dataset = run.options("dataset")
    if isinstance(dataset, TabularConfig) and dataset.noise is Noise.constant and not predicts.classes:
        # The common deviation of all rows is no part of the module.
        deviation = predicts.components(torch.stack([torch.zeros(1), parts[-1]], dim=1))[1].item()
        usage = usage._replace(comment=f"{usage.comment.rpartition(', standard deviation')[0]}, deviation {deviation}")
        shapes, parts = shapes[:-2], parts[:-2]
    if isinstance(options, ModuleConfig):
        module, code = made_module(options), _call(options)
    elif options.name in _MODULES:
        layers = _MODULES[options.name](shapes)
        module, code = nn.Sequential(*layers), ["from torch import nn", f"module = nn.Sequential({_codes(layers)})"]
    else:
        raise UserError(f"network={options.name} cannot be exported: only {', '.join(_MODULES)}")
    with torch.no_grad():
        for parameter, part in zip(module.parameters(), parts, strict=True):
            parameter.copy_(part)
    return Exported(module.eval(), usage, predicts.layout.shape, code)


def program_of(network: Exported) -> torch.export.ExportedProgram:
    """The network as a torch.export program of inputs in raw units, float32 (N, ...), for any N."""
    rows = torch.export.Dim("rows")
    example = torch.zeros(2, *network.shape)
    return torch.export.export(_Raw(network.module, network.usage), (example,), dynamic_shapes={"inputs": {0: rows}})


class _Raw(nn.Module):
    """The module applied to scaled inputs."""

    shift: Tensor
    scale: Tensor

    def __init__(self, module: nn.Module, usage: Usage) -> None:
        super().__init__()
        self.module = module
        for name, value in (("shift", usage.shift), ("scale", usage.scale)):
            self.register_buffer(name, torch.tensor(value))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.module((inputs - self.shift) / self.scale)
        return outputs


def _mlp(shapes: Sequence[tuple[int, ...]]) -> list[nn.Module]:
    return _layers(shapes[::2])


def _layers(shapes: Sequence[tuple[int, ...]]) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten()]
    for number, shape in enumerate(shapes):
        layers += [*([nn.ReLU()] if number else []), nn.Linear(shape[1], shape[0])]
    return layers


def _lenet(shapes: Sequence[tuple[int, ...]]) -> list[nn.Module]:
    convolutions: list[nn.Module] = []
    for shape in shapes[:4:2]:
        convolutions += [nn.Conv2d(shape[1], shape[0], 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    return [*convolutions, *_layers(shapes[4::2])]


# network.name -> the layers of the same function, whose parameters lie in the same order
_MODULES: dict[str, Callable[[Sequence[tuple[int, ...]]], list[nn.Module]]] = {"mlp": _mlp, "lenet": _lenet}


def _call(options: ModuleConfig) -> list[str]:
    assert options.target is not None
    package, _, name = options.target.rpartition(".")
    arguments = ", ".join(f"{key}={value!r}" for key, value in (options.args or {}).items())
    return [f"from {package} import {name}", f"module = {name}({arguments})"]


def _codes(layers: Sequence[nn.Module]) -> str:
    return ", ".join(f"nn.{_code(layer)}" for layer in layers)


def _code(layer: nn.Module) -> str:
    arguments = ""
    if isinstance(layer, nn.Linear):
        arguments = f"{layer.in_features}, {layer.out_features}"
    elif isinstance(layer, nn.Conv2d):
        arguments = f"{layer.in_channels}, {layer.out_channels}, {layer.kernel_size[0]}, padding={layer.padding[0]}"
    elif isinstance(layer, nn.MaxPool2d):
        arguments = str(layer.kernel_size)
    return f"{type(layer).__name__}({arguments})"


def _scaling(usage: Usage) -> str:
    if isinstance(usage.shift, list):
        return f"({usage.inputs} - torch.tensor({usage.shift})) / torch.tensor({usage.scale})"
    moved = f"({usage.inputs} - {usage.shift!r})" if usage.shift else usage.inputs
    return moved if usage.scale == 1 else f"{moved} / {usage.scale!r}"


def _usage(run: Run) -> Usage:
    dataset = run.options("dataset")
    shape = ", ".join(map(str, predictor(run).layout.shape))
    if isinstance(dataset, ImageDatasetConfig):
        comment = f"images (N, {shape}) in pixel values; logits (N, K)"
        return Usage(0.0, dataset.pixel_divisor, "images", "logits", comment)
    if isinstance(dataset, TabularConfig):
        return _table_usage(form_in(run), dataset.sigma_floor)
    assert isinstance(dataset, RegressionCurveConfig)
    middle, half = (dataset.x_low + dataset.x_high) / 2, (dataset.x_high - dataset.x_low) / 2
    shift, scale = (middle, half) if dataset.scale_inputs else (0.0, 1.0)
    deviation = f"{dataset.likelihood_sigma}"
    if dataset.likelihood_sigma is None:
        deviation = f"{dataset.sigma_floor} + {dataset.sigma_scale} * softplus(outputs[:, 1])"
    comment = f"x (N, 1); mean outputs[:, 0], standard deviation {deviation}"
    return Usage(shift, scale, "x", "outputs", comment)


def _table_usage(form: Form, floor: float) -> Usage:
    names: list[str] = []
    shift: list[float] = []
    scale: list[float] = []
    for each in form.features:
        names += [f"{each.name}={level}" for level in each.levels] or [each.name]
        shift += [0.0] * len(each.levels) or list(each.mean)
        scale += [1.0] * len(each.levels) or [each.scale]
    columns = f"rows (N, {form.width}) of {', '.join(names)} (NAME=VALUE: 1 where it is so, else 0)"
    target = form.target
    if target.classes:
        classes = ", ".join(map(str, target.classes))
        result, meaning = "logits", f"logits (N, {len(target.classes)}), a column each of {classes}"
    else:
        sigma = f"{target.scale!r} * ({floor!r} + softplus(outputs[:, 1]))"
        mean = f"{target.mean!r} + {target.scale!r} * outputs[:, 0]"
        result, meaning = "outputs", f"mean {mean}, standard deviation {sigma}"
    # On one line, whatever a column's name contains: text after a line's end would be code.
    return Usage(shift, scale, "rows", result, " ".join(f"{columns}; {meaning}".split()))
