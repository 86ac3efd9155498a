"""One training step as one function of tensors, updated in place: what torch.compile turns into a few loops."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bbbrun.estimators import Batch, Likelihood, batch_nll, flat, free_energy_estimator
from bbbrun.networks import Network
from bbbrun.noise import Stream, uniform
from bbbrun.optimizers import Optimizer
from bbbrun.options import BayesByBackpropConfig, DropoutConfig, MethodConfig
from bbbrun.posterior import DiagonalGaussian
from bbbrun.priors import Prior

Gradients = tuple[list[Tensor], Tensor]  # of each parameter (P,), and the minibatch's nll


class Epoch(NamedTuple):
    """What the steps of an epoch read; order, numbers and position are rewritten in place for each epoch.

    order: (M, B) int64, the examples of each minibatch, the last one filled up with example 0.
    present: (M, B) float32, 0 where an example only fills up.
    numbers: (M, 1 + r), the minibatch's share of the complexity times the temperature, then what the optimizer's
    `rates` gave. position: (1,) int64, the next minibatch.
    """

    order: Tensor
    present: Tensor
    numbers: Tensor
    position: Tensor


class State(NamedTuple):
    """What training changes. Its tensors are all that a resume needs.

    parameters: (mu, rho) for Bayes by Backprop, (weights,) otherwise, each (P,). slots: the optimizer's, for
    each parameter. step: int32, steps done. nll: float64, the sum over the epoch's examples so far, nats.
    """

    parameters: list[Tensor]
    slots: list[list[Tensor]]
    step: Tensor
    nll: Tensor


def initial_state(parameters: list[Tensor], optimizer: Optimizer) -> State:
    """The state before the first step, on the parameters' device."""
    device = parameters[0].device
    slots = [[torch.zeros_like(parameter) for _ in range(optimizer.slots)] for parameter in parameters]
    step = torch.zeros((), dtype=torch.int32, device=device)
    return State(parameters, slots, step, torch.zeros((), dtype=torch.float64, device=device))


def make_step(
    network: Network,
    likelihood: Likelihood,
    method: MethodConfig,
    prior: Prior | None,
    optimizer: Optimizer,
    inputs: Tensor,
    targets: Tensor,
    seed: int,
    epoch: Epoch,
    state: State,
) -> Callable[[], None]:
    """The training step: a function without arguments or result that moves `state` by one minibatch of `epoch`.

    The gradient is that of the SUMMED minibatch likelihood. inputs (N, D) and targets (N, ...) are the whole
    training set, on the device.
    """
    # A tensor, not a number: one compiled step then serves every seed.
    key = torch.tensor(seed, dtype=torch.int32, device=inputs.device)

    index = torch.arange(len(epoch.order), device=inputs.device)

    def maximum_likelihood(rates: list[float], batch: Batch, weight: Tensor) -> Gradients:
        def nll(weights: list[Tensor]) -> Tensor:
            def dropped(number: int, x: Tensor) -> Tensor:
                rate = rates[min(number, 1)]
                noise = uniform(key, state.step, Stream.DROPOUT + number, x.numel(), x.device).view(x.shape)
                return F.linear(x * (noise >= rate) / (1 - rate), weights[2 * number], weights[2 * number + 1])

            x = batch[0]
            outputs = network.layers(dropped, x) if rates and network.layers else network.apply(weights, x)
            return batch_nll(outputs, likelihood, batch)

        gradient, value = torch.func.grad_and_value(nll)(network.unflatten(state.parameters[0]))
        return [flat(gradient)], value

    match method:
        case BayesByBackpropConfig():
            if prior is None:
                raise ValueError("Bayes by Backprop needs a prior")
            estimate = free_energy_estimator(method, prior, network, likelihood)

            def gradients_of(batch: Batch, weight: Tensor) -> Gradients:
                *gradients, nll = estimate(DiagonalGaussian(*state.parameters), key, state.step, batch, weight)
                return gradients, nll

        case DropoutConfig():
            if network.layers is None:
                raise ValueError("dropout needs a network of affine maps: this one may be anything")
            gradients_of = partial(maximum_likelihood, [method.input_rate, method.hidden_rate])
        case _:
            gradients_of = partial(maximum_likelihood, [])

    def step() -> None:
        # Not a decorator, whose code would be torch's own: see devices.compiled.
        with torch.no_grad():
            order = epoch.order.index_select(0, epoch.position)[0]
            # A sum over all rows but one zeroed, because the compiler keeps a sum: a row picked out by its index would
            # be picked again for every few weights of the update, as would be all that is computed from it.
            now = (index == epoch.position).to(torch.float32).unsqueeze(1)
            numbers = (epoch.numbers * now).sum(dim=0)
            batch = (inputs[order], targets[order], epoch.present.index_select(0, epoch.position)[0])
            gradients, nll = gradients_of(batch, numbers[0])
            for parameter, gradient, slots in zip(state.parameters, gradients, state.slots, strict=True):
                optimizer.update(parameter, gradient, slots, numbers[1:])
            state.nll.add_(nll)
            state.step.add_(1)
            epoch.position.add_(1)

    return step
