"""The whole configuration of a run, typed and checked, and how Hydra finds it.

Imports nothing heavy: a wrong key is found before torch is loaded or data is read.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache, cached_property
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bbbrun.errors import UserError
from bbbrun.schema.checks import MOST_ROWS, MOST_STEPS, require, require_count
from bbbrun.schema.datasets import AGENTS, DATASETS, AgentConfig, DatasetConfig
from bbbrun.schema.messages import one_line, unknown_key
from bbbrun.schema.methods import METHODS, NETWORKS, PRIORS, MethodConfig, NetworkConfig, Precision, PriorConfig
from bbbrun.schema.optimizers import OPTIMIZERS, OptimizerConfig
from bbbrun.schema.replicas import require_replicas
from bbbrun.schema.structured import structured
from bbbrun.schema.tables import TABLES

# Metrics by which settings may be chosen, none of the test set: the first that a run has unless `objective` names one.
OBJECTIVES = ("valid_error", "valid_nll", "valid_error_mean", "cumulative_regret", "cumulative_expected_regret")
_NONE = "none"  # the option of a group that stands for having no such part


@structured
class TrainConfig:
    """How long training runs, and how often it reports and saves; `epochs` is null with a bandit."""

    epochs: int | None
    batch_size: int
    evaluate_every: int
    checkpoint_seconds: float

    def __post_init__(self) -> None:
        if self.epochs is not None:
            require_count("train.epochs", self.epochs)
        require_count("train.batch_size", self.batch_size)
        require_count("train.evaluate_every", self.evaluate_every)
        require(
            0 <= self.checkpoint_seconds < math.inf,
            "train.checkpoint_seconds",
            "0 or more",
            self.checkpoint_seconds,
        )


def require_device(device: str) -> None:
    """Raise UserError unless `device` is the name of a device, on this machine or another."""
    valid = re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", device) is not None
    require(valid, "device", "auto, cpu, cuda, or cuda:N with the number of a GPU", repr(device))


def require_name(name: str) -> None:
    """Raise UserError unless `name` can be the folder of a run, as the user wrote it.

    Hydra reads 1e5 as a number before this check, and writes it as 100000.0.
    """
    plain = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) is not None
    require(plain, "name", "a plain folder name: letters, digits, '.', '_' and '-'", repr(name))
    changed = re.fullmatch(r"-?[0-9.]+(e[+-]?[0-9]+)?|nan|inf|True|False", name) is not None and not name.isdigit()
    require(not changed, "name", "a word that Hydra reads as it is written (1e5 becomes 100000.0)", name)


@structured
class Config:
    """The whole configuration of a run."""

    name: str
    seed: int
    replicas: Any
    device: str
    threads: int | None
    compile: str
    precision: Precision
    resume: str | None
    objective: str | None
    dataset: DatasetConfig
    network: NetworkConfig
    method: MethodConfig
    prior: PriorConfig
    optimizer: OptimizerConfig
    agent: AgentConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        require_name(self.name)
        require(0 <= self.seed < 2**31, "seed", "from 0 to 2147483647", self.seed)
        require_replicas(self.replicas)
        if self.threads is not None:
            require(1 <= self.threads <= 4096, "threads", "a whole number from 1 to 4096", self.threads)
        require_device(self.device)
        self.compile = self.compile.lower()
        require(self.compile in ("auto", "true", "false"), "compile", "auto, true or false", self.compile)
        for group, options in OPTIONS.items():
            part = getattr(self, group)
            matches = options.get(part.name) is type(part)
            require(matches, f"{group}.name", f"that of the option chosen by {group}=...", part.name)
        require(self.resume != "", "resume", "the folder of an interrupted run, or null", "an empty word")
        known = self.objective is None or self.objective in OBJECTIVES
        require(known, "objective", f"a metric of validation: {', '.join(OBJECTIVES)}, or null", self.objective)
        require(getattr(self.dataset, "root", None) != "", "dataset.root", "a folder, or null", "an empty word")
        self._check_agent()
        self._check_prior()
        self._check_deterministic()

    def _check_agent(self) -> None:
        """A bandit has an agent and no epochs; any other data set has epochs and no agent."""
        acts = self.agent.name != _NONE
        if self.dataset.bandit != acts:
            agents = [name for name in OPTIONS["agent"] if (name != _NONE) == self.dataset.bandit]
            raise UserError(f"agent must be {agents[0]} with dataset={self.dataset.name}, not {self.agent.name}")
        if not acts:
            require(self.train.epochs is not None, "train.epochs", "a whole number of at least 1", "null")
            return
        require(
            self.train.epochs is None, "train.epochs", "null where agent.steps says how long to run", self.train.epochs
        )
        require(
            self.replicas == 1, "replicas", "1 where an agent acts (its seeds are runs of their own)", self.replicas
        )
        steps, updates = getattr(self.agent, "steps", 1), getattr(self.agent, "updates", 1)
        most = MOST_STEPS // steps
        require(updates <= most, "agent.updates", f"at most {most} with agent.steps={steps}", updates)
        places = MOST_ROWS // updates
        require_count("train.batch_size", self.train.batch_size, most=max(places, 1), size=8 * updates)
        draws = getattr(self.method, "final_samples", None)
        require(draws is None, "method.final_samples", "null where an agent acts", draws)

    def _check_deterministic(self) -> None:
        if getattr(self.network, "deterministic", []) and not self.method.uses_prior:
            raise UserError(f"network.deterministic has no effect with method={self.method.name}: leave it out")

    def _check_prior(self) -> None:
        """A method that uses a prior has one; any other method has none."""
        method, prior = self.method.name, self.prior.name
        if self.method.uses_prior and prior == _NONE:
            choices = [name for name in OPTIONS["prior"] if name != _NONE]
            raise UserError(f"prior must be {' or '.join(choices)} with method={method}, not none")
        if not self.method.uses_prior and prior != _NONE:
            raise UserError(f"prior={prior} has no effect with method={method}: leave it out or say prior=none")


# group -> option -> dataclass: each option's YAML composes its dataclass from here and fills in the values.
OPTIONS: dict[str, dict[str, type[Any]]] = {
    "dataset": DATASETS | TABLES,
    "network": NETWORKS,
    "method": METHODS,
    "prior": PRIORS,
    "optimizer": OPTIMIZERS,
    "agent": AGENTS,
}


class _Node(ConfigNode):
    """A dataclass in Hydra's store, as a node only where Hydra loads it: one option of each group, not all."""

    def __init__(self, kind: type[Any], package: str | None = None) -> None:
        self.kind, self.package, self.provider = kind, package, None

    @cached_property
    def node(self) -> Any:  # type: ignore[override]
        return OmegaConf.structured(self.kind)


@cache
def register() -> None:
    """Put the dataclasses where Hydra finds them, under the group `schema`; once in a process."""
    nodes = {
        group: {f"{name}.yaml": _Node(kind) for name, kind in options.items()} for group, options in OPTIONS.items()
    }
    ConfigStore.instance().repo["schema"] = {"config.yaml": _Node(Config, package="_global_"), **nodes}


def option(group: str, values: dict[str, Any]) -> Any:
    """The option of `group` that a record holds as plain values, typed and checked.

    Raises UserError where this version has no such option, or not with these keys and values.
    """
    kind = OPTIONS[group].get(str(values.get("name")))
    if kind is None:
        raise UserError(f"{group}={values.get('name')} is not among {', '.join(OPTIONS[group])}")
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), _escaped(values)))
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{group}={values.get('name')} of another version of bbbrun: {reason}") from None


def _escaped(node: Any) -> Any:
    """Nested values whose texts OmegaConf reads as they stand: a record may be anybody's, and nothing is looked up."""
    if isinstance(node, dict):
        return {name: _escaped(part) for name, part in node.items()}
    if isinstance(node, list):
        return [_escaped(part) for part in node]
    return re.sub(r"(\\*)\$\{", lambda found: f"{found[1] * 2}\\${{", node) if isinstance(node, str) else node


def require_ours(config: DictConfig) -> None:
    """Raise UserError where a primary configuration of the user's own leaves out bbbrun's."""
    if OmegaConf.get_type(config) is not Config:
        raise UserError(
            "the primary configuration is not bbbrun's: its defaults must begin with config, and end with _self_"
        )


def validated(config: DictConfig) -> Config:
    """A composed configuration, typed and checked; raises UserError naming the key and the allowed values."""
    require_ours(config)
    _refuse_added_keys(config)
    try:
        checked: Any = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    assert isinstance(checked, Config)
    return checked


def _refuse_added_keys(node: DictConfig, prefix: str = "") -> None:
    """Raise UserError for a key added with + that its dataclass does not have."""
    schema: Any = OmegaConf.get_type(node)
    for key, value in node.items_ex(resolve=False):
        if is_dataclass(schema) and key not in {field.name for field in fields(schema)}:
            raise UserError(unknown_key(prefix + str(key), schema))
        if isinstance(value, DictConfig):
            _refuse_added_keys(value, f"{prefix}{key!s}.")


def composed(words: Sequence[str]) -> DictConfig:
    """The configuration that the command line `bbbrun WORDS` composes, unchecked, for commands that run nothing."""
    register()
    with initialize_config_module("bbbrun.configs", version_base="1.3"):
        return compose("config", overrides=list(words))


def plain(config: DictConfig) -> dict[str, Any]:
    """A composed or recorded configuration as nested dictionaries, its interpolations resolved."""
    tree: Any = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    return dict(tree)
