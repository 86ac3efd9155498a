"""The typed configuration: what keys there are, their types and ranges. YAML in configs/ holds every value.

Imports nothing heavy: a wrong key is found before torch is loaded or data is read.
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore

from bbbrun.errors import UserError


class Device(Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class MinibatchWeights(Enum):
    uniform = "uniform"
    paper = "paper"


class Schedule(Enum):
    constant = "constant"
    step = "step"
    cosine = "cosine"


class Init(Enum):
    he = "he"
    uniform = "uniform"


def _require(holds: bool, key: str, expected: str, value: object) -> None:
    if not holds:
        raise UserError(f"{key} must be {expected}, not {value}")


def _require_positive(key: str, value: float) -> None:
    _require(0 < value < math.inf, key, "a positive finite number", value)


def _require_count(key: str, value: int, least: int = 1) -> None:
    _require(value >= least, key, f"a whole number of at least {least}", value)


@dataclass(slots=True, kw_only=True)
class DatasetConfig:
    """Base of the data sets."""

    name: str


@dataclass(slots=True, kw_only=True)
class ImageDatasetConfig(DatasetConfig):
    """Images of K classes, pixels divided by `pixel_divisor`, `valid_size` of the training images held out."""

    valid_size: int
    pixel_divisor: float

    def __post_init__(self) -> None:
        _require_count("dataset.valid_size", self.valid_size, least=0)
        _require_positive("dataset.pixel_divisor", self.pixel_divisor)


@dataclass(slots=True, kw_only=True)
class MnistConfig(ImageDatasetConfig):
    root: str | None


@dataclass(slots=True, kw_only=True)
class DigitsConfig(ImageDatasetConfig):
    pass


@dataclass(slots=True, kw_only=True)
class NetworkConfig:
    hidden: list[int]
    init: Init
    init_scale: float

    def __post_init__(self) -> None:
        for units in self.hidden:
            _require(units >= 1, "network.hidden", "a list of whole numbers of at least 1", self.hidden)
        _require_positive("network.init_scale", self.init_scale)


@dataclass(slots=True, kw_only=True)
class MethodConfig:
    """Base of the methods."""

    name: str


@dataclass(slots=True, kw_only=True)
class BayesByBackpropConfig(MethodConfig):
    train_samples: int
    test_samples: int
    minibatch_weights: MinibatchWeights
    temperature: float
    rho_init: list[float]

    def __post_init__(self) -> None:
        _require_count("method.train_samples", self.train_samples)
        _require_count("method.test_samples", self.test_samples)
        _require_positive("method.temperature", self.temperature)
        _require(
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
            _require(0 <= rate < 1, f"method.{key}", "at least 0 and below 1", rate)


@dataclass(slots=True, kw_only=True)
class SgdMethodConfig(MethodConfig):
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
        _require(0 < self.pi < 1, "prior.pi", "above 0 and below 1", self.pi)
        _require_positive("prior.sigma1", self.sigma1)
        _require_positive("prior.sigma2", self.sigma2)
        _require(self.sigma1 > self.sigma2, "prior.sigma1", f"above prior.sigma2 = {self.sigma2}", self.sigma1)


@dataclass(slots=True, kw_only=True)
class GaussianPriorConfig(PriorConfig):
    sigma: float

    def __post_init__(self) -> None:
        _require_positive("prior.sigma", self.sigma)


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
        _require_positive("optimizer.lr", self.lr)
        _require_count("optimizer.decay_epochs", self.decay_epochs)
        _require(0 < self.decay_factor <= 1, "optimizer.decay_factor", "above 0 and at most 1", self.decay_factor)


@dataclass(slots=True, kw_only=True)
class SgdConfig(OptimizerConfig):
    momentum: float

    def __post_init__(self) -> None:
        OptimizerConfig.__post_init__(self)
        _require(0 <= self.momentum < 1, "optimizer.momentum", "at least 0 and below 1", self.momentum)


@dataclass(slots=True, kw_only=True)
class AdamConfig(OptimizerConfig):
    beta1: float
    beta2: float
    epsilon: float

    def __post_init__(self) -> None:
        OptimizerConfig.__post_init__(self)
        for key, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            _require(0 <= beta < 1, f"optimizer.{key}", "at least 0 and below 1", beta)
        _require_positive("optimizer.epsilon", self.epsilon)


@dataclass(slots=True, kw_only=True)
class TrainConfig:
    epochs: int
    batch_size: int
    evaluate_every: int
    checkpoint_seconds: float

    def __post_init__(self) -> None:
        _require_count("train.epochs", self.epochs)
        _require_count("train.batch_size", self.batch_size)
        _require_count("train.evaluate_every", self.evaluate_every)
        _require(
            0 <= self.checkpoint_seconds < math.inf,
            "train.checkpoint_seconds",
            "0 or more",
            self.checkpoint_seconds,
        )


@dataclass(slots=True, kw_only=True)
class Config:
    """The whole configuration of a run."""

    name: str
    seed: int
    device: Device
    threads: int | None
    compile: str
    resume: str | None
    dataset: DatasetConfig
    network: NetworkConfig
    method: MethodConfig
    prior: PriorConfig
    optimizer: OptimizerConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        plain = self.name not in (".", "..") and not set(self.name) & set('/\\:*?"<>|')
        _require(bool(self.name) and plain, "name", "a plain folder name", repr(self.name))
        _require(0 <= self.seed < 2**31, "seed", "from 0 to 2147483647", self.seed)
        if self.threads is not None:
            _require_count("threads", self.threads)
        self.compile = self.compile.lower()
        _require(self.compile in ("auto", "true", "false"), "compile", "auto, true or false", self.compile)
        needs_prior = isinstance(self.method, BayesByBackpropConfig)
        if needs_prior and isinstance(self.prior, NoPriorConfig):
            raise UserError(f"prior must be scale_mixture or gaussian with method={self.method.name}, not none")
        if not needs_prior and not isinstance(self.prior, NoPriorConfig):
            raise UserError(
                f"prior={self.prior.name} has no effect with method={self.method.name}: leave it out or say prior=none"
            )


# group -> option -> dataclass: each option's YAML composes its dataclass from here and fills in the values.
OPTIONS: dict[str, dict[str, type[Any]]] = {
    "dataset": {"mnist": MnistConfig, "digits": DigitsConfig},
    "network": {"mlp": NetworkConfig},
    "method": {"bbb": BayesByBackpropConfig, "sgd": SgdMethodConfig, "dropout": DropoutConfig},
    "prior": {"scale_mixture": ScaleMixtureConfig, "gaussian": GaussianPriorConfig, "none": NoPriorConfig},
    "optimizer": {"sgd": SgdConfig, "adam": AdamConfig},
}


def register() -> None:
    """Put the dataclasses where Hydra finds them, under the group `schema`."""
    store = ConfigStore.instance()
    store.store(group="schema", name="config", node=Config, package="_global_")
    for group, options in OPTIONS.items():
        for name, node in options.items():
            store.store(group=f"schema/{group}", name=name, node=node)
