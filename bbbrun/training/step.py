"""One training step as functions that update tensors in place, which torch.compile turns into a few loops."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bbbrun.bayes.estimators import Batch
from bbbrun.bayes.methods import Method
from bbbrun.bayes.priors import Prior
from bbbrun.runtime.replay import Recorded
from bbbrun.training.optimizers import Optimizer
from bbbrun.training.task import Problem

# The most draws in one function: a function of ten draws compiles for minutes. A loop over single draws sums the
# gradients in memory, which takes a tenth of the time.
_DRAWS_AT_ONCE = 5


class Epoch(NamedTuple):
    """The tensors that the steps of an epoch read; order, numbers and position are rewritten in place for each epoch.

    The rule of the step: these tensors, and those of State, never move, since a compiled or replayed step keeps their
    addresses. Write into them with copy_ or another in-place function; never replace them.

    order: (M, B) int64, the examples of each minibatch, the last one padded with example 0.
    present: (M, B) float32, 0 for a padding example.
    numbers: (M, 1 + r), the minibatch's share of the complexity times the temperature, then the optimizer's `rates`.
    position: (1,) int64, the next minibatch. R replicas have order (R, M, B), numbers (R, M, 1 + r).
    """

    order: Tensor
    present: Tensor
    numbers: Tensor
    position: Tensor


class State(NamedTuple):
    """The tensors that training changes, under the rule of the step (see Epoch).

    parameters: the method's, each (copies * P,). slots: the optimizer's, for each parameter. step: int32, steps done.
    nll: float64 (1,), the sum over the epoch's examples so far, nats. R replicas have parameters and
    slots (R, copies * P), nll (R,).
    """

    parameters: list[Tensor]
    slots: list[list[Tensor]]
    step: Tensor
    nll: Tensor

    def tensors(self) -> list[Tensor]:
        """The tensors of a checkpoint: parameters, slots and step; nll is in those within an epoch, beside these."""
        return [*self.parameters, *(slot for slots in self.slots for slot in slots), self.step]


def initial_state(parameters: list[Tensor], optimizer: Optimizer) -> State:
    """The state before the first step, on the parameters' device."""
    device = parameters[0].device
    slots = [[torch.zeros_like(parameter) for _ in range(optimizer.slots)] for parameter in parameters]
    step = torch.zeros((), dtype=torch.int32, device=device)
    # (1,), not (): before torch 2.14 a compiled CPU step drops, without an error, what it adds to a float64 scalar.
    nll = torch.zeros(parameters[0].shape[:-1] or (1,), dtype=torch.float64, device=device)
    return State(parameters, slots, step, nll)


class Recipe(NamedTuple):
    """The recipe of a step: the method, its prior where it has one, the optimizer, and the seed of the noise.

    R seeds move R replicas at once; each number of the prior is then (R,).
    """

    method: Method
    prior: Prior | None
    optimizer: Optimizer
    seed: int | list[int]


class Part(NamedTuple):
    """A function without arguments or result, and how many times in a row a step calls it."""

    function: Callable[[], None]
    times: int


class Step(NamedTuple):
    """A training step: its parts, one after the other. changed: all the tensors that they change."""

    parts: list[Part]
    changed: list[Tensor]

    def __call__(self) -> None:
        for part in self.parts:
            for _ in range(part.times):
                part.function()

    def wrapped(self, wrap: Callable[[Callable[[], None]], Callable[[], None]]) -> "Step":
        """The step with `wrap` around each of its functions."""
        return self._replace(parts=[Part(wrap(part.function), part.times) for part in self.parts])


def make_step(problem: Problem, recipe: Recipe, epoch: Epoch, state: State) -> Step:
    """The training step, which updates `state` by one minibatch of `epoch`.

    The gradient is that of the SUMMED minibatch likelihood. The problem's inputs (N, ...) and targets (N, ...) are the
    whole training set, on the device. Raises UserError where the method cannot train the network.
    """
    inputs, targets, optimizer, prior = problem.inputs, problem.targets, recipe.optimizer, recipe.prior
    # A tensor, not a number: one compiled step then serves every seed.
    key = torch.tensor(recipe.seed, dtype=torch.int32, device=inputs.device)
    index = torch.arange(epoch.order.shape[-2], device=inputs.device)
    draws = recipe.method.train_draws
    at_once = draws if draws <= _DRAWS_AT_ONCE else 1
    gradients_of = recipe.method.gradients(problem.network, problem.likelihood, state.step, at_once)
    if key.dim():
        # Compiled, these are the same loops over R times the weights, and batched matrix products.
        axes = (0, 0, None, 0 if prior else None, Batch(0, 0, None), 0)  # type: ignore[arg-type]
        gradients_of = torch.vmap(gradients_of, in_dims=axes)

    def numbers() -> list[Tensor]:
        # All rows but one zeroed, then summed: the compiler stores a sum. It would repeat an index, and all that
        # depends on it, in every loop of the update.
        now = (index == epoch.position).to(torch.float32).unsqueeze(1)
        return list((epoch.numbers * now).sum(dim=-2).unbind(-1))

    def gradients(first: int | Tensor, weight: Tensor) -> list[Tensor]:
        order = epoch.order.index_select(-2, epoch.position).squeeze(-2)
        batch = Batch(inputs[order], targets[order], epoch.present.index_select(0, epoch.position)[0])
        parts, nll = gradients_of(state.parameters, key, first, prior, batch, weight)
        return [*parts, nll]

    def update(parts: list[Tensor], nll: Tensor, rates: list[Tensor]) -> None:
        rates = [rate.unsqueeze(-1) for rate in rates]
        for parameter, gradient, slots in zip(state.parameters, parts, state.slots, strict=True):
            optimizer.update(parameter, gradient, slots, rates)
        state.nll.add_(nll)
        state.step.add_(1)
        epoch.position.add_(1)

    # no_grad is not a decorator, whose code would be torch's own: see runtime.compile.compiled.
    def whole() -> None:
        with torch.no_grad():
            weight, *rates = numbers()
            *parts, nll = gradients(0, weight)
            update(parts, nll, rates)

    changed = [*state.tensors(), state.nll, epoch.position]
    if at_once == draws:
        return Step([Part(whole, 1)], changed)
    draw = torch.zeros((), dtype=torch.int32, device=inputs.device)
    sums = [torch.zeros_like(each) for each in (*state.parameters, state.nll.float())]

    def one_draw() -> None:
        with torch.no_grad():
            for total, part in zip(sums, gradients(draw, numbers()[0]), strict=True):
                total.mul_(draw > 0).add_(part)
            draw.copy_((draw + 1) % draws)

    def mean_of_draws() -> None:
        with torch.no_grad():
            *parts, nll = [total / draws for total in sums]
            update(parts, nll, numbers()[1:])

    return Step([Part(one_draw, draws), Part(mean_of_draws, 1)], [*changed, *sums, draw])


class Steps:
    """Takes a step many times; from the third or fourth time on it is faster, since each part is `Recorded`."""

    def __init__(self, step: Step) -> None:
        self.parts = [(Recorded(part.function, step.changed), part.times) for part in step.parts]

    @property
    def settled(self) -> bool:
        """Whether a step no longer compiles, records or checks."""
        return all(recorded.settled for recorded, _ in self.parts)

    def __call__(self, count: int) -> None:
        """Take `count` steps."""
        if len(self.parts) == 1:
            self.parts[0][0](count)
            return
        for _ in range(count):
            for recorded, times in self.parts:
                recorded(times)
