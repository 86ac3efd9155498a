"""Replicas: runs that differ in one number and are trained at once, in one batched graph."""

from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bbbrun.checks import require, require_count
from bbbrun.errors import UserError

# What reaches a training step as a tensor; anything else would be another graph.
REPLICABLE = (
    "seed",
    "network.init_scale",
    "method.temperature",
    "prior.pi",
    "prior.sigma1",
    "prior.sigma2",
    "prior.sigma",
    "optimizer.lr",
    "optimizer.decay_factor",
)


class Replica(NamedTuple):
    """One of the runs: its word (`seed=3`), which also names its folder, and the configuration it would have alone.

    The word is empty where a run is the only one.
    """

    word: str
    composed: DictConfig


def require_replicas(replicas: Any) -> None:
    """Raise UserError unless `replicas` is how many seeds, or {key: [values]} of one key of REPLICABLE."""
    if isinstance(replicas, dict):
        wanted = "{key: [values]} of one key"
        require(len(replicas) == 1, "replicas", wanted, replicas)
        [(key, values)] = replicas.items()
        require(key in REPLICABLE, "replicas", f"{wanted} of {', '.join(REPLICABLE)} (sweep others with -m)", repr(key))
        numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
        distinct = numbers and len(values) == len(set(values)) > 0
        require(distinct, "replicas", f"{{{key}: [values]}}, the values numbers that differ", values)
    else:
        require(type(replicas) is int, "replicas", "how many seeds, or {key: [values]}", repr(replicas))
        require_count("replicas", replicas)


def replicas_of(composed: DictConfig) -> list[Replica]:
    """The runs that a composed configuration asks for, in the order of their values.

    replicas=R: the seeds seed, seed + 1, ...; {key: [values]}: the values of that key, all of one seed.
    Raises UserError where the configuration has no such key, or not for such values.
    """
    asked: Any = OmegaConf.to_container(OmegaConf.create({"replicas": composed.replicas}))
    replicas = asked["replicas"]
    if replicas == 1:
        return [Replica("", composed)]
    key, values = "seed", list(range(composed.seed, composed.seed + replicas)) if isinstance(replicas, int) else []
    if isinstance(replicas, dict):
        [(key, values)] = replicas.items()
    runs = []
    for value in values:
        alone = composed.copy()
        alone.replicas = 1
        try:
            OmegaConf.update(alone, key, value, merge=False)
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"replicas: {key}={value} does not fit this configuration: {reason}") from error
        runs.append(Replica(f"{key}={value}", alone))
    return runs
