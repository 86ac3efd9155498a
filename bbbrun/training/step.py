"""One training step as one function of tensors, updated in place: what torch.compile turns into a few loops."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bbbrun.bayes.estimators import Batch, Likelihood, batch_nll, flat, free_energy_estimator
from bbbrun.bayes.networks import Network
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.priors import Prior
from bbbrun.runtime.noise import Stream, uniform
from bbbrun.schema.options import BayesByBackpropConfig, DropoutConfig, MethodConfig
from bbbrun.training.optimizers import Optimizer

Gradients = tuple[list[Tensor], Tensor]  # of each parameter (P,), and the minibatch's nll


class Epoch(NamedTuple):
    """What the steps of an epoch read; order, numbers and position are rewritten in place for each epoch.

    order: (M, B) int64, the examples of each minibatch, the last one filled up with example 0.
    present: (M, B) float32, 0 where an example only fills up.
    numbers: (M, 1 + r), the minibatch's share of the complexity times the temperature, then what the optimizer's
    `rates` gave. position: (1,) int64, the next minibatch. R replicas have order (R, M, B), numbers (R, M, 1 + r).
    """

    order: Tensor
    present: Tensor
    numbers: Tensor
    position: Tensor


class State(NamedTuple):
    """What training changes. Its tensors are all that a resume needs.

    parameters: (mu, rho) for Bayes by Backprop, (weights,) otherwise, each (P,). slots: the optimizer's, for
    each parameter. step: int32, steps done. nll: float64 (1,), the sum over the epoch's examples so far, nats.
    R replicas have parameters and slots (R, P), nll (R,).
    """

    parameters: list[Tensor]
    slots: list[list[Tensor]]
    step: Tensor
    nll: Tensor

    def tensors(self) -> list[Tensor]:
        """What a resume needs: parameters, slots and step."""
        return [*self.parameters, *(slot for slots in self.slots for slot in slots), self.step]


def initial_state(parameters: list[Tensor], optimizer: Optimizer) -> State:
    """The state before the first step, on the parameters' device."""
    device = parameters[0].device
    slots = [[torch.zeros_like(parameter) for _ in range(optimizer.slots)] for parameter in parameters]
    step = torch.zeros((), dtype=torch.int32, device=device)
    # (1,), not (): older versions of torch leave out, without a word, what a compiled step adds to a double of no
    # dimensions.
    nll = torch.zeros(parameters[0].shape[:-1] or (1,), dtype=torch.float64, device=device)
    return State(parameters, slots, step, nll)


def changed(epoch: Epoch, state: State) -> list[Tensor]:
    """All the tensors that a step of `make_step` changes."""
    return [*state.tensors(), state.nll, epoch.position]


def make_step(
    network: Network,
    likelihood: Likelihood,
    method: MethodConfig,
    prior: Prior | None,
    optimizer: Optimizer,
    inputs: Tensor,
    targets: Tensor,
    seed: int | list[int],
    epoch: Epoch,
    state: State,
) -> Callable[[], None]:
    """The training step: a function without arguments or result that moves `state` by one minibatch of `epoch`.

    The gradient is that of the SUMMED minibatch likelihood. inputs (N, D) and targets (N, ...) are the whole
    training set, on the device. R seeds move R replicas at once, each number of the prior then (R,).
    """
    # A tensor, not a number: one compiled step then serves every seed.
    key = torch.tensor(seed, dtype=torch.int32, device=inputs.device)
    index = torch.arange(epoch.order.shape[-2], device=inputs.device)
    gradients_of = _gradients(network, likelihood, method, state.step)
    if key.dim():
        # Compiled, this is the same loops over R times the weights, and batched matrix products.
        gradients_of = torch.vmap(gradients_of, in_dims=(0, 0, 0 if prior else None, (0, 0, None), 0))

    def step() -> None:
        # Not a decorator, whose code would be torch's own: see devices.compiled.
        with torch.no_grad():
            order = epoch.order.index_select(-2, epoch.position).squeeze(-2)
            # A sum over all rows but one zeroed, because the compiler keeps a sum: a row picked out by its index would
            # be picked again for every few weights of the update, as would be all that is computed from it.
            now = (index == epoch.position).to(torch.float32).unsqueeze(1)
            weight, *rates = (epoch.numbers * now).sum(dim=-2).unbind(-1)
            batch = (inputs[order], targets[order], epoch.present.index_select(0, epoch.position)[0])
            gradients, nll = gradients_of(state.parameters, key, prior, batch, weight)
            rates = [rate.unsqueeze(-1) for rate in rates]
            for parameter, gradient, slots in zip(state.parameters, gradients, state.slots, strict=True):
                optimizer.update(parameter, gradient, slots, rates)
            state.nll.add_(nll)
            state.step.add_(1)
            epoch.position.add_(1)

    return step


def _gradients(
    network: Network, likelihood: Likelihood, method: MethodConfig, now: Tensor
) -> Callable[[list[Tensor], Tensor, Prior | None, Batch, Tensor], Gradients]:
    """The method's gradient: a function of (parameters, seed, prior, batch, weight) that reads the step from `now`."""

    def maximum_likelihood(
        rates: list[float], parameters: list[Tensor], key: Tensor, prior: Prior | None, batch: Batch, weight: Tensor
    ) -> Gradients:
        def nll(weights: list[Tensor]) -> Tensor:
            def dropped(number: int, x: Tensor) -> Tensor:
                rate = rates[min(number, 1)]
                noise = uniform(key, now, Stream.DROPOUT + number, x.numel(), x.device).view(x.shape)
                return F.linear(x * (noise >= rate) / (1 - rate), weights[2 * number], weights[2 * number + 1])

            x = batch[0]
            outputs = network.layers(dropped, x) if rates and network.layers else network.apply(weights, x)
            return batch_nll(outputs, likelihood, batch)

        gradient, value = torch.func.grad_and_value(nll)(network.unflatten(parameters[0]))
        return [flat(gradient)], value

    match method:
        case BayesByBackpropConfig():
            estimate = free_energy_estimator(method, network, likelihood)

            def bayes_by_backprop(
                parameters: list[Tensor], key: Tensor, prior: Prior | None, batch: Batch, weight: Tensor
            ) -> Gradients:
                if prior is None:
                    raise ValueError("Bayes by Backprop needs a prior")
                *gradients, nll = estimate(DiagonalGaussian(*parameters), prior, key, now, batch, weight)
                return gradients, nll

            return bayes_by_backprop
        case DropoutConfig():
            if network.layers is None:
                raise ValueError("dropout needs a network of affine maps: this one may be anything")
            return partial(maximum_likelihood, [method.input_rate, method.hidden_rate])
        case _:
            return partial(maximum_likelihood, [])
