"""The tensors of one training: built from the configuration, moved by an epoch's steps, saved and loaded."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import pandas as pd
import torch
from torch import Tensor

from bbbrun.bayes.estimators import Likelihood
from bbbrun.bayes.networks import Network, initial_weights
from bbbrun.bayes.objective import FreeEnergy, free_energy, minibatch_weights
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.predictive import Sampler, draw_weights
from bbbrun.bayes.priors import Prior, build_prior, join_priors
from bbbrun.errors import UserError
from bbbrun.runs.files import CHECKPOINT
from bbbrun.runtime.device import compiled, should_compile
from bbbrun.runtime.noise import Stream, permutation, uniform
from bbbrun.runtime.replay import Recorded
from bbbrun.schema.config import Config
from bbbrun.schema.options import BayesByBackpropConfig
from bbbrun.training.optimizers import build_optimizer, learning_rates
from bbbrun.training.step import Epoch, changed, initial_state, make_step

_BLOCK = 1 << 17  # weights whose log densities are computed at once: all, in double precision, take much memory


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


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The tensors of R replicas as one (R, ...); one alone stays as it is."""
    return torch.stack(list(parts)) if len(parts) > 1 else parts[0]


class Trainer:
    """Holds the tensors of one training, or of R replicas at once, and moves them by one epoch at a time.

    configs: one, or one for each replica: they differ in REPLICABLE keys alone. tasks: as many, of one shape.
    An epoch has `minibatches` of them, or as many as show every example once. epochs: how many there will be.
    """

    def __init__(
        self,
        configs: Sequence[Config],
        tasks: Sequence[Problem],
        device: torch.device,
        epochs: int,
        minibatches: int | None = None,
    ) -> None:
        config, task = configs[0], tasks[0]
        self._configs, self._epochs = configs, epochs
        examples = len(task.inputs)
        # A bandit's minibatches are drawn with repetition, and may be larger than its memory.
        size = config.train.batch_size if minibatches else min(config.train.batch_size, examples)
        self.minibatches = minibatches or math.ceil(examples / size)
        self._examples = self.minibatches * size if minibatches else examples
        self._optimizer = optimizer = build_optimizer(config.optimizer)
        numbers = 1 + optimizer.rates(torch.zeros(1), 0).shape[1]
        lead = (len(configs),) if len(configs) > 1 else ()
        self.epoch = Epoch(
            order=torch.zeros(*lead, self.minibatches, size, dtype=torch.int64, device=device),
            present=torch.zeros(self.minibatches, size, device=device),
            numbers=torch.zeros(*lead, self.minibatches, numbers, device=device),
            position=torch.zeros(1, dtype=torch.int64, device=device),
        )
        self.epoch.present.view(-1)[: self._examples] = 1
        draws = 1
        self.priors: list[Prior] = []
        for numbers_of, each in zip(self._each(self.epoch.numbers), configs, strict=True):
            if isinstance(each.method, BayesByBackpropConfig):
                draws = each.method.train_samples
                weights = minibatch_weights(each.method.minibatch_weights, self.minibatches)
                numbers_of[:, 0].copy_(weights * each.method.temperature)
                self.priors.append(build_prior(each.prior, device))
        starts = [initial_parameters(each, task.network, device) for each in configs]
        self.state = initial_state([_joined(parts) for parts in zip(*starts, strict=True)], optimizer)
        # Of replicas with data of their own the data sets lie one behind the other, and `order` says where.
        self._offset = 0 if all(other.inputs is task.inputs for other in tasks) else examples
        eager = make_step(
            task.network,
            task.likelihood,
            config.method,
            join_priors(self.priors),
            optimizer,
            torch.cat([each.inputs for each in tasks]) if self._offset else task.inputs,
            torch.cat([each.targets for each in tasks]) if self._offset else task.targets,
            [each.seed for each in configs] if lead else config.seed,
            self.epoch,
            self.state,
        )
        steps = epochs * self.minibatches
        self.compiled, warning = should_compile(config, task.network.size * len(configs), steps, draws, device)
        if warning:
            warnings.warn(warning, stacklevel=2)
        # The jobs of a sweep share a process, and its compiler refuses a ninth version of one function.
        if self.compiled:
            torch.compiler.reset()
        self.sampler: Sampler = compiled(draw_weights) if self.compiled else draw_weights
        self._steps = Recorded(compiled(eager) if self.compiled else eager, changed(self.epoch, self.state))
        self._eager = eager

    def _each(self, tensor: Tensor) -> list[Tensor]:
        """What belongs to each replica of a tensor that has all of them, as views."""
        return list(tensor) if len(self._configs) > 1 else [tensor]

    def parameters(self, replica: int = 0) -> list[Tensor]:
        """(mu, rho) or (weights,) of a replica, each (P,)."""
        return [self._each(parameter)[replica] for parameter in self.state.parameters]

    def begin_epoch(self, epoch: int, order: Tensor | None = None) -> list[Tensor]:
        """Write the tables of an epoch (counted from 0) and return the learning rates (M,) of each replica.

        order: the examples to visit, minibatch by minibatch; by default all of them, in the seed's order.
        """
        epoch_rates: list[Tensor] = []
        tables = zip(self._each(self.epoch.numbers), self._each(self.epoch.order), self._configs, strict=True)
        for replica, (numbers, places, config) in enumerate(tables):
            rates = learning_rates(config.optimizer, epoch, self._epochs, self.minibatches)
            numbers[:, 1:].copy_(self._optimizer.rates(rates, epoch * self.minibatches))
            visited = permutation(config.seed, epoch, self._examples) if order is None else order
            places.view(-1)[: self._examples] = (visited + replica * self._offset).to(places.device)
            epoch_rates.append(rates)
        self.epoch.position.zero_()
        self.state.nll.zero_()
        return epoch_rates

    def steps(self, count: int) -> None:
        """The next `count` minibatches; falls back to uncompiled steps, with one warning, where compiling fails."""
        try:
            self._steps(count)
        except torch._dynamo.exc.TorchDynamoException as error:
            # Compiling fails before anything runs, so the state is as it was.
            reason = str(error).strip().splitlines()[0]
            warnings.warn(
                f"torch.compile failed ({reason}): training runs uncompiled, several times slower",
                stacklevel=2,
            )
            self._steps = Recorded(self._eager, changed(self.epoch, self.state))
            self.compiled, self.sampler = False, draw_weights
            self._steps(count)

    def mean_nll(self, replica: int = 0) -> float:
        """A replica's nll in the epoch so far, nats per training example, each minibatch under its own draws."""
        return self._each(self.state.nll)[replica].item() / self._examples

    def objective(self, replica: int = 0) -> dict[str, float]:
        """The objective's parts for a replica's row, after an epoch.

        nll: `mean_nll`. The log densities, nats for the whole network, are of one draw of the posterior as it
        stands; free_energy = temperature * complexity + N * nll, equation 8 summed over the epoch's
        minibatches, whose weights sum to 1 under either weighting.
        """
        mean_nll, config = self.mean_nll(replica), self._configs[replica]
        if not isinstance(config.method, BayesByBackpropConfig):
            return {"nll": mean_nll}
        posterior = DiagonalGaussian(*self.parameters(replica))
        key = torch.tensor(config.seed, dtype=torch.int32, device=posterior.mu.device)
        eps = self.sampler(posterior, key, self.state.step, torch.zeros_like(self.state.step))[1]
        nll = torch.tensor(mean_nll * self._examples, dtype=torch.float64, device=posterior.mu.device)
        # The likelihood is of the whole network, and so counted with the last block alone.
        shares = [torch.zeros_like(nll)] * ((len(eps) - 1) // _BLOCK) + [nll]
        blocks = zip(shares, *(whole.split(_BLOCK) for whole in (*posterior, eps)), strict=True)
        # Double precision: millions of terms are summed, and the two log densities subtracted.
        parts = [
            free_energy(
                DiagonalGaussian(mu.double(), rho.double()),
                self.priors[replica],
                noise.double(),
                share,
                1.0,
                config.method.temperature,
            )
            for share, mu, rho, noise in blocks
        ]
        sums = FreeEnergy(*(torch.stack(terms).sum() for terms in zip(*parts, strict=True)))
        return {name: part.item() for name, part in sums._asdict().items()} | {"nll": mean_nll}

    def load(self, saved: dict[str, Any]) -> None:
        """Continue from what `saved` held; raises UserError where it is of another network or optimizer."""
        shapes = [tensor.shape for tensor in self.state.tensors()]
        if [tensor.shape for tensor in saved["tensors"]] != shapes:
            raise UserError(f"{CHECKPOINT} is of another network or optimizer: start a new run")
        for target, source in zip(self.state.tensors(), saved["tensors"], strict=True):
            target.copy_(source)

    def saved(self) -> list[Tensor]:
        """The tensors a checkpoint holds, on the CPU, of all replicas."""
        return [tensor.cpu() for tensor in self.state.tensors()]

    def saved_of(self, replica: int) -> list[Tensor]:
        """What `saved` would hold, had the replica been trained alone."""
        *each, step = self.state.tensors()
        # Clones: of a view the whole storage would be saved, with all replicas.
        return [*(self._each(tensor)[replica].cpu().clone() for tensor in each), step.cpu()]
