"""The contract of a method: its parameters, how it learns, how it predicts; and Bayes by Backprop.

Every class has the same members, here and in one_network.py; training and prediction never ask which they have.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.estimators import Batch, Gradients, free_energy_estimator, require_estimator
from bbbrun.bayes.likelihoods import Likelihood
from bbbrun.bayes.networks import Network
from bbbrun.bayes.objective import FreeEnergy, free_energy, minibatch_weights
from bbbrun.bayes.one_network import Dropout, Ensemble, MaximumLikelihood, MonteCarloDropout
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.priors import Prior
from bbbrun.runtime.noise import Stream, uniform
from bbbrun.schema.methods import BayesByBackpropConfig, MethodConfig

_CERTAIN = -50.0  # rho of a weight without a posterior: its sigma, 2e-22, changes no weight in float32
_BLOCK = 1 << 17  # weights whose log densities are computed at once, in double precision: a bound on the memory


class Method(Protocol):
    """The contract of a method for training and prediction.

    Its parameters are `tensors` flat tensors of length P, or copies * P where it trains several networks.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    tensors: ClassVar[int]
    random: ClassVar[bool]  # whether the seed decides the draws of a prediction

    @property
    def copies(self) -> int:
        """The number of networks that it trains at once."""

    @property
    def train_draws(self) -> int:
        """The number of draws of the weights in a training step."""

    def shares(self, minibatches: int) -> Tensor:
        """The share of the complexity of each minibatch of an epoch, times the temperature, float64 (M,)."""

    def init(self, network: Network, weights: Tensor, seed: int) -> list[Tensor]:
        """The parameters that training starts from, on the CPU, for starting weights (copies * P,)."""

    def require_trainable(self, network: Network) -> None:
        """Raise UserError where the method cannot train this network."""

    def gradients(self, network: Network, likelihood: Likelihood, step: Tensor, draws: int) -> Gradients:
        """A function for the gradient of a training step, the mean over `draws` of its `train_draws` draws.

        It reads the step's number from `step`, an int32 scalar. Raises UserError where the method cannot train this
        network.
        """

    def draws(self, last: bool) -> int:
        """The number of draws that an evaluation averages over; `last`: in the last evaluation."""

    def available(self, draws: int) -> int:
        """The number of different draws of a prediction with `draws` requested."""

    def draw(self, network: Network, parameters: list[Tensor], draws: Draws, number: int) -> Tensor:
        """The weights (P,) of draw number `number` of a prediction: one network, the same for all of its inputs."""

    def mean(self, parameters: list[Tensor]) -> Tensor | None:
        """The mean weights (P,), of MC dropout those without masks; None where there are none."""

    def row(
        self, network: Network, parameters: list[Tensor], prior: Prior | None, nll: float, draws: Draws
    ) -> dict[str, float]:
        """The method's columns of a row, for the epoch's `nll`, summed over its examples, nats."""


@dataclass(frozen=True)
class BayesByBackprop:
    """A diagonal Gaussian over the weights, (mu, rho), trained on the free energy (paper, section 3)."""

    config: BayesByBackpropConfig

    name: ClassVar[str] = "bbb"
    label: ClassVar[str] = "Bayes by Backprop"
    tensors: ClassVar[int] = 2
    random: ClassVar[bool] = True
    copies: ClassVar[int] = 1

    @property
    def train_draws(self) -> int:
        return self.config.train_samples

    def shares(self, minibatches: int) -> Tensor:
        return minibatch_weights(self.config.minibatch_weights, minibatches) * self.config.temperature

    def init(self, network: Network, weights: Tensor, seed: int) -> list[Tensor]:
        low, high = self.config.rho_init
        rho = low + (high - low) * uniform(seed, 0, Stream.RHO, len(weights))
        return [weights, rho if network.random is None else rho.where(network.random > 0, _CERTAIN)]

    def require_trainable(self, network: Network) -> None:
        require_estimator(self.config.estimator, network)

    def gradients(self, network: Network, likelihood: Likelihood, step: Tensor, draws: int) -> Gradients:
        random = None if network.random is None else network.random.to(step.device)
        estimate = free_energy_estimator(self.config.estimator, draws, network, likelihood, random)

        def gradients(
            parameters: list[Tensor],
            seed: Tensor,
            first: int | Tensor,
            prior: Prior | None,
            batch: Batch,
            weight: Tensor,
        ) -> tuple[list[Tensor], Tensor]:
            assert prior is not None
            *parts, nll = estimate(DiagonalGaussian(*parameters), prior, seed, step, first, batch, weight)
            return parts, nll

        return gradients

    def draws(self, last: bool) -> int:
        return self.config.final_samples if last and self.config.final_samples else self.config.test_samples

    def available(self, draws: int) -> int:
        return draws

    def draw(self, network: Network, parameters: list[Tensor], draws: Draws, number: int) -> Tensor:
        # eps is freed before the weights are used.
        return draws.sample(DiagonalGaussian(*parameters), number)[0]

    def mean(self, parameters: list[Tensor]) -> Tensor | None:
        return parameters[0]

    def row(
        self, network: Network, parameters: list[Tensor], prior: Prior | None, nll: float, draws: Draws
    ) -> dict[str, float]:
        """The log densities of one draw, and equation 8 summed over the epoch, whose minibatches' weights sum to 1."""
        assert prior is not None
        posterior = DiagonalGaussian(*parameters)
        eps = draws.sample(posterior, 0)[1]
        if network.random is not None:
            random = network.random.to(eps.device) > 0
            posterior, eps = DiagonalGaussian(*(each[random] for each in posterior)), eps[random]
        none = torch.zeros((), dtype=torch.float64, device=eps.device)
        # Double precision: millions of terms are summed, and the two log densities subtracted.
        parts = [
            free_energy(
                DiagonalGaussian(mu.double(), rho.double()), prior, noise.double(), none, 1.0, self.config.temperature
            )
            for mu, rho, noise in zip(*(vector.split(_BLOCK) for vector in (*posterior, eps)), strict=True)
        ]
        row = {name: sum(getattr(part, name).item() for part in parts) for name in FreeEnergy._fields if name != "nll"}
        # The blocks' free energies lack the nll, one number for all of them.
        return row | {"free_energy": row["free_energy"] + nll}


METHODS: dict[str, type[Any]] = {
    method.name: method for method in (BayesByBackprop, MaximumLikelihood, Dropout, MonteCarloDropout, Ensemble)
}


def build_method(config: MethodConfig) -> Method:
    """The method that the configuration names."""
    method: Method = METHODS[config.name](config)
    return method


def drawn(method: Method, network: Network, parameters: list[Tensor], draws: Draws) -> Iterator[Tensor]:
    """The weights (P,) of each draw of a prediction, one after another."""
    return (method.draw(network, parameters, draws, number) for number in range(draws.count))
