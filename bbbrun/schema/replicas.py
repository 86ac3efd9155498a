"""Replicas: runs that differ in one number and are trained at once, in one batched graph."""

from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bbbrun.errors import UserError
from bbbrun.schema.checks import require, require_count

# Keys from which a training starts, or that its step reads as tensors; any other key would change the graph. Also the
# numbers of every prior. The splits of a UCI set are data of one shape.
REPLICABLE = (
    "seed",
    "network.init_scale",
    "method.temperature",
    "optimizer.lr",
    "optimizer.decay_factor",
    "dataset.split",
)

_MOST = 1000  # each has a folder, open files and a configuration of its own


class Replica(NamedTuple):
    """One of the runs: its folder below the command's, its override, and its configuration if it were run alone.

    Both are empty where a run is the only one. The folder (`seed-3`) has no `=`, which would end a key in `resume=`.
    """

    folder: str
    override: str
    composed: DictConfig


def require_replicas(replicas: Any) -> None:
    """Raise UserError unless `replicas` is a number of seeds, or {key: [values]} of one key of REPLICABLE."""
    if isinstance(replicas, dict):
        form = "{key: [values]} of one key"
        require(len(replicas) == 1, "replicas", form, replicas)
        [(key, values)] = replicas.items()
        replicable = key in REPLICABLE or str(key).startswith("prior.")
        keys = f"{', '.join(REPLICABLE)}, or of a prior's numbers"
        require(replicable, "replicas", f"{form} of {keys} (sweep others with -m)", repr(key))
        numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
        distinct = numbers and len(values) == len(set(values)) > 0
        require(distinct, "replicas", f"{{{key}: [values]}}, the values numbers that differ", values)
    else:
        require(type(replicas) is int, "replicas", "how many seeds, or {key: [values]}", repr(replicas))
        require_count("replicas", replicas, most=_MOST)


def replicas_of(composed: DictConfig, replicas: Any) -> list[Replica]:
    """The runs of a composed configuration and its valid `replicas`, in the order of their values.

    replicas=R: the seeds seed, seed + 1, ...; {key: [values]}: the values of that key, all of one seed.
    Raises UserError where the configuration has no such key, or where a value is out of its range.
    """
    if replicas == 1:
        return [Replica("", "", composed)]
    if isinstance(replicas, int):
        replicas = {"seed": range(composed.seed, composed.seed + replicas)}
    [(key, values)] = replicas.items()
    runs = []
    for value in values:
        alone = composed.copy()
        alone.replicas = 1
        try:
            OmegaConf.update(alone, key, value, merge=False)
        except OmegaConfBaseException as error:
            raise UserError(f"replicas: {key}={value} does not fit this configuration") from error
        runs.append(Replica(f"{key}-{value}", f"{key}={value}", alone))
    return runs
