"""Replicas: runs that differ in a few settings and are trained at once, in one batched graph."""

import math
from enum import Enum
from itertools import product
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
    "method.minibatch_weights",
    "optimizer.lr",
    "optimizer.decay_factor",
    "dataset.split",
)

_LONGEST = 255  # bytes of a file's name
_MOST = 1000  # each has a folder, open files and a configuration of its own


class Replica(NamedTuple):
    """One of the runs: its folder below the command's, its overrides, and its configuration if it were run alone.

    folder and overrides are empty where a run is the only one. The folder (`seed-3_optimizer.lr-0.1`) has no `=`
    and no comma, which would end a key and a value in `resume=`.
    """

    folder: str
    overrides: list[str]
    composed: DictConfig


def require_replicas(replicas: Any) -> None:
    """Raise UserError unless `replicas` is a number of seeds, or {key: [values], ...} of keys of REPLICABLE."""
    if isinstance(replicas, dict):
        form = "{key: [values], ...}"
        keys = f"{', '.join(REPLICABLE)}, or a prior's numbers"
        require(len(replicas) > 0, "replicas", form, replicas)
        for key, values in replicas.items():
            replicable = key in REPLICABLE or (str(key).startswith("prior.") and key != "prior.name")
            require(replicable, "replicas", f"{form}, the keys of {keys} (sweep others with -m)", repr(key))
            plain = isinstance(values, list) and all(type(value) in (int, float, str) for value in values)
            distinct = plain and len(values) == len(set(values)) > 0
            require(distinct, "replicas", f"{{{key}: [values]}}, the values numbers or words that differ", values)
        count = math.prod(map(len, replicas.values()))
        require(count <= _MOST, "replicas", f"at most {_MOST} combinations of values", count)
    else:
        require(type(replicas) is int, "replicas", "how many seeds, or {key: [values]}", repr(replicas))
        require_count("replicas", replicas, most=_MOST)


def replicas_of(composed: DictConfig, replicas: Any) -> list[Replica]:
    """The runs of a composed configuration and its valid `replicas`, in the order of their values.

    replicas=R: the seeds seed, seed + 1, ...; {key: [values], ...}: each combination of the keys' values.
    Raises UserError where the configuration has no such key, or where a value is out of its range.
    """
    if replicas == 1:
        return [Replica("", [], composed)]
    if isinstance(replicas, int):
        replicas = {"seed": range(composed.seed, composed.seed + replicas)}
    runs: list[Replica] = []
    for values in product(*replicas.values()):
        alone = composed.copy()
        alone.replicas = 1
        own: dict[str, Any] = {}
        for key, value in zip(replicas, values, strict=True):
            try:
                OmegaConf.update(alone, key, value, merge=False)
            except OmegaConfBaseException as error:
                raise UserError(f"replicas: {key}={value} does not fit this configuration") from error
            # As its type reads it: the words '0.01' and '1e-2' are one number.
            typed = OmegaConf.select(alone, key)
            own[key] = typed.name if isinstance(typed, Enum) else typed
        folder = "_".join(f"{key}-{value}" for key, value in own.items())
        require(len(folder) <= _LONGEST, "replicas", f"folder names of at most {_LONGEST} characters", repr(folder))
        require(all(folder != run.folder for run in runs), "replicas", "values that differ", f"{folder} twice")
        runs.append(Replica(folder, [f"{key}={value}" for key, value in own.items()], alone))
    return runs
