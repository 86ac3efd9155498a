"""The options of each group: keys, types and ranges. Mirrors configs/, whose YAML holds every value and its meaning."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from bbbrun.schema.checks import (
    MOST_ROWS,
    require,
    require_count,
    require_deviation,
    require_draws,
    require_layers,
    require_positive,
    require_reward,
)


@dataclass(slots=True, kw_only=True)
class DatasetConfig:
    name: str
    bandit: ClassVar[bool] = False  # whether an agent acts on it; else it is learnt from in epochs


@dataclass(slots=True, kw_only=True)
class ImageDatasetConfig(DatasetConfig):
    """Images of K classes, pixels divided by `pixel_divisor`, `valid_size` of the training images held out."""

    valid_size: int
    pixel_divisor: float

    def __post_init__(self) -> None:
        require_count("dataset.valid_size", self.valid_size, least=0)
        require_positive("dataset.pixel_divisor", self.pixel_divisor)


@dataclass(slots=True, kw_only=True)
class MnistConfig(ImageDatasetConfig):
    root: str | None


@dataclass(slots=True, kw_only=True)
class DigitsConfig(ImageDatasetConfig):
    pass


@dataclass(slots=True, kw_only=True)
class RegressionCurveConfig(DatasetConfig):
    """Points of the paper's curve for x in [x_low, x_high), and the grid on which predictions are shown.

    scale_inputs: the network sees x with [x_low, x_high] mapped onto [-1, 1].
    likelihood_sigma: None where the network gives mean and sigma, else the sigma of a network that gives the mean.
    """

    train_points: int
    test_points: int
    x_low: float
    x_high: float
    noise_sigma: float
    scale_inputs: bool
    likelihood_sigma: float | None
    sigma_scale: float
    sigma_floor: float
    grid_low: float
    grid_high: float
    grid_points: int

    def __post_init__(self) -> None:
        for key, least in (("train_points", 1), ("test_points", 1), ("grid_points", 2)):
            require_count(f"dataset.{key}", getattr(self, key), least, MOST_ROWS, size=8)  # x and y, float32
        for part in ("x", "grid"):
            low, high = getattr(self, f"{part}_low"), getattr(self, f"{part}_high")
            require(-math.inf < low < math.inf, f"dataset.{part}_low", "a finite number", low)
            require(low < high < math.inf, f"dataset.{part}_high", f"finite and above dataset.{part}_low = {low}", high)
        require(0 <= self.noise_sigma < math.inf, "dataset.noise_sigma", "0 or more", self.noise_sigma)
        if self.likelihood_sigma is not None:
            require_deviation("dataset.likelihood_sigma", self.likelihood_sigma)
        require_deviation("dataset.sigma_scale", self.sigma_scale)
        require_deviation("dataset.sigma_floor", self.sigma_floor)


@dataclass(slots=True, kw_only=True)
class BanditDatasetConfig(DatasetConfig):
    """Base of the contextual bandits: a context is shown, one action taken, its reward seen."""

    bandit: ClassVar[bool] = True


@dataclass(slots=True, kw_only=True)
class MushroomConfig(BanditDatasetConfig):
    """Eating pays `edible_reward`, or one of the two `poisonous_rewards` with equal chance; passing pays 0."""

    root: str | None
    edible_reward: float
    poisonous_rewards: list[float]

    def __post_init__(self) -> None:
        require_reward("dataset.edible_reward", self.edible_reward)
        rewards = self.poisonous_rewards
        require(len(rewards) == 2, "dataset.poisonous_rewards", "a list of two numbers", rewards)
        for reward in rewards:
            require_reward("dataset.poisonous_rewards", reward)


@dataclass(slots=True, kw_only=True)
class WheelConfig(BanditDatasetConfig):
    """Rewards N(mu, sigma^2): mu1 for the first action, mu3 for one of the others beyond `delta`, else mu2."""

    delta: float
    mu1: float
    mu2: float
    mu3: float
    sigma: float

    def __post_init__(self) -> None:
        require(0 < self.delta < 1, "dataset.delta", "above 0 and below 1", self.delta)
        for key in ("mu1", "mu2", "mu3"):
            require_reward(f"dataset.{key}", getattr(self, key))
        # The order makes the first action the best one inside the wheel, and never the best one outside.
        between = f"between dataset.mu2 = {self.mu2} and dataset.mu3 = {self.mu3}"
        require(self.mu2 < self.mu1 < self.mu3, "dataset.mu1", between, self.mu1)
        require(0 <= self.sigma <= 1e15, "dataset.sigma", "from 0 to 1e15", self.sigma)


Init = StrEnum("Init", ["he", "uniform"])


@dataclass(slots=True, kw_only=True)
class NetworkConfig:
    name: str
    init: Init
    init_scale: float

    def __post_init__(self) -> None:
        require_positive("network.init_scale", self.init_scale)


@dataclass(slots=True, kw_only=True)
class MlpConfig(NetworkConfig):
    hidden: list[int]

    def __post_init__(self) -> None:
        NetworkConfig.__post_init__(self)
        require_layers("network.hidden", self.hidden)


Estimator = StrEnum("Estimator", ["weights", "local", "flipout"])


MinibatchWeights = StrEnum("MinibatchWeights", ["uniform", "paper"])


@dataclass(slots=True, kw_only=True)
class MethodConfig:
    name: str
    uses_prior: ClassVar[bool] = False


@dataclass(slots=True, kw_only=True)
class BayesByBackpropConfig(MethodConfig):
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


@dataclass(slots=True, kw_only=True)
class MaximumLikelihoodConfig(MethodConfig):
    pass


@dataclass(slots=True, kw_only=True)
class DropoutConfig(MethodConfig):
    input_rate: float
    hidden_rate: float

    def __post_init__(self) -> None:
        for key, rate in (("input_rate", self.input_rate), ("hidden_rate", self.hidden_rate)):
            require(0 <= rate < 1, f"method.{key}", "at least 0 and below 1", rate)


@dataclass(slots=True, kw_only=True)
class PriorConfig:
    name: str


@dataclass(slots=True, kw_only=True)
class ScaleMixtureConfig(PriorConfig):
    pi: float
    sigma1: float
    sigma2: float

    def __post_init__(self) -> None:
        require(1e-6 <= self.pi <= 1 - 1e-6, "prior.pi", "from 1e-6 to 1 - 1e-6", self.pi)
        require_deviation("prior.sigma1", self.sigma1)
        require_deviation("prior.sigma2", self.sigma2)
        require(self.sigma1 > self.sigma2, "prior.sigma1", f"above prior.sigma2 = {self.sigma2}", self.sigma1)


@dataclass(slots=True, kw_only=True)
class GaussianPriorConfig(PriorConfig):
    sigma: float

    def __post_init__(self) -> None:
        require_deviation("prior.sigma", self.sigma)


@dataclass(slots=True, kw_only=True)
class LaplacePriorConfig(PriorConfig):
    scale: float

    def __post_init__(self) -> None:
        require_deviation("prior.scale", self.scale)


@dataclass(slots=True, kw_only=True)
class NoPriorConfig(PriorConfig):
    pass


Schedule = StrEnum("Schedule", ["constant", "step", "inverse", "cosine"])


@dataclass(slots=True, kw_only=True)
class OptimizerConfig:
    name: str
    lr: float  # on the summed likelihood of a minibatch
    schedule: Schedule
    decay_epochs: int
    decay_factor: float

    def __post_init__(self) -> None:
        require_positive("optimizer.lr", self.lr)
        require_count("optimizer.decay_epochs", self.decay_epochs)
        require(0 < self.decay_factor <= 1, "optimizer.decay_factor", "above 0 and at most 1", self.decay_factor)


@dataclass(slots=True, kw_only=True)
class SgdConfig(OptimizerConfig):
    momentum: float

    def __post_init__(self) -> None:
        OptimizerConfig.__post_init__(self)
        require(0 <= self.momentum < 1, "optimizer.momentum", "at least 0 and below 1", self.momentum)


@dataclass(slots=True, kw_only=True)
class AdamConfig(OptimizerConfig):
    beta1: float
    beta2: float
    epsilon: float

    def __post_init__(self) -> None:
        OptimizerConfig.__post_init__(self)
        for key, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            require(0 <= beta < 1, f"optimizer.{key}", "at least 0 and below 1", beta)
        require_positive("optimizer.epsilon", self.epsilon)


@dataclass(slots=True, kw_only=True)
class AgentConfig:
    name: str


@dataclass(slots=True, kw_only=True)
class NoAgentConfig(AgentConfig):
    pass


@dataclass(slots=True, kw_only=True)
class ContextualAgentConfig(AgentConfig):
    """An agent that meets `steps` contexts one by one and learns from the last `buffer_size` of them."""

    steps: int
    epsilon: float
    buffer_size: int
    updates: int
    cold_start: bool
    likelihood_sigma: float

    def __post_init__(self) -> None:
        require_count("agent.steps", self.steps, most=MOST_ROWS, size=21)  # row, reward, action, whether by chance
        require(0 <= self.epsilon <= 1, "agent.epsilon", "from 0 to 1", self.epsilon)
        require_count("agent.buffer_size", self.buffer_size, most=MOST_ROWS, size=8)  # an input and a target at least
        require_count("agent.updates", self.updates)
        require_deviation("agent.likelihood_sigma", self.likelihood_sigma)
