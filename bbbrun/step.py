"""One training step as one function of tensors, updated in place: what torch.compile turns into a few loops."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from bbbrun.networks import Masks, Network
from bbbrun.noise import Stream, standard_normal, uniform
from bbbrun.objective import free_energy_gradient
from bbbrun.optimizers import Optimizer
from bbbrun.options import BayesByBackpropConfig, DropoutConfig, MethodConfig
from bbbrun.posterior import DiagonalGaussian
from bbbrun.priors import Prior

Likelihood = Callable[[Tensor, Tensor], Tensor]  # (outputs (B, K), targets (B, ...)) -> nll of each example (B,)


Batch = tuple[Tensor, Tensor, Tensor]  # inputs (B, D), targets (B, ...), present (B,)


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
    """What training changes. Its tensors and the epoch's number are all that a resume needs.

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

    def data_term(weights: Tensor, batch: Batch, masks: Masks) -> tuple[Tensor, Tensor]:
        """The minibatch's nll and its gradient in the flat weights (P,)."""
        x, y, present = batch

        def nll(parts: list[Tensor]) -> Tensor:
            return (likelihood(network.apply(parts, x, masks), y) * present).sum()

        gradients, value = torch.func.grad_and_value(nll)(network.unflatten(weights))
        return torch.cat([gradient.reshape(-1) for gradient in gradients]), value

    def bayes_by_backprop(prior: Prior, draws: int, batch: Batch, weight: Tensor) -> tuple[list[Tensor], Tensor]:
        posterior = DiagonalGaussian(*state.parameters)
        totals: list[Tensor] = []
        for draw in range(draws):
            eps = standard_normal(key, state.step, Stream.TRAIN + draw, network.size, inputs.device)
            weights = posterior.sample(eps)
            dnll, nll = data_term(weights, batch, None)
            terms = [*free_energy_gradient(posterior, prior, eps, weights, dnll, weight), nll]
            totals = [total + term for total, term in zip(totals, terms, strict=True)] if totals else terms
        *gradients, nll = [total / draws for total in totals] if draws > 1 else totals
        return gradients, nll

    def maximum_likelihood(rates: list[float], batch: Batch, weight: Tensor) -> tuple[list[Tensor], Tensor]:
        masks = []
        for number, (width, rate) in enumerate(zip(network.masked, rates, strict=False)):
            size = len(batch[0])
            noise = uniform(key, state.step, Stream.DROPOUT + number, size * width, inputs.device)
            masks.append((noise >= rate).view(size, width) / (1 - rate))
        gradient, nll = data_term(state.parameters[0], batch, masks or None)
        return [gradient], nll

    match method:
        case BayesByBackpropConfig():
            if prior is None:
                raise ValueError("Bayes by Backprop needs a prior")
            gradients_of = partial(bayes_by_backprop, prior, method.train_samples)
        case DropoutConfig():
            if not network.masked:
                raise ValueError("dropout needs a network that takes masks: this one has none")
            rates = [method.input_rate] + [method.hidden_rate] * (len(network.masked) - 1)
            gradients_of = partial(maximum_likelihood, rates)
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
