"""Networks as plain functions of (weights, inputs), the weights one flat vector of length P."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bbbrun.errors import UserError
from bbbrun.runtime.matmul import matrix_product
from bbbrun.runtime.noise import Stream, standard_normal, uniform
from bbbrun.schema.methods import DrawnConfig, Init, LenetConfig, MlpConfig, ModuleConfig, NetworkConfig

Affine = Callable[[int, Tensor], Tensor]  # (number of the layer, its inputs (B, in, ...)) -> (B, out, ...)
Layers = Callable[[Affine, Tensor], Tensor]  # (what to do at each map, inputs (B, ...)) -> outputs (B, K)
Operation = Callable[[Tensor, Tensor, Tensor], Tensor]  # (inputs (B, in, ...), weight, bias) -> (B, out, ...)


class Network(NamedTuple):
    """A function of weights and inputs, with the shapes of its weights.

    shapes: the shape of each weight tensor, in the order of the flat vector.
    apply: (weight tensors of these shapes, inputs (B, ...)) -> outputs (B, K).
    layers: the same with its maps as an argument, (affine, inputs (B, ...)) -> outputs (B, K); weight (out, in, ...)
    and bias (out,) of map n are weight tensors 2n and 2n + 1. None where weights enter in other ways.
    operations: the operation of map n, linear in the weight and in the inputs; () where all are affine maps (B, in) ->
    (B, out). start: seed -> starting weights (P,); None where they are drawn. random: (P,), 1 for weights with a
    posterior, 0 for weights without; None where all have one.
    """

    shapes: tuple[tuple[int, ...], ...]
    apply: Callable[[Sequence[Tensor], Tensor], Tensor]
    layers: Layers | None
    operations: tuple[Operation, ...] = ()
    start: Callable[[int], Tensor] | None = None
    random: Tensor | None = None

    def operation(self, number: int) -> Operation:
        """The operation of map number `number`."""
        return self.operations[number] if self.operations else F.linear

    @property
    def size(self) -> int:
        """P, the number of weights."""
        return sum(math.prod(shape) for shape in self.shapes)

    def unflatten(self, weights: Tensor) -> list[Tensor]:
        """The weight tensors as views of the flat vector (P,)."""
        parts = weights.split([math.prod(shape) for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def __call__(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Outputs (B, K) for flat weights (P,) and inputs (B, ...)."""
        return self.apply(self.unflatten(weights), inputs)

    def predict(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """The same outputs to rounding, not differentiable, by the fastest matrix products available."""
        if self.layers is None or self.operations:
            return self(weights, inputs)
        parts = self.unflatten(weights)
        return self.layers(lambda number, x: matrix_product(x, parts[2 * number].t(), parts[2 * number + 1]), inputs)


def affine_maps(network: Network, needed_by: str, remedy: str = "") -> Layers:
    """The network's `layers`, all affine; raises UserError, naming the setting that needs them, where they are not."""
    if network.layers is None or network.operations:
        raise UserError(f"{needed_by} needs a network of affine maps alone, such as network=mlp{remedy}")
    return network.layers


def linear_maps(network: Network, needed_by: str, remedy: str = "") -> Layers:
    """The network's `layers`; raises UserError, naming the setting that needs them, where it has none."""
    if network.layers is None:
        raise UserError(f"{needed_by} needs a network of affine maps and convolutions, such as network=mlp{remedy}")
    return network.layers


def layered(shapes: Sequence[tuple[int, ...]], layers: Layers, operations: Sequence[Operation] = ()) -> Network:
    """The network of `layers` with weights of `shapes`, whose maps have these operations, by default all affine."""
    network = Network(tuple(shapes), lambda weights, x: x, layers, tuple(operations))

    def apply(weights: Sequence[Tensor], x: Tensor) -> Tensor:
        return layers(lambda number, x: network.operation(number)(x, weights[2 * number], weights[2 * number + 1]), x)

    return network._replace(apply=apply)


def with_constant(network: Network) -> Network:
    """The network with one more output, the same for all inputs: the bias of an affine map of zeros.

    The map's weight (1, 1) and bias (1,) come last; the weight has no effect.
    """
    shapes, start, random = (*network.shapes, (1, 1), (1,)), network.start, network.random

    def apply(weights: Sequence[Tensor], x: Tensor) -> Tensor:
        outputs = network.apply(weights[:-2], x)
        return torch.cat([outputs, weights[-1].expand(len(outputs), 1)], dim=1)

    if network.layers is not None:
        own, number = network.layers, len(network.shapes) // 2

        def layers(affine: Affine, x: Tensor) -> Tensor:
            outputs = [own(affine, x), affine(number, x.new_zeros(len(x), 1))]
            return torch.cat(outputs, dim=1)

        return layered(shapes, layers, (*network.operations, F.linear) if network.operations else ())
    return Network(
        shapes,
        apply,
        None,
        start=start and (lambda seed: torch.cat([start(seed), torch.zeros(2)])),
        random=None if random is None else torch.cat([random, torch.ones(2)]),
    )


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> Network:
    """A multilayer perceptron, ReLU between layers: the weight (out, in) and the bias (out,) of each layer in turn."""
    widths = [inputs, *hidden, outputs]
    shapes: list[tuple[int, ...]] = []
    for width_in, width_out in itertools.pairwise(widths):
        shapes += [(width_out, width_in), (width_out,)]

    def layers(affine: Affine, x: Tensor) -> Tensor:
        x = x.flatten(start_dim=1)  # an image's pixels in a row
        for number in range(len(widths) - 1):
            x = affine(number, F.relu(x) if number else x)
        return x

    return layered(shapes, layers)


def _mlp_of(config: MlpConfig, input_shape: Sequence[int], outputs: int) -> Network:
    return mlp(math.prod(input_shape), config.hidden, outputs)


def lenet(input_shape: Sequence[int], channels: Sequence[int], hidden: Sequence[int], outputs: int) -> Network:
    """Two convolutions, each 5 x 5 within zeros, ReLU and the maximum of 2 x 2 pixels, then the layers of an mlp.

    The weight (out, in, 5, 5) and the bias (out,) of each convolution come first. input_shape: (C, H, W).
    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998; with
    ReLU and maxima, and the image's size kept by the convolutions. Raises UserError for inputs that are no images.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 4:
        raise UserError(f"network=lenet takes images of 4 x 4 pixels or more, not inputs of shape {tuple(input_shape)}")
    shapes: list[tuple[int, ...]] = []
    for channels_in, channels_out in itertools.pairwise([input_shape[0], *channels]):
        shapes += [(channels_out, channels_in, 5, 5), (channels_out,)]
    head = mlp(channels[-1] * (input_shape[1] // 4) * (input_shape[2] // 4), hidden, outputs)
    assert head.layers is not None
    count, head_layers = len(channels), head.layers

    def layers(affine: Affine, x: Tensor) -> Tensor:
        for number in range(count):
            x = F.max_pool2d(F.relu(affine(number, x)), 2)
        return head_layers(lambda number, x: affine(count + number, x), x)

    operations: list[Operation] = [*[_convolution] * count, *[F.linear] * (len(head.shapes) // 2)]
    return layered([*shapes, *head.shapes], layers, operations)


def _convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x, weight, bias, padding=2)


def _lenet_of(config: LenetConfig, input_shape: Sequence[int], outputs: int) -> Network:
    return lenet(input_shape, config.channels, config.hidden, outputs)


def _module_of(config: NetworkConfig, input_shape: Sequence[int], outputs: int) -> Network:
    from bbbrun.bayes.modules import network_of_module  # here, since modules.py imports this module

    assert isinstance(config, ModuleConfig)
    return network_of_module(config, input_shape, outputs)


# name -> (its options, the shape of one input, K) -> network
NETWORKS: dict[str, Callable[[Any, Sequence[int], int], Network]] = {
    "mlp": _mlp_of,
    "lenet": _lenet_of,
    "module": _module_of,
}


def build_network(config: NetworkConfig, input_shape: Sequence[int], outputs: int) -> Network:
    """The network that the configuration names, for inputs (B, *input_shape) and K = `outputs`."""
    return NETWORKS[config.name](config, input_shape, outputs)


def starting_weights(network: Network, config: NetworkConfig, seed: int) -> Tensor:
    """The weights (P,) that training starts from, float32 on the CPU: the network's own, or drawn as `config` says."""
    if network.start is not None:
        return network.start(seed)
    assert isinstance(config, DrawnConfig)
    return initial_weights(network, config.init, config.init_scale, seed)


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
