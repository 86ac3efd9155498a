"""The methods side by side: what each keeps as parameters, how it learns, and how it predicts.

Every class has the same members; nothing outside this module asks which method it has.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.estimators import Batch, batch_nll, flat, free_energy_estimator
from bbbrun.bayes.likelihoods import Likelihood
from bbbrun.bayes.networks import Network
from bbbrun.bayes.objective import FreeEnergy, free_energy, minibatch_weights
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.priors import Prior
from bbbrun.runtime.noise import Stream, uniform
from bbbrun.schema.methods import BayesByBackpropConfig, DropoutConfig, MaximumLikelihoodConfig, MethodConfig

_BLOCK = 1 << 17  # weights whose log densities are computed at once: all, in double precision, take much memory

# (parameters, seed, prior, batch, the minibatch's share of the complexity) -> gradients (P,), the minibatch's nll
Gradients = Callable[[list[Tensor], Tensor, Prior | None, Batch, Tensor], tuple[list[Tensor], Tensor]]


class Method(Protocol):
    """What training and prediction ask of a method. Its parameters are `tensors` flat tensors of length P."""

    name: ClassVar[str]
    label: ClassVar[str]
    tensors: ClassVar[int]
    random: ClassVar[bool]  # whether the draws of a prediction differ

    @property
    def train_draws(self) -> int:
        """How many draws of the weights a training step takes."""

    def shares(self, minibatches: int) -> Tensor:
        """What each minibatch of an epoch counts of the complexity, times the temperature, float64 (M,)."""

    def init(self, weights: Tensor, seed: int) -> list[Tensor]:
        """The parameters that training starts from, on the CPU, for starting weights (P,)."""

    def gradients(self, network: Network, likelihood: Likelihood, step: Tensor) -> Gradients:
        """The gradient of a training step, a function that reads the step's number from `step`, an int32 scalar.

        Raises ValueError where the method cannot train this network.
        """

    def draws(self, last: bool) -> int:
        """How many draws an evaluation averages over, and the last one."""

    def draw(self, parameters: list[Tensor], draws: Draws, number: int) -> Tensor:
        """The weights (P,) of draw number `number` of a prediction."""

    def mean(self, parameters: list[Tensor]) -> Tensor | None:
        """The mean weights (P,); None where there is no distribution to have one."""

    def row(self, parameters: list[Tensor], prior: Prior | None, nll: float, draws: Draws) -> dict[str, float]:
        """The method's columns of a row, for the epoch's `nll`, summed over its examples, nats."""


@dataclass(frozen=True)
class BayesByBackprop:
    """A diagonal Gaussian over the weights, (mu, rho), trained on the free energy (paper, section 3)."""

    config: BayesByBackpropConfig

    name: ClassVar[str] = "bbb"
    label: ClassVar[str] = "Bayes by Backprop"
    tensors: ClassVar[int] = 2
    random: ClassVar[bool] = True

    @property
    def train_draws(self) -> int:
        return self.config.train_samples

    def shares(self, minibatches: int) -> Tensor:
        return minibatch_weights(self.config.minibatch_weights, minibatches) * self.config.temperature

    def init(self, weights: Tensor, seed: int) -> list[Tensor]:
        low, high = self.config.rho_init
        return [weights, low + (high - low) * uniform(seed, 0, Stream.RHO, len(weights))]

    def gradients(self, network: Network, likelihood: Likelihood, step: Tensor) -> Gradients:
        estimate = free_energy_estimator(self.config, network, likelihood)

        def gradients(
            parameters: list[Tensor], seed: Tensor, prior: Prior | None, batch: Batch, weight: Tensor
        ) -> tuple[list[Tensor], Tensor]:
            assert prior is not None
            *parts, nll = estimate(DiagonalGaussian(*parameters), prior, seed, step, batch, weight)
            return parts, nll

        return gradients

    def draws(self, last: bool) -> int:
        return self.config.final_samples if last and self.config.final_samples else self.config.test_samples

    def draw(self, parameters: list[Tensor], draws: Draws, number: int) -> Tensor:
        # Its eps is let go before the weights are used.
        return draws.sample(DiagonalGaussian(*parameters), number)[0]

    def mean(self, parameters: list[Tensor]) -> Tensor | None:
        return parameters[0]

    def row(self, parameters: list[Tensor], prior: Prior | None, nll: float, draws: Draws) -> dict[str, float]:
        """The log densities of one draw, and equation 8 summed over the epoch, whose minibatches' weights sum to 1."""
        assert prior is not None
        posterior = DiagonalGaussian(*parameters)
        eps = draws.sample(posterior, 0)[1]
        total = torch.tensor(nll, dtype=torch.float64, device=posterior.mu.device)
        # The nll is one number for all blocks, so only the last block adds it.
        shares = [torch.zeros_like(total)] * ((len(eps) - 1) // _BLOCK) + [total]
        blocks = zip(shares, *(whole.split(_BLOCK) for whole in (*posterior, eps)), strict=True)
        # Double precision: millions of terms are summed, and the two log densities subtracted.
        parts = [
            free_energy(
                DiagonalGaussian(mu.double(), rho.double()), prior, noise.double(), share, 1.0, self.config.temperature
            )
            for share, mu, rho, noise in blocks
        ]
        sums = FreeEnergy(*(torch.stack(terms).sum() for terms in zip(*parts, strict=True)))
        return {name: part.item() for name, part in sums._asdict().items() if name != "nll"}


class OneNetwork:
    """What methods without a posterior share: their parameters are the weights of one network."""

    tensors: ClassVar[int] = 1
    random: ClassVar[bool] = False
    train_draws: ClassVar[int] = 1

    def shares(self, minibatches: int) -> Tensor:
        return torch.zeros(minibatches, dtype=torch.float64)

    def init(self, weights: Tensor, seed: int) -> list[Tensor]:
        return [weights]

    def draws(self, last: bool) -> int:
        return 1

    def draw(self, parameters: list[Tensor], draws: Draws, number: int) -> Tensor:
        return parameters[0]

    def mean(self, parameters: list[Tensor]) -> Tensor | None:
        return None

    def row(self, parameters: list[Tensor], prior: Prior | None, nll: float, draws: Draws) -> dict[str, float]:
        return {}


@dataclass(frozen=True)
class MaximumLikelihood(OneNetwork):
    """One network that makes the training data likely: the paper's SGD, its standard network, its greedy agents."""

    config: MaximumLikelihoodConfig

    name: ClassVar[str] = "mle"
    label: ClassVar[str] = "SGD"

    def gradients(self, network: Network, likelihood: Likelihood, step: Tensor) -> Gradients:
        def outputs(weights: list[Tensor], inputs: Tensor, seed: Tensor) -> Tensor:
            return network.apply(weights, inputs)

        return _likelihood_gradients(network, likelihood, outputs)


@dataclass(frozen=True)
class Dropout(OneNetwork):
    """Dropout of inputs and hidden units in training, none in prediction (Hinton et al., 2012).

    Inverted: what stays is divided by 1 - rate, so that prediction needs no scaling.
    """

    config: DropoutConfig

    name: ClassVar[str] = "dropout"
    label: ClassVar[str] = "SGD, dropout"

    def gradients(self, network: Network, likelihood: Likelihood, step: Tensor) -> Gradients:
        layers = network.layers
        if layers is None:
            raise ValueError("dropout needs a network of affine maps: this one may be anything")
        rates = (self.config.input_rate, self.config.hidden_rate)

        def outputs(weights: list[Tensor], inputs: Tensor, seed: Tensor) -> Tensor:
            def dropped(number: int, x: Tensor) -> Tensor:
                rate = rates[min(number, 1)]
                noise = uniform(seed, step, Stream.DROPOUT + number, x.numel(), x.device).view(x.shape)
                return F.linear(x * (noise >= rate) / (1 - rate), weights[2 * number], weights[2 * number + 1])

            return layers(dropped, inputs)

        return _likelihood_gradients(network, likelihood, outputs)


METHODS: dict[str, type[Any]] = {method.name: method for method in (BayesByBackprop, MaximumLikelihood, Dropout)}


def build_method(config: MethodConfig) -> Method:
    """The method that the configuration names."""
    method: Method = METHODS[config.name](config)
    return method


def drawn(method: Method, parameters: list[Tensor], draws: Draws) -> Iterator[Tensor]:
    """The weights (P,) of each draw of a prediction, made when they are asked for."""
    return (method.draw(parameters, draws, number) for number in range(draws.count))


def _likelihood_gradients(
    network: Network, likelihood: Likelihood, outputs: Callable[[list[Tensor], Tensor, Tensor], Tensor]
) -> Gradients:
    """The gradient of the minibatch's nll alone, of the outputs that `outputs` makes of (weights, inputs, seed)."""

    def gradients(
        parameters: list[Tensor], seed: Tensor, prior: Prior | None, batch: Batch, weight: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        def nll(weights: list[Tensor]) -> Tensor:
            return batch_nll(outputs(weights, batch.inputs, seed), likelihood, batch)

        gradient, value = torch.func.grad_and_value(nll)(network.unflatten(parameters[0]))
        return [flat(gradient)], value

    return gradients
