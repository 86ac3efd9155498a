"""The options of `network`, `method` and `prior`: keys, types and ranges."""

import re
from enum import StrEnum
from typing import Any, ClassVar

from bbbrun.schema.checks import (
    require,
    require_count,
    require_deviation,
    require_draws,
    require_layers,
    require_positive,
)
from bbbrun.schema.structured import structured

Init = StrEnum("Init", ["he", "uniform"])
# What the factors of a training step's matrix products are rounded to; all else is float32.
Precision = StrEnum("Precision", ["float32", "tf32", "bfloat16"])


@structured
class NetworkConfig:
    """Base of the networks."""

    name: str
    imports: ClassVar[bool] = False  # whether the configuration names code to import


@structured
class DrawnConfig(NetworkConfig):
    """A network whose starting weights are drawn."""

    init: Init
    init_scale: float

    def __post_init__(self) -> None:
        require_positive("network.init_scale", self.init_scale)


@structured
class MlpConfig(DrawnConfig):
    """Fully connected layers. hidden: units of each hidden layer."""

    hidden: list[int]

    def __post_init__(self) -> None:
        DrawnConfig.__post_init__(self)
        require_layers("network.hidden", self.hidden)


@structured
class LenetConfig(DrawnConfig):
    """channels: outputs of each convolution. hidden: units of the layers after the convolutions."""

    channels: list[int]
    hidden: list[int]

    def __post_init__(self) -> None:
        DrawnConfig.__post_init__(self)
        require(len(self.channels) == 2, "network.channels", "a list of two numbers", self.channels)
        require_layers("network.channels", self.channels)
        require_layers("network.hidden", self.hidden)


@structured
class ModuleConfig(NetworkConfig):
    """The torch.nn.Module that a user's own function or class makes from `args`.

    deterministic: patterns of the names of parameters that stay single numbers. weights: a state dict to start from.
    """

    target: str | None
    args: Any
    deterministic: list[str]
    weights: str | None
    imports: ClassVar[bool] = True

    def __post_init__(self) -> None:
        valid = self.target is None or re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", self.target) is not None
        require(valid, "network.target", "package.factory, the name of a function or class", repr(self.target))
        valid = self.args is None or (isinstance(self.args, dict) and all(isinstance(key, str) for key in self.args))
        require(valid, "network.args", "{name: value}, the arguments by name, or null", self.args)
        require(self.weights != "", "network.weights", "a file, or null", "an empty word")
        require(all(self.deterministic), "network.deterministic", "a list of patterns", self.deterministic)


Estimator = StrEnum("Estimator", ["weights", "local", "flipout"])


MinibatchWeights = StrEnum("MinibatchWeights", ["uniform", "paper"])


@structured
class MethodConfig:
    """Base of the methods."""

    name: str
    uses_prior: ClassVar[bool] = False


@structured
class BayesByBackpropConfig(MethodConfig):
    """Bayes by Backprop: rho starts uniform in the range `rho_init`; `temperature` scales the complexity."""

    train_samples: int
    test_samples: int
    final_samples: int | None
    estimator: Estimator
    minibatch_weights: MinibatchWeights
    temperature: float
    rho_init: list[float]
    uses_prior: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_draws("method.train_samples", self.train_samples)
        require_draws("method.test_samples", self.test_samples)
        if self.final_samples is not None:
            require_draws("method.final_samples", self.final_samples)
        require_positive("method.temperature", self.temperature)
        ordered = len(self.rho_init) == 2 and -50 <= self.rho_init[0] <= self.rho_init[-1] <= 50
        require(ordered, "method.rho_init", "[lowest, highest] with -50 <= lowest <= highest <= 50", self.rho_init)


@structured
class MaximumLikelihoodConfig(MethodConfig):
    """One vector of weights of maximum likelihood."""


@structured
class DropoutConfig(MethodConfig):
    """Maximum likelihood with dropout: the probabilities that an input and a hidden unit are left out."""

    input_rate: float
    hidden_rate: float

    def __post_init__(self) -> None:
        for key, rate in (("input_rate", self.input_rate), ("hidden_rate", self.hidden_rate)):
            require(0 <= rate < 1, f"method.{key}", "at least 0 and below 1", rate)


@structured
class MonteCarloDropoutConfig(DropoutConfig):
    """Dropout that predicts with the mean of `test_samples` networks."""

    test_samples: int

    def __post_init__(self) -> None:
        DropoutConfig.__post_init__(self)
        require_draws("method.test_samples", self.test_samples)


@structured
class EnsembleConfig(MethodConfig):
    """The mean prediction of `members` networks of maximum likelihood."""

    members: int

    def __post_init__(self) -> None:
        require_count("method.members", self.members, least=2, most=1000)


@structured
class PriorConfig:
    """Base of the priors, of each weight alone."""

    name: str


@structured
class ScaleMixtureConfig(PriorConfig):
    """pi N(0, sigma1^2) + (1 - pi) N(0, sigma2^2), equation 7 of the paper."""

    pi: float
    sigma1: float
    sigma2: float

    def __post_init__(self) -> None:
        require(1e-6 <= self.pi <= 1 - 1e-6, "prior.pi", "from 1e-6 to 1 - 1e-6", self.pi)
        require_deviation("prior.sigma1", self.sigma1)
        require_deviation("prior.sigma2", self.sigma2)
        require(self.sigma1 > self.sigma2, "prior.sigma1", f"above prior.sigma2 = {self.sigma2}", self.sigma1)


@structured
class GaussianPriorConfig(PriorConfig):
    """N(0, sigma^2)."""

    sigma: float

    def __post_init__(self) -> None:
        require_deviation("prior.sigma", self.sigma)


@structured
class LaplacePriorConfig(PriorConfig):
    """exp(-|w| / scale) / (2 scale)."""

    scale: float

    def __post_init__(self) -> None:
        require_deviation("prior.scale", self.scale)


@structured
class NoPriorConfig(PriorConfig):
    """No prior: the method has none."""


# option -> dataclass
NETWORKS: dict[str, type[Any]] = {"mlp": MlpConfig, "lenet": LenetConfig, "module": ModuleConfig}
METHODS: dict[str, type[Any]] = {
    "bbb": BayesByBackpropConfig,
    "mle": MaximumLikelihoodConfig,
    "dropout": DropoutConfig,
    "mc_dropout": MonteCarloDropoutConfig,
    "ensemble": EnsembleConfig,
}
PRIORS: dict[str, type[Any]] = {
    "scale_mixture": ScaleMixtureConfig,
    "gaussian": GaussianPriorConfig,
    "laplace": LaplacePriorConfig,
    "none": NoPriorConfig,
}
