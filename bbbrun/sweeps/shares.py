"""How parallel jobs share the cores of a machine, so that no core is idle or used twice."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

_JOBLIB, _SLURM = "JoblibLauncher", "SlurmLauncher"  # classes of packages that need not be installed


def threads_each(cores: int, jobs: int, limit: int | None = None) -> list[int]:
    """The threads of each of `jobs` jobs, of which at most `limit` run at once, by default one per core.

    All cores are used: with fewer jobs than cores the first jobs get the remaining ones.
    """
    at_once = min(jobs, limit or cores)
    threads, remainder = divmod(cores, at_once)
    # A later job takes the cores of whichever job ends first, so none can count on a larger share.
    return [max(1, threads + (number < remainder if jobs == at_once else 0)) for number in range(jobs)]


def shares_cores(launcher: Launcher) -> bool:
    """Whether the jobs of this launcher share cores, so that `shared` gives them settings."""
    return type(launcher).__name__ in (_JOBLIB, _SLURM)


def shared(launcher: Launcher, configs: Sequence[DictConfig]) -> list[list[str]]:
    """Additional settings that give each job its share of the cores; also sets the launcher's number of jobs at once.

    launcher: one that `shares_cores`. configs: the configuration of each job, of which `threads` and `device` matter.
    joblib: n_jobs where the user left it at -1, and `threads` where it is null. Slurm: `threads`, where it is null,
    equals the processors that a job asks for.
    """
    options: Any = launcher
    threads = [config.threads for config in configs]
    most_threads = max([number for number in threads if number], default=1)
    if type(launcher).__name__ == _JOBLIB:
        if options.joblib.get("n_jobs", -1) == -1:
            limit = min(jobs_at_once(config.device) for config in configs)
            options.joblib["n_jobs"] = min(len(configs), max(1, limit // most_threads))
        shares = threads_each(cores(), len(configs), min(options.joblib["n_jobs"], len(configs)))
        return [[f"threads={share}"] if number is None else [] for number, share in zip(threads, shares, strict=True)]
    if options.params.get("cpus_per_task") is None:
        options.params["cpus_per_task"] = most_threads
    return [[f"threads={options.params['cpus_per_task']}"] if number is None else [] for number in threads]


def cores() -> int:
    """The cores that this process may use; a container or a scheduler may grant fewer than the machine has."""
    from joblib import cpu_count  # a dependency of scikit-learn

    return int(cpu_count())


def jobs_at_once(device: str) -> int:
    """How many jobs to run at once: one per core; one where a GPU is used, which replicas fill. Loads no torch."""
    no_gpu = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    return 1 if device != "cpu" and not no_gpu and Path("/dev/nvidia0").exists() else cores()
