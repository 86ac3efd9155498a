"""The tensors of one training: built from the configuration, updated by an epoch's steps, saved and loaded."""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bbbrun.bayes.draws import Draws, Sampler, draw_weights
from bbbrun.bayes.methods import Method, build_method
from bbbrun.bayes.networks import Network, starting_weights
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.priors import Prior, build_prior, join_priors
from bbbrun.errors import UserError
from bbbrun.runs.files import CHECKPOINT
from bbbrun.runtime.compile import COMPILER_FILES, compile_errors, compiled, index_table, reason_of, should_compile
from bbbrun.runtime.device import flushed_subnormals, products_of
from bbbrun.runtime.noise import permutation
from bbbrun.schema.checks import MOST_STEPS, require
from bbbrun.schema.config import Config
from bbbrun.schema.methods import Precision
from bbbrun.schema.optimizers import OptimizerConfig
from bbbrun.training.optimizers import build_optimizer, learning_rates
from bbbrun.training.step import Epoch, Recipe, Steps, initial_state, make_step
from bbbrun.training.task import Problem

_APART = 10**6  # the seeds of an ensemble's members


class Plan(NamedTuple):
    """How one network is trained, or one of R replicas, which share everything but numbers that are tensors.

    weights: the starting weights (copies * P,), on the CPU; training on the CPU updates them in place. compile: auto,
    true or false.
    """

    seed: int
    method: Method
    prior: Prior | None
    optimizer: OptimizerConfig
    batch_size: int
    compile: str
    precision: Precision
    weights: Tensor


def plan_of(config: Config, network: Network, device: torch.device) -> Plan:
    """The plan of a configuration for this network."""
    method = build_method(config.method)
    # Far apart: ensembles of neighbouring seeds have no member in common.
    seeds = [(config.seed + _APART * member) % 2**31 for member in range(method.copies)]
    starts = [starting_weights(network, config.network, seed) for seed in seeds]
    return Plan(
        seed=config.seed,
        method=method,
        prior=build_prior(config.prior, device),
        optimizer=config.optimizer,
        batch_size=config.train.batch_size,
        compile=config.compile,
        precision=config.precision,
        weights=torch.cat(starts) if len(starts) > 1 else starts[0],
    )


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The tensors of R replicas as one (R, ...); a single tensor unchanged."""
    return torch.stack(list(parts)) if len(parts) > 1 else parts[0]


class Trainer:
    """Holds the tensors of one training, or of R replicas at once, and updates them epoch by epoch.

    plans: one, or one for each replica. problems: as many, of one shape. epochs: their total number.
    An epoch has `minibatches` minibatches, by default as many as show every example once.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        problems: Sequence[Problem],
        device: torch.device,
        epochs: int,
        minibatches: int | None = None,
    ) -> None:
        plan, problem = plans[0], problems[0]
        self._plans, self._epochs, self.method, self._network = plans, epochs, plan.method, problem.network
        examples = len(problem.inputs)
        # A bandit's minibatches are drawn with repetition, and may be larger than its memory.
        size = plan.batch_size if minibatches else min(plan.batch_size, examples)
        self.minibatches = minibatches or math.ceil(examples / size)
        self._examples = self.minibatches * size if minibatches else examples
        most = MOST_STEPS // self.minibatches
        require(epochs <= most, "train.epochs", f"at most {most}, as an epoch has {self.minibatches} steps", epochs)
        self._optimizer = optimizer = build_optimizer(plan.optimizer)
        numbers = 1 + optimizer.rates(torch.zeros(1), 0).shape[1]
        lead = (len(plans),) if len(plans) > 1 else ()
        self.epoch = Epoch(
            order=index_table(*lead, self.minibatches, size, device=device),
            present=torch.zeros(self.minibatches, size, device=device),
            numbers=torch.zeros(*lead, self.minibatches, numbers, device=device),
            position=torch.zeros(1, dtype=torch.int64, device=device),
        )
        self.epoch.present.view(-1)[: self._examples] = 1
        self._shares = [each.method.shares(self.minibatches) for each in plans]
        starts = [each.method.init(problem.network, each.weights, each.seed) for each in plans]
        parameters = [_joined(parts).to(device) for parts in zip(*starts, strict=True)]
        self.state = initial_state(parameters, optimizer)
        # Replicas with their own data: the data sets are concatenated, and `order` is shifted by `_offset`.
        self._offset = 0 if all(other.inputs is problem.inputs for other in problems) else examples
        if self._offset:
            inputs, targets = (torch.cat(parts) for parts in zip(*(each[:2] for each in problems), strict=True))
            problem = problem._replace(inputs=inputs, targets=targets)
        recipe = Recipe(
            plan.method,
            join_priors([each.prior for each in plans if each.prior is not None]),
            optimizer,
            [each.seed for each in plans] if lead else plan.seed,
        )
        self._step = make_step(problem, recipe, self.epoch, self.state)
        size, steps = problem.network.size * len(plans) * plan.method.copies, epochs * self.minibatches
        self.compiled, warning = should_compile(plan.compile, size, steps, plan.method.train_draws, device)
        if warning:
            warnings.warn(warning, stacklevel=2)
        self._sampler: Sampler = draw_weights
        self._steps = Steps(self._step)
        if self.compiled:
            try:
                # The jobs of a sweep share a process, and its compiler refuses a ninth version of one function.
                torch.compiler.reset()
                self._sampler = compiled(draw_weights)
                self._steps = Steps(self._step.wrapped(compiled))
            except compile_errors() + COMPILER_FILES as error:
                self._go_on_uncompiled(error)

    @classmethod
    def of(
        cls,
        configs: Sequence[Config],
        problems: Sequence[Problem],
        device: torch.device,
        epochs: int,
        minibatches: int | None = None,
    ) -> "Trainer":
        """The trainer of one configuration, or of one for each replica: these differ in REPLICABLE keys alone."""
        plans = [plan_of(config, problems[0].network, device) for config in configs]
        return cls(plans, problems, device, epochs, minibatches)

    def _each(self, tensor: Tensor) -> list[Tensor]:
        """The part of each replica of a tensor that holds all replicas, as views."""
        return list(tensor) if len(self._plans) > 1 else [tensor]

    def parameters(self, replica: int = 0) -> list[Tensor]:
        """The method's parameters of a replica, each (copies * P,)."""
        return [self._each(parameter)[replica] for parameter in self.state.parameters]

    def begin_epoch(self, epoch: int, order: Tensor | None = None, rounds: float = 1) -> list[Tensor]:
        """Write the tables of an epoch (counted from 0) and return the learning rates (M,) of each replica.

        order: the examples to visit, minibatch by minibatch; by default all of them, shuffled by the seed. rounds: how
        often the minibatches together count the complexity.
        """
        epoch_rates: list[Tensor] = []
        tables = zip(self._each(self.epoch.numbers), self._each(self.epoch.order), self._plans, strict=True)
        for replica, (numbers, places, plan) in enumerate(tables):
            rates = learning_rates(plan.optimizer, epoch, self._epochs, self.minibatches)
            numbers[:, 0].copy_(self._shares[replica] * rounds)
            numbers[:, 1:].copy_(self._optimizer.rates(rates, epoch * self.minibatches))
            visited = permutation(plan.seed, epoch, self._examples, places.device) if order is None else order
            places.view(-1)[: self._examples] = (visited + replica * self._offset).to(places.device)
            epoch_rates.append(rates)
        self.epoch.position.zero_()
        self.state.nll.zero_()
        return epoch_rates

    def skip(self, steps: int, nll: Tensor) -> None:
        """Continue the epoch after its first `steps` minibatches, with `nll` their sum of nll."""
        self.epoch.position.fill_(steps)
        self.state.nll.copy_(nll)

    def steps(self, count: int) -> None:
        """The next `count` minibatches; falls back to uncompiled steps, with one warning, where compiling fails."""
        device = self.state.step.device
        with products_of(self._plans[0].precision, device), flushed_subnormals(device):
            try:
                self._steps(count)
            except compile_errors() + COMPILER_FILES as error:
                if not self.compiled:
                    raise
                # Compiling fails before anything runs, so the state is as it was.
                self._go_on_uncompiled(error)
                self._steps(count)

    @property
    def settled(self) -> bool:
        """Whether the next step compiles nothing."""
        return not self.compiled or self._steps.settled

    def sample(self, posterior: DiagonalGaussian, seed: Tensor, step: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        """`draw_weights`, compiled if training is; falls back as `steps` does, and may be called before it."""
        try:
            return self._sampler(posterior, seed, step, draw)
        except compile_errors() + COMPILER_FILES as error:
            if not self.compiled:
                raise
            self._go_on_uncompiled(error)
            return self._sampler(posterior, seed, step, draw)

    def _go_on_uncompiled(self, error: Exception) -> None:
        warnings.warn(
            f"torch.compile failed ({reason_of(error)}): training runs uncompiled, several times slower "
            "(compile=false hides this)",
            stacklevel=3,
        )
        self._steps = Steps(self._step)
        self.compiled, self._sampler = False, draw_weights

    def mean_nll(self, replica: int = 0) -> float:
        """A replica's nll in the epoch so far, nats per training example, each minibatch under its own draws."""
        return self._each(self.state.nll)[replica].item() / self._examples

    def draws(self, step: int, count: int, replica: int = 0) -> Draws:
        """The draws of a prediction of a replica after `step` steps."""
        return Draws(self._plans[replica].seed, step, count, self.sample)

    def objective(self, replica: int = 0) -> dict[str, float]:
        """The objective's parts for a replica's row, after an epoch: `mean_nll`, and the method's own columns."""
        mean_nll, plan = self.mean_nll(replica), self._plans[replica]
        draws = self.draws(int(self.state.step), 1, replica)
        parts = plan.method.row(self._network, self.parameters(replica), plan.prior, mean_nll * self._examples, draws)
        return {"nll": mean_nll} | parts

    def load(self, tensors: list[Tensor]) -> None:
        """Load the tensors of `saved`; raises UserError for those of another network or optimizer."""
        shapes = [tensor.shape for tensor in self.state.tensors()]
        if [tensor.shape for tensor in tensors] != shapes:
            raise UserError(f"{CHECKPOINT} is of another network or optimizer: start a new run")
        for target, source in zip(self.state.tensors(), tensors, strict=True):
            target.copy_(source)

    def saved(self) -> list[Tensor]:
        """The tensors of a checkpoint, on the CPU, of all replicas."""
        return [tensor.cpu() for tensor in self.state.tensors()]

    def saved_of(self, replica: int) -> list[Tensor]:
        """The tensors that `saved` would hold if the replica had been trained alone."""
        *each, step = self.state.tensors()
        # Clones: torch saves the whole storage of a view, with all replicas.
        return [*(self._each(tensor)[replica].cpu().clone() for tensor in each), step.cpu()]
