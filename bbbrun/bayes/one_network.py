"""The methods without a posterior, whose parameters are weights: maximum likelihood, dropout, and ensembles.

They have the members of methods.Method.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.estimators import Batch, Gradients, batch_nll, flat
from bbbrun.bayes.likelihoods import Likelihood
from bbbrun.bayes.networks import Network, affine_maps
from bbbrun.bayes.priors import Prior
from bbbrun.errors import UserError
from bbbrun.runtime.gradients import gradient_and_value
from bbbrun.runtime.noise import Stream, uniform
from bbbrun.schema.methods import DropoutConfig, EnsembleConfig, MaximumLikelihoodConfig, MonteCarloDropoutConfig


class OneNetwork:
    """What most methods without a posterior share: one tensor, no complexity, one draw, no mean."""

    tensors: ClassVar[int] = 1
    random: ClassVar[bool] = False
    train_draws: ClassVar[int] = 1

    @property
    def copies(self) -> int:
        return 1

    def shares(self, minibatches: int) -> Tensor:
        return torch.zeros(minibatches, dtype=torch.float64)

    def init(self, network: Network, weights: Tensor, seed: int) -> list[Tensor]:
        return [weights]

    def require_trainable(self, network: Network) -> None:
        pass

    def draws(self, last: bool) -> int:
        return 1

    def available(self, draws: int) -> int:
        return 1

    def draw(self, network: Network, parameters: list[Tensor], draws: Draws, number: int) -> Tensor:
        return parameters[0]

    def mean(self, parameters: list[Tensor]) -> Tensor | None:
        return None

    def row(
        self, network: Network, parameters: list[Tensor], prior: Prior | None, nll: float, draws: Draws
    ) -> dict[str, float]:
        return {}


@dataclass(frozen=True)
class MaximumLikelihood(OneNetwork):
    """One network of maximum likelihood: the paper's SGD, its standard network and its greedy agents."""

    config: MaximumLikelihoodConfig

    name: ClassVar[str] = "mle"
    label: ClassVar[str] = "SGD"

    def gradients(self, network: Network, likelihood: Likelihood, step: Tensor, draws: int) -> Gradients:
        def outputs(weights: list[Tensor], inputs: Tensor, seed: Tensor) -> Tensor:
            return network.apply(weights, inputs)

        return _likelihood_gradients(network, likelihood, outputs)


@dataclass(frozen=True)
class Dropout(OneNetwork):
    """Dropout of inputs and hidden units in training, none in prediction (Hinton et al., 2012).

    Inverted: the remaining units are divided by 1 - rate, so that prediction needs no scaling.
    """

    config: DropoutConfig

    name: ClassVar[str] = "dropout"
    label: ClassVar[str] = "SGD, dropout"

    def rate(self, layer: int) -> float:
        """The share of the inputs of layer number `layer` that are dropped."""
        return self.config.hidden_rate if layer else self.config.input_rate

    def require_trainable(self, network: Network) -> None:
        affine_maps(network, f"method={self.name}")

    def gradients(self, network: Network, likelihood: Likelihood, step: Tensor, draws: int) -> Gradients:
        layers = affine_maps(network, f"method={self.name}")

        def outputs(weights: list[Tensor], inputs: Tensor, seed: Tensor) -> Tensor:
            def dropped(number: int, x: Tensor) -> Tensor:
                rate = self.rate(number)
                noise = uniform(seed, step, Stream.DROPOUT + number, x.numel(), x.device).view(x.shape)
                return F.linear(x * (noise >= rate) / (1 - rate), weights[2 * number], weights[2 * number + 1])

            return layers(dropped, inputs)

        return _likelihood_gradients(network, likelihood, outputs)


@dataclass(frozen=True)
class MonteCarloDropout(Dropout):
    """Trained as Dropout, with units dropped in prediction too: an average over networks with units missing.

    One mask per draw, shared by all inputs: dropping a unit sets its column of the weights to zero, so a draw is one
    network, as with Bayes by Backprop, and no prediction depends on the other inputs of its batch.
    Source: Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016.
    """

    config: MonteCarloDropoutConfig

    name: ClassVar[str] = "mc_dropout"
    label: ClassVar[str] = "MC dropout"
    random: ClassVar[bool] = True

    def draws(self, last: bool) -> int:
        return self.config.test_samples

    def available(self, draws: int) -> int:
        return draws

    def draw(self, network: Network, parameters: list[Tensor], draws: Draws, number: int) -> Tensor:
        """w_l diag(z_l) / (1 - rate_l) of each layer l, z_i = 1 with probability 1 - rate_l; the biases stay.

        Units are numbered across all layers: z_i is a function of (seed, step, number, i) alone.
        """
        weights = parameters[0].clone()
        layers = network.unflatten(weights)[::2]
        units = [layer.shape[1] for layer in layers]
        noise = uniform(draws.seed, draws.step, Stream.MASK + number, sum(units), weights.device).split(units)
        rates = map(self.rate, range(len(layers)))
        for layer, chances, rate in zip(layers, noise, rates, strict=True):
            layer.mul_((chances >= rate) / (1 - rate))
        return weights

    def mean(self, parameters: list[Tensor]) -> Tensor | None:
        return parameters[0]


@dataclass(frozen=True)
class Ensemble(OneNetwork):
    """`copies` networks trained as MaximumLikelihood from different initial weights; each is a draw of a prediction.

    One batched graph: all see the same minibatches, and the parameters (copies * P,) hold one network after another.
    nll is the mean over members. Source: Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive
    uncertainty estimation using deep ensembles", NIPS 2017, without its adversarial training.
    """

    config: EnsembleConfig

    name: ClassVar[str] = "ensemble"
    label: ClassVar[str] = "Deep ensemble"

    @property
    def copies(self) -> int:
        return self.config.members

    def require_trainable(self, network: Network) -> None:
        """Raise UserError where all members would start equal."""
        if network.start is not None and torch.equal(network.start(0), network.start(1)):
            raise UserError(
                f"method={self.name}: its members would start from the same weights and stay equal: leave out "
                "network.weights, or let network.target draw weights by torch's generator"
            )

    def draws(self, last: bool) -> int:
        return self.copies

    def available(self, draws: int) -> int:
        return self.copies

    def draw(self, network: Network, parameters: list[Tensor], draws: Draws, number: int) -> Tensor:
        return parameters[0].view(self.copies, -1)[number]

    def gradients(self, network: Network, likelihood: Likelihood, step: Tensor, draws: int) -> Gradients:
        def outputs(weights: list[Tensor], inputs: Tensor, seed: Tensor) -> Tensor:
            return network.apply(weights, inputs)

        of_one = _likelihood_gradients(network, likelihood, outputs)

        def gradients(
            parameters: list[Tensor],
            seed: Tensor,
            first: int | Tensor,
            prior: Prior | None,
            batch: Batch,
            weight: Tensor,
        ) -> tuple[list[Tensor], Tensor]:
            def of_member(weights: Tensor) -> tuple[Tensor, Tensor]:
                [gradient], nll = of_one([weights], seed, first, prior, batch, weight)
                return gradient, nll

            members, nll = torch.vmap(of_member)(parameters[0].view(self.copies, -1))
            return [members.reshape(-1)], nll.mean()

        return gradients


def _likelihood_gradients(
    network: Network, likelihood: Likelihood, outputs: Callable[[list[Tensor], Tensor, Tensor], Tensor]
) -> Gradients:
    """The gradient of the minibatch's nll alone. outputs: (weights, inputs, seed) -> the network's outputs."""

    def gradients(
        parameters: list[Tensor],
        seed: Tensor,
        first: int | Tensor,
        prior: Prior | None,
        batch: Batch,
        weight: Tensor,
    ) -> tuple[list[Tensor], Tensor]:
        def nll(weights: list[Tensor]) -> Tensor:
            return batch_nll(outputs(weights, batch.inputs, seed), likelihood, batch)

        (gradient,), value = gradient_and_value(nll, network.unflatten(parameters[0]))
        return [flat(gradient)], value

    return gradients
