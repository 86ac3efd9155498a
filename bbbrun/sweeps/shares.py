"""How jobs that run side by side share the cores of a machine: none idle, none wanted twice."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher


def threads_each(cores: int, jobs: int, most: int | None = None) -> list[int]:
    """The threads of each of `jobs` jobs, of which at most `most` run at once, by default as many as there are cores.

    All cores are used where there are enough jobs; with fewer jobs the first get what remains.
    """
    at_once = min(jobs, most or cores)
    threads, more = divmod(cores, at_once)
    # Later jobs begin where any of the first has ended, so that none may count on more.
    return [max(1, threads + (number < more if jobs == at_once else 0)) for number in range(jobs)]


def shared(launcher: Launcher, jobs: Sequence[Sequence[str]]) -> list[list[str]]:
    """The settings that give each job its share of what its launcher runs on; sets how many run at once, too.

    joblib: n_jobs where the user left it at -1, and threads where no setting names them. Slurm: the threads are the
    processors that a job asks for, and the other way round. Others: none.
    """
    about: Any = launcher
    kind = type(launcher).__name__
    named = [setting(words, "threads") for words in jobs]
    if kind == "JoblibLauncher":
        wanted = max([int(number) for number in named if number and number.isdigit()], default=1)
        if about.joblib.get("n_jobs", -1) == -1:
            most = min(jobs_at_once(setting(words, "device") or "auto") for words in jobs)
            about.joblib["n_jobs"] = min(len(jobs), max(1, most // wanted))
        shares = threads_each(cores(), len(jobs), min(about.joblib["n_jobs"], len(jobs)))
        return [[] if name else [f"threads={share}"] for name, share in zip(named, shares, strict=True)]
    if kind == "SlurmLauncher":
        if about.params.get("cpus_per_task") is None:
            about.params["cpus_per_task"] = max([int(number) for number in named if number and number.isdigit()] + [1])
        return [[] if name else [f"threads={about.params['cpus_per_task']}"] for name in named]
    return [[] for _ in jobs]


def setting(words: Sequence[str], key: str) -> str | None:
    """The last value that these settings give `key`."""
    values = [value for word in words for name, _, value in [word.partition("=")] if name.lstrip("+") == key]
    return values[-1] if values else None


def cores() -> int:
    """The cores that this process may use, of which a container or a scheduler may give it fewer than there are."""
    from joblib import cpu_count  # which scikit-learn has with it

    return int(cpu_count())


def jobs_at_once(device: str) -> int:
    """How many jobs are best run at once: one a core, or one where a GPU is used, which replicas in the job fill.

    Asked without loading torch.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    return 1 if device != "cpu" and not hidden and Path("/dev/nvidia0").exists() else cores()
