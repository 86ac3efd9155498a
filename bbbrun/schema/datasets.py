"""The options of `dataset` and `agent`: keys, types and ranges."""

import math
from typing import Any, ClassVar

from bbbrun.schema.checks import MOST_ROWS, require, require_count, require_deviation, require_positive, require_reward
from bbbrun.schema.structured import structured


@structured
class DatasetConfig:
    """Base of the data sets."""

    name: str
    bandit: ClassVar[bool] = False  # whether an agent acts on it; else training goes through it in epochs
    validation: ClassVar[tuple[str, ...]] = ()  # the keys that hold rows out for validation, where one is set


@structured
class ImageDatasetConfig(DatasetConfig):
    """Images of K classes, pixels divided by `pixel_divisor`, `valid_size` of the training images held out.

    test: whether a run is judged on the test images as well.
    """

    validation: ClassVar[tuple[str, ...]] = ("valid_size",)
    valid_size: int
    pixel_divisor: float
    test: bool = True  # by default, so that files of one's own need not have the key

    def __post_init__(self) -> None:
        require_count("dataset.valid_size", self.valid_size, least=0)
        require_positive("dataset.pixel_divisor", self.pixel_divisor)
        require(self.test or self.valid_size > 0, "dataset.valid_size", "at least 1 with dataset.test=false", 0)


@structured
class MnistConfig(ImageDatasetConfig):
    """MNIST, and the sets in its format; root: the folder of their files."""

    root: str | None


@structured
class DigitsConfig(ImageDatasetConfig):
    """scikit-learn's digits, which need no files."""


@structured
class RegressionCurveConfig(DatasetConfig):
    """Points of the paper's curve for x in [x_low, x_high), and the grid on which predictions are shown.

    scale_inputs: the network sees x with [x_low, x_high] mapped onto [-1, 1].
    likelihood_sigma: None where the network gives mean and sigma; else the fixed sigma around the network's mean.
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


@structured
class BanditDatasetConfig(DatasetConfig):
    """Base of the contextual bandits: the agent sees a context, takes one action and gets its reward."""

    bandit: ClassVar[bool] = True


@structured
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


@structured
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


@structured
class AgentConfig:
    """Base of the agents."""

    name: str


@structured
class NoAgentConfig(AgentConfig):
    """No agent: training goes through the data set in epochs."""


@structured
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


# option -> dataclass
DATASETS: dict[str, type[Any]] = {
    "mnist": MnistConfig,
    "fashion_mnist": MnistConfig,
    "kmnist": MnistConfig,
    "digits": DigitsConfig,
    "regression_curve": RegressionCurveConfig,
    "mushroom": MushroomConfig,
    "wheel": WheelConfig,
}
AGENTS: dict[str, type[Any]] = {"none": NoAgentConfig, "contextual": ContextualAgentConfig}
