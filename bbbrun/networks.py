"""Networks as plain functions of (weights, inputs), the weights one flat vector of length P."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bbbrun.noise import Stream, standard_normal, uniform
from bbbrun.options import Init

Masks = Sequence[Tensor] | None


class Network(NamedTuple):
    """A function of weights and inputs, and what its weights look like.

    shapes: the shape of each weight tensor, in the order they lie in the flat vector.
    apply: (weight tensors of these shapes, inputs (B, D), masks) -> outputs (B, K).
    masked: the width of each layer's input that a mask may multiply; empty where masks are not taken.
    """

    shapes: tuple[tuple[int, ...], ...]
    apply: Callable[[Sequence[Tensor], Tensor, Masks], Tensor]
    masked: tuple[int, ...]

    @property
    def size(self) -> int:
        """P, the number of weights."""
        return sum(math.prod(shape) for shape in self.shapes)

    def unflatten(self, weights: Tensor) -> list[Tensor]:
        """The weight tensors as views of the flat vector (P,)."""
        parts = weights.split([math.prod(shape) for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def __call__(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Outputs (B, K) for flat weights (P,) and inputs (B, D)."""
        return self.apply(self.unflatten(weights), inputs, None)


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> Network:
    """A multilayer perceptron, ReLU between layers: the weight (out, in) and the bias (out,) of each layer in turn."""
    widths = [inputs, *hidden, outputs]
    shapes: list[tuple[int, ...]] = []
    for width_in, width_out in itertools.pairwise(widths):
        shapes += [(width_out, width_in), (width_out,)]

    def apply(weights: Sequence[Tensor], x: Tensor, masks: Masks = None) -> Tensor:
        layers = list(zip(weights[::2], weights[1::2], strict=True))
        for number, (weight, bias) in enumerate(layers):
            if number > 0:
                x = F.relu(x)
            if masks is not None:
                x = x * masks[number]
            x = F.linear(x, weight, bias)
        return x

    return Network(tuple(shapes), apply, tuple(widths[:-1]))


def from_module(module: nn.Module) -> tuple[Network, Tensor]:
    """Any stateless module as a network, with its present parameters as a flat vector (P,).

    Raises ValueError for a module with buffers (batch normalisation's running statistics, say), whose forward
    pass would leave state behind, or with dropout in training mode, whose noise is not the run's.
    """
    if any(True for _ in module.buffers()):
        raise ValueError("the module has buffers: a Bayesian network must be a function of weights and inputs alone")
    if any(isinstance(part, nn.modules.dropout._DropoutNd) and part.training for part in module.modules()):
        raise ValueError("the module drops out at random: call eval() on it, the weights are what is random here")
    names = [name for name, _ in module.named_parameters()]
    parameters = [parameter.detach() for _, parameter in module.named_parameters()]

    def apply(weights: Sequence[Tensor], inputs: Tensor, masks: Masks = None) -> Tensor:
        outputs: Tensor = torch.func.functional_call(module, dict(zip(names, weights, strict=True)), (inputs,))
        return outputs

    shapes = tuple(tuple(parameter.shape) for parameter in parameters)
    return Network(shapes, apply, ()), torch.cat([parameter.reshape(-1) for parameter in parameters])


def initial_weights(network: Network, init: Init, scale: float, seed: int) -> Tensor:
    """Starting weights (P,), float32 on the CPU: biases 0, weight matrices (out, in) drawn from the seed.

    he: N(0, scale^2 * 2 / in) (He et al., "Delving deep into rectifiers", 2015). uniform: U(-scale, scale).
    """
    match init:
        case Init.he:
            noise = standard_normal(seed, 0, Stream.INITIALISE, network.size)
        case Init.uniform:
            noise = uniform(seed, 0, Stream.INITIALISE, network.size) * 2 - 1
    for part in network.unflatten(noise):
        if part.dim() < 2:
            part.zero_()
        else:
            fan_in = part[0].numel()
            part.mul_(scale * math.sqrt(2 / fan_in) if init is Init.he else scale)
    return noise
