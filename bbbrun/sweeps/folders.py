"""The folders of new runs and sweeps, by the resolvers that configs/config.yaml names."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from bbbrun.runs.files import RUNS, numbered
from bbbrun.runs.sweep import is_sweep


def new_folder(name: str) -> Path:
    """results/runs/<name>/<date>_<time>_<microseconds>, absolute, since jobs may run on another machine."""
    return Path.cwd() / RUNS / name / f"{datetime.now():%Y-%m-%d_%H%M%S_%f}"


def remove_unbegun(sweep: Path) -> None:
    """Delete the folder of a sweep that was refused: Hydra writes a file before it composes the jobs."""
    if not is_sweep(sweep):
        (sweep / "multirun.yaml").unlink(missing_ok=True)
        remove_if_empty(sweep)


def remove_if_empty(folder: Path) -> None:
    """Delete the folder that Hydra made for a run or a sweep that was then refused, and its empty parents."""
    runs = Path.cwd() / RUNS
    for each in (folder, *folder.parents):
        inside = each in (folder, runs.parent) or each.is_relative_to(runs)
        if not inside or each == Path.cwd() or not each.is_dir() or any(each.iterdir()):
            return
        each.rmdir()


def register_folders(sweep: Path | None) -> None:
    """Register the resolvers of configs/config.yaml, also for other processes. sweep: the folder of a new sweep.

    A resumed run keeps its folder; Hydra's output folder is then the current one, in which it writes nothing.
    """
    resolvers: dict[str, Callable[..., str]] = {
        "run_folder": lambda resume, name: str(Path.cwd() if resume else new_folder(name)),
        "sweep_folder": lambda: str(sweep or Path.cwd() / RUNS),
        "job_folder": lambda number: numbered(int(number)),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(f"bbbrun.{name}", resolver, use_cache=True, replace=True)
