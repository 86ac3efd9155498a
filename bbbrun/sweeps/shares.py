"""How parallel jobs share the cores of a machine, so that no core is idle or used twice."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher


def threads_each(cores: int, jobs: int, limit: int | None = None) -> list[int]:
    """The threads of each of `jobs` jobs, of which at most `limit` run at once, by default one per core.

    All cores are used: with fewer jobs than cores the first jobs get the remaining ones.
    """
    at_once = min(jobs, limit or cores)
    threads, remainder = divmod(cores, at_once)
    # A later job takes the cores of whichever job ends first, so none can count on a larger share.
    return [max(1, threads + (number < remainder if jobs == at_once else 0)) for number in range(jobs)]


def shared(launcher: Launcher, jobs: Sequence[Sequence[str]]) -> list[list[str]]:
    """Additional settings that give each job its share of the cores; also sets the launcher's number of jobs at once.

    joblib: n_jobs where the user left it at -1, and `threads` where no setting gives it. Slurm: `threads` and the
    processors that a job asks for are equal. Other launchers: none.
    """
    options: Any = launcher
    kind = type(launcher).__name__
    threads = [setting(words, "threads") for words in jobs]
    if kind == "JoblibLauncher":
        most_threads = max([int(number) for number in threads if number and number.isdigit()], default=1)
        if options.joblib.get("n_jobs", -1) == -1:
            limit = min(jobs_at_once(setting(words, "device") or "auto") for words in jobs)
            options.joblib["n_jobs"] = min(len(jobs), max(1, limit // most_threads))
        shares = threads_each(cores(), len(jobs), min(options.joblib["n_jobs"], len(jobs)))
        return [[] if name else [f"threads={share}"] for name, share in zip(threads, shares, strict=True)]
    if kind == "SlurmLauncher":
        if options.params.get("cpus_per_task") is None:
            options.params["cpus_per_task"] = max(
                [int(number) for number in threads if number and number.isdigit()] + [1]
            )
        return [[] if name else [f"threads={options.params['cpus_per_task']}"] for name in threads]
    return [[] for _ in jobs]


def setting(words: Sequence[str], key: str) -> str | None:
    """The last value of `key` in these settings; None where they do not set it."""
    values = [value for word in words for name, _, value in [word.partition("=")] if name.lstrip("+") == key]
    return values[-1] if values else None


def cores() -> int:
    """The cores that this process may use; a container or a scheduler may grant fewer than the machine has."""
    from joblib import cpu_count  # a dependency of scikit-learn

    return int(cpu_count())


def jobs_at_once(device: str) -> int:
    """How many jobs to run at once: one per core; one where a GPU is used, which replicas fill. Loads no torch."""
    no_gpu = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    return 1 if device != "cpu" and not no_gpu and Path("/dev/nvidia0").exists() else cores()
