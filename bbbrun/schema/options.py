"""The options of network, agent, method, prior and optimizer: keys, types and ranges. YAML in configs/ holds values."""

from dataclasses import dataclass
from enum import Enum

from bbbrun.schema.checks import require, require_count, require_deviation, require_positive

# So that what the noise of a training step adds to its stream stays below 2^24, whatever the estimator.
MOST_DRAWS, MOST_LAYERS = 1 << 16, 100


class MinibatchWeights(Enum):
    uniform = "uniform"
    paper = "paper"


class Schedule(Enum):
    constant = "constant"
    step = "step"
    inverse = "inverse"
    cosine = "cosine"


class Estimator(Enum):
    weights = "weights"
    local = "local"
    flipout = "flipout"


class Init(Enum):
    he = "he"
    uniform = "uniform"


@dataclass(slots=True, kw_only=True)
class NetworkConfig:
    name: str
    hidden: list[int]
    init: Init
    init_scale: float

    def __post_init__(self) -> None:
        for units in self.hidden:
            require(units >= 1, "network.hidden", "a list of whole numbers of at least 1", self.hidden)
        layers = len(self.hidden)
        require(layers <= MOST_LAYERS, "network.hidden", f"a list of at most {MOST_LAYERS} layers", f"of {layers}")
        require_positive("network.init_scale", self.init_scale)


@dataclass(slots=True, kw_only=True)
class AgentConfig:
    """Base of what acts on a data set: nobody, or an agent."""

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
    likelihood_sigma: float

    def __post_init__(self) -> None:
        for key in ("steps", "buffer_size", "updates"):
            require_count(f"agent.{key}", getattr(self, key))
        require(0 <= self.epsilon <= 1, "agent.epsilon", "from 0 to 1", self.epsilon)
        require_deviation("agent.likelihood_sigma", self.likelihood_sigma)


@dataclass(slots=True, kw_only=True)
class MethodConfig:
    """Base of the methods."""

    name: str


@dataclass(slots=True, kw_only=True)
class BayesByBackpropConfig(MethodConfig):
    train_samples: int
    test_samples: int
    final_samples: int | None
    estimator: Estimator
    minibatch_weights: MinibatchWeights
    temperature: float
    rho_init: list[float]

    def __post_init__(self) -> None:
        require_count("method.train_samples", self.train_samples, most=MOST_DRAWS)
        require_count("method.test_samples", self.test_samples, most=MOST_DRAWS)
        if self.final_samples is not None:
            require_count("method.final_samples", self.final_samples, most=MOST_DRAWS)
        require_positive("method.temperature", self.temperature)
        require(
            len(self.rho_init) == 2 and -50 <= self.rho_init[0] <= self.rho_init[-1] <= 50,
            "method.rho_init",
            "[lowest, highest] with -50 <= lowest <= highest <= 50",
            self.rho_init,
        )


@dataclass(slots=True, kw_only=True)
class DropoutConfig(MethodConfig):
    input_rate: float
    hidden_rate: float

    def __post_init__(self) -> None:
        for key, rate in (("input_rate", self.input_rate), ("hidden_rate", self.hidden_rate)):
            require(0 <= rate < 1, f"method.{key}", "at least 0 and below 1", rate)


@dataclass(slots=True, kw_only=True)
class MaximumLikelihoodConfig(MethodConfig):
    pass


@dataclass(slots=True, kw_only=True)
class PriorConfig:
    """Base of the priors."""

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
class NoPriorConfig(PriorConfig):
    pass


@dataclass(slots=True, kw_only=True)
class OptimizerConfig:
    """Base of the optimizers: `lr` is on the summed minibatch likelihood, decayed by `schedule`."""

    name: str
    lr: float
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
