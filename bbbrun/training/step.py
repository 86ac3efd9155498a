"""One training step as one function of tensors, updated in place: what torch.compile turns into a few loops."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bbbrun.bayes.estimators import Batch
from bbbrun.bayes.methods import Method
from bbbrun.bayes.priors import Prior
from bbbrun.training.optimizers import Optimizer
from bbbrun.training.task import Problem


class Epoch(NamedTuple):
    """What the steps of an epoch read; order, numbers and position are rewritten in place for each epoch.

    The rule of the step: these tensors, and those of State, never move, since a compiled or replayed step knows their
    places in memory. Write into them with copy_ or another in-place function; never replace them.

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
    """What training changes, under the rule of the step (see Epoch). A resume needs all of it but nll.

    parameters: the method's, each (P,). slots: the optimizer's, for each parameter. step: int32, steps done. nll:
    float64 (1,), the sum over the epoch's examples so far, nats.
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
    # (1,), not (): before torch 2.14 a compiled CPU step drops, without an error, what it adds to a float64 scalar.
    nll = torch.zeros(parameters[0].shape[:-1] or (1,), dtype=torch.float64, device=device)
    return State(parameters, slots, step, nll)


def changed(epoch: Epoch, state: State) -> list[Tensor]:
    """All the tensors that a step of `make_step` changes."""
    return [*state.tensors(), state.nll, epoch.position]


class Recipe(NamedTuple):
    """How a step learns: the method, its prior where it has one, the optimizer, and the seed of its noise.

    R seeds move R replicas at once; each number of the prior is then (R,).
    """

    method: Method
    prior: Prior | None
    optimizer: Optimizer
    seed: int | list[int]


def make_step(problem: Problem, recipe: Recipe, epoch: Epoch, state: State) -> Callable[[], None]:
    """The training step: a function without arguments or result that moves `state` by one minibatch of `epoch`.

    The gradient is that of the SUMMED minibatch likelihood. The problem's inputs (N, ...) and targets (N, ...) are the
    whole training set, on the device. Raises UserError where the method cannot train the network.
    """
    inputs, targets, optimizer, prior = problem.inputs, problem.targets, recipe.optimizer, recipe.prior
    # A tensor, not a number: one compiled step then serves every seed.
    key = torch.tensor(recipe.seed, dtype=torch.int32, device=inputs.device)
    index = torch.arange(epoch.order.shape[-2], device=inputs.device)
    gradients_of = recipe.method.gradients(problem.network, problem.likelihood, state.step)
    if key.dim():
        # Compiled, this is the same loops over R times the weights, and batched matrix products.
        gradients_of = torch.vmap(gradients_of, in_dims=(0, 0, 0 if prior else None, Batch(0, 0, None), 0))  # type: ignore[arg-type]

    def step() -> None:
        # Not a decorator, whose code would be torch's own: see runtime.compile.compiled.
        with torch.no_grad():
            order = epoch.order.index_select(-2, epoch.position).squeeze(-2)
            # All rows but one zeroed, then summed: the compiler stores a sum. It would repeat an index, and all that
            # depends on it, in every loop of the update.
            now = (index == epoch.position).to(torch.float32).unsqueeze(1)
            weight, *rates = (epoch.numbers * now).sum(dim=-2).unbind(-1)
            batch = Batch(inputs[order], targets[order], epoch.present.index_select(0, epoch.position)[0])
            gradients, nll = gradients_of(state.parameters, key, prior, batch, weight)
            rates = [rate.unsqueeze(-1) for rate in rates]
            for parameter, gradient, slots in zip(state.parameters, gradients, state.slots, strict=True):
                optimizer.update(parameter, gradient, slots, rates)
            state.nll.add_(nll)
            state.step.add_(1)
            epoch.position.add_(1)

    return step
