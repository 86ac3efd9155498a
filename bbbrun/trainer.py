"""The tensors of one training: built from the configuration, moved by an epoch's steps, saved and loaded."""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import pandas as pd
import torch
from torch import Tensor

from bbbrun.config import Config
from bbbrun.devices import compiled, should_compile
from bbbrun.errors import UserError
from bbbrun.estimators import Likelihood
from bbbrun.files import CHECKPOINT
from bbbrun.networks import Network, initial_weights
from bbbrun.noise import Stream, permutation, uniform
from bbbrun.objective import free_energy, minibatch_weights
from bbbrun.optimizers import build_optimizer, learning_rates
from bbbrun.options import BayesByBackpropConfig
from bbbrun.posterior import DiagonalGaussian
from bbbrun.predictive import Sampler, draw_weights
from bbbrun.priors import build_prior
from bbbrun.step import Epoch, initial_state, make_step


class Problem(Protocol):
    """What is learnt: which outputs the network should give for which inputs, and how a miss is counted."""

    @property
    def inputs(self) -> Tensor: ...
    @property
    def targets(self) -> Tensor: ...
    @property
    def network(self) -> Network: ...
    @property
    def likelihood(self) -> Likelihood: ...


# (parameters, how many draws of the weights, steps done, sampler) -> columns of a row
Evaluate = Callable[[list[Tensor], int, int, Sampler], dict[str, float]]


class Task(NamedTuple):
    """What differs between kinds of task: data, network, likelihood, and what an evaluation adds to a row.

    predictions: a table to keep of a finished training; None where there is nothing to show over the inputs.
    chance: the error, percent, of always giving the most frequent class; None where there are no classes.
    """

    inputs: Tensor
    targets: Tensor
    network: Network
    likelihood: Likelihood
    columns: list[str]
    evaluate: Evaluate
    shown: list[str]
    predictions: Callable[[list[Tensor], int, int, Sampler], pd.DataFrame] | None = None
    chance: float | None = None


def initial_parameters(config: Config, network: Network, device: torch.device) -> list[Tensor]:
    """(mu, rho) for Bayes by Backprop, rho uniform in method.rho_init; (weights,) for the other methods."""
    weights = initial_weights(network, config.network.init, config.network.init_scale, config.seed)
    if not isinstance(config.method, BayesByBackpropConfig):
        return [weights.to(device)]
    low, high = config.method.rho_init
    rho = low + (high - low) * uniform(config.seed, 0, Stream.INITIALISE + 1, network.size)
    return [weights.to(device), rho.to(device)]


class Trainer:
    """Holds the tensors of one training and moves them by one epoch at a time.

    An epoch has `minibatches` of them, or as many as show every example once. epochs: how many there will be.
    """

    def __init__(
        self, config: Config, task: Problem, device: torch.device, epochs: int, minibatches: int | None = None
    ) -> None:
        self._config = config
        size = min(config.train.batch_size, len(task.inputs))
        self.minibatches = minibatches or math.ceil(len(task.inputs) / size)
        self._epochs, self._examples = epochs, minibatches * size if minibatches else len(task.inputs)
        shape = (self.minibatches, size)
        self._optimizer = optimizer = build_optimizer(config.optimizer)
        self.epoch = Epoch(
            order=torch.zeros(shape, dtype=torch.int64, device=device),
            present=torch.zeros(shape, device=device),
            numbers=torch.zeros(self.minibatches, 1 + optimizer.rates(torch.zeros(1), 0).shape[1], device=device),
            position=torch.zeros(1, dtype=torch.int64, device=device),
        )
        draws = 1
        prior = None
        if isinstance(config.method, BayesByBackpropConfig):
            draws = config.method.train_samples
            weights = minibatch_weights(config.method.minibatch_weights, self.minibatches)
            self.epoch.numbers[:, 0].copy_(weights * config.method.temperature)
            prior = build_prior(config.prior, device)
        self.prior = prior
        self.epoch.present.view(-1)[: self._examples] = 1
        self.state = initial_state(initial_parameters(config, task.network, device), optimizer)
        eager = make_step(
            task.network,
            task.likelihood,
            config.method,
            prior,
            optimizer,
            task.inputs,
            task.targets,
            config.seed,
            self.epoch,
            self.state,
        )
        steps = epochs * self.minibatches
        self.compiled, warning = should_compile(config, task.network.size, steps, draws, device)
        if warning:
            warnings.warn(warning, stacklevel=2)
        # The jobs of a sweep share a process, and its compiler refuses a ninth version of one function.
        torch.compiler.reset()
        self.sampler: Sampler = compiled(draw_weights) if self.compiled else draw_weights
        self._step = compiled(eager) if self.compiled else eager
        self._eager = eager

    def begin_epoch(self, epoch: int, order: Tensor | None = None) -> Tensor:
        """Write the tables of an epoch (counted from 0) and return its learning rates.

        order: the examples to visit, minibatch by minibatch; by default all of them, in the seed's order.
        """
        rates = learning_rates(self._config.optimizer, epoch, self._epochs, self.minibatches)
        self.epoch.numbers[:, 1:].copy_(self._optimizer.rates(rates, epoch * self.minibatches))
        if order is None:
            order = permutation(self._config.seed, epoch, self._examples)
        self.epoch.order.view(-1)[: self._examples] = order.to(self.epoch.order.device)
        self.epoch.position.zero_()
        self.state.nll.zero_()
        return rates

    def step(self) -> None:
        """One minibatch; falls back to the uncompiled step, with one warning, where compiling fails."""
        try:
            self._step()
        except torch._dynamo.exc.TorchDynamoException as error:
            # Compiling fails before anything runs, so the state is as it was.
            reason = str(error).strip().splitlines()[0]
            warnings.warn(
                f"torch.compile failed ({reason}): training runs uncompiled, several times slower",
                stacklevel=2,
            )
            self._step, self.compiled, self.sampler = self._eager, False, draw_weights
            self._step()

    def mean_nll(self) -> float:
        """The epoch's nll so far, nats per training example, each minibatch under its own draws."""
        return self.state.nll.item() / self._examples

    def objective(self) -> dict[str, float]:
        """The objective's parts for a row, after an epoch.

        nll: `mean_nll`. The log densities, nats for the whole network, are of one draw of the posterior as it
        stands; free_energy = temperature * complexity + N * nll, equation 8 summed over the epoch's
        minibatches, whose weights sum to 1 under either weighting.
        """
        if self.prior is None:
            return {"nll": self.mean_nll()}
        assert isinstance(self._config.method, BayesByBackpropConfig)
        posterior = DiagonalGaussian(*self.state.parameters)
        key = torch.tensor(self._config.seed, dtype=torch.int32, device=posterior.mu.device)
        _, eps = self.sampler(posterior, key, self.state.step, torch.zeros_like(self.state.step))
        # Double precision: millions of terms are summed, and the two log densities subtracted.
        posterior = DiagonalGaussian(*(parameter.double() for parameter in posterior))
        nll = torch.tensor(self.mean_nll() * self._examples, dtype=torch.float64, device=posterior.mu.device)
        parts = free_energy(posterior, self.prior, eps.double(), nll, 1.0, self._config.method.temperature)
        return {name: part.item() for name, part in parts._asdict().items()} | {"nll": self.mean_nll()}

    def load(self, saved: dict[str, Any]) -> None:
        """Continue from what `saved` held; raises UserError where it is of another network or optimizer."""
        shapes = [tensor.shape for tensor in self._tensors()]
        if [tensor.shape for tensor in saved["tensors"]] != shapes:
            raise UserError(f"{CHECKPOINT} is of another network or optimizer: start a new run")
        for target, source in zip(self._tensors(), saved["tensors"], strict=True):
            target.copy_(source)

    def saved(self) -> list[Tensor]:
        """The tensors a checkpoint holds, on the CPU."""
        return [tensor.cpu() for tensor in self._tensors()]

    def _tensors(self) -> list[Tensor]:
        return [
            *self.state.parameters,
            *(slot for slots in self.state.slots for slot in slots),
            self.state.step,
        ]
