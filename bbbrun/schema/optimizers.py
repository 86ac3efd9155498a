"""The options of `optimizer`: keys, types and ranges."""

from enum import StrEnum
from typing import Any

from bbbrun.schema.checks import require, require_count, require_positive
from bbbrun.schema.structured import structured

Schedule = StrEnum("Schedule", ["constant", "step", "inverse", "cosine"])


@structured
class OptimizerConfig:
    """Base of the optimizers: the learning rate and its schedule."""

    name: str
    lr: float  # on the summed likelihood of a minibatch
    schedule: Schedule
    decay_epochs: int
    decay_factor: float

    def __post_init__(self) -> None:
        require_positive("optimizer.lr", self.lr)
        require_count("optimizer.decay_epochs", self.decay_epochs)
        require(0 < self.decay_factor <= 1, "optimizer.decay_factor", "above 0 and at most 1", self.decay_factor)


@structured
class SgdConfig(OptimizerConfig):
    """Stochastic gradient descent with momentum."""

    momentum: float

    def __post_init__(self) -> None:
        OptimizerConfig.__post_init__(self)
        require(0 <= self.momentum < 1, "optimizer.momentum", "at least 0 and below 1", self.momentum)


@structured
class AdamConfig(OptimizerConfig):
    """Adam (Kingma and Ba, 2015); beta1, beta2: decay of the moments."""

    beta1: float
    beta2: float
    epsilon: float

    def __post_init__(self) -> None:
        OptimizerConfig.__post_init__(self)
        for key, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            require(0 <= beta < 1, f"optimizer.{key}", "at least 0 and below 1", beta)
        require_positive("optimizer.epsilon", self.epsilon)


# option -> dataclass
OPTIMIZERS: dict[str, type[Any]] = {"sgd": SgdConfig, "adam": AdamConfig}
