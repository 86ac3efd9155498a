"""Any stateless torch.nn.Module as a network: a given one, or one made by a function that the configuration names."""

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from bbbrun.bayes.networks import Network
from bbbrun.errors import UserError, line_of
from bbbrun.runtime.imports import imported, read_state
from bbbrun.schema.methods import ModuleConfig

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_TRIED = 64  # inputs; two draws of dropout on a few outputs may be the same
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def from_module(module: nn.Module) -> tuple[Network, Tensor]:
    """Any stateless module as a network, with its current parameters as a flat vector (P,).

    Raises ValueError for a module without parameters; with buffers (such as batch normalisation's running statistics),
    whose forward pass would change state; with batch normalisation without them, whose outputs depend on the other
    inputs of a batch; or with dropout in training mode, whose noise does not come from the run's seed.
    """
    buffers = [name for name, _ in module.named_buffers()]
    if buffers:
        raise ValueError(
            f"the module has buffers ({', '.join(buffers[:3])}): a Bayesian network must be a function of weights and "
            "inputs alone; normalise with GroupNorm or LayerNorm, which have none"
        )
    if any(isinstance(part, _BATCH_NORM) for part in module.modules()):
        raise ValueError("the module normalises over its batch: use GroupNorm or LayerNorm, which see one input alone")
    if any(part.training and _drops(part) for part in module.modules()):
        raise ValueError("the module drops out at random: call eval() on it, the weights are what is random here")
    names = [name for name, _ in module.named_parameters()]
    parameters = [parameter.detach() for _, parameter in module.named_parameters()]
    if not parameters:
        raise ValueError("the module has no parameters")

    def apply(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        outputs: Tensor = torch.func.functional_call(module, dict(zip(names, weights, strict=True)), (inputs,))
        return outputs

    shapes = tuple(tuple(parameter.shape) for parameter in parameters)
    return Network(shapes, apply, None), torch.cat([parameter.reshape(-1) for parameter in parameters])


def _drops(part: nn.Module) -> bool:
    """Whether the module itself drops out in training mode."""
    if isinstance(part, _DROPOUT):
        return part.p > 0
    if isinstance(part, nn.RNNBase):
        return part.num_layers > 1 and part.dropout > 0
    return isinstance(part, nn.MultiheadAttention) and part.dropout > 0


def require_function(network: Network, weights: Tensor, inputs: Tensor) -> None:
    """Raise ValueError where outputs are seen to be no function of the weights and of one input each.

    It calls the module on a batch of the inputs (N, ...) twice, then on two batches that share their first input, since
    `from_module` sees the module's parts alone.
    """
    some = inputs[:_TRIED]
    with torch.random.fork_rng(devices=[]):
        batches = some, some, inputs[[0, -1]], inputs[[0, 0]]
        outputs, again, first, same = (network(weights, batch).detach().nan_to_num() for batch in batches)
    # Sums within batches are rounded.
    least = 1e-3 * float(outputs.abs().max())
    if not torch.allclose(outputs, again, rtol=1e-2, atol=least):
        raise ValueError(
            "the module's outputs differ between two calls: leave noise and state out of it, or call eval() on it"
        )
    if not torch.allclose(first[0], same[0], rtol=1e-2, atol=least):
        raise ValueError("the module's output of an input depends on the other inputs of its batch")


def made_module(config: ModuleConfig, seed: int = 0) -> nn.Module:
    """The module that the named function makes, its initial parameters drawn from the seed.

    Raises UserError where the function cannot be imported, fails, or makes something else.
    """
    if config.target is None:
        raise UserError("network.target must be package.factory, the function or class that makes the module")
    factory = imported(config.target)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = factory(**(config.args or {}))
        if not isinstance(module, nn.Module):
            raise TypeError(f"it makes no torch.nn.Module, but {type(module).__name__}")
    except (Exception, SystemExit) as error:
        raise UserError(f"network.target={config.target} with {config.args or {}}: {line_of(error)}") from error
    return module


def network_of_module(config: ModuleConfig, input_shape: Sequence[int], outputs: int) -> Network:
    """The network of the module that the named function makes, for inputs (B, *input_shape) and K = `outputs`.

    Raises UserError where it cannot be made, has buffers, or gives outputs of another shape, and where a pattern of
    `deterministic` or the file of `weights` does not fit.
    """
    module = made_module(config)
    try:
        network, weights = from_module(module)
        with torch.no_grad():
            shape = tuple(network(weights.float(), torch.zeros(2, *input_shape)).shape)  # in float32, as it is trained
    except (Exception, SystemExit) as error:
        raise UserError(f"network.target={config.target}: {line_of(error)}") from error
    if shape != (2, outputs):
        raise UserError(
            f"network.target={config.target} must make outputs (N, {outputs}) of inputs (N, "
            f"{', '.join(map(str, input_shape))}), not {tuple(shape)} of N = 2"
        )
    names = [name for name, _ in module.named_parameters()]
    for pattern in config.deterministic:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(f"network.deterministic: {pattern!r} is none of the parameters {', '.join(names[:12])}")
    deterministic = [any(fnmatchcase(name, pattern) for pattern in config.deterministic) for name in names]
    if all(deterministic):
        raise UserError("network.deterministic leaves no parameter a posterior: say method=mle")
    state = None if config.weights is None else read_state(config.weights)

    def start(seed: int) -> Tensor:
        fresh = made_module(config, seed)
        if state is not None:
            try:
                fresh.load_state_dict(state)
            except (RuntimeError, TypeError) as error:
                raise UserError(f"network.weights={config.weights} does not fit: {line_of(error)[:200]}") from error
        return torch.cat([parameter.detach().reshape(-1).float() for parameter in fresh.parameters()])

    if state is not None:
        start(0)  # before a run has its folder
    sizes = [math.prod(shape) for shape in network.shapes]
    random = torch.cat([torch.full((size,), float(not each)) for size, each in zip(sizes, deterministic, strict=True)])
    return network._replace(start=start, random=random if any(deterministic) else None)
